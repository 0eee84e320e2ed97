"""Git over HTTP: the smart protocol's three addresses, and nothing else.

`app.GitHttp` translates a request, lets the gate admit it, calls the Git service and streams. The rules are
below: who may (`product`), what a push or fetch is (`repository`). Shapes on the wire:
https://git-scm.com/docs/http-protocol
"""
