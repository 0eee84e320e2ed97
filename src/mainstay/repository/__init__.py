"""What one can do with a repository: push, fetch, browse, maintain. Our Git service.

`service.GitService` is the face that the doors see. It waits (async) because it streams; everything below
it is plain functions run in bounded threads. The way of a push is in `push.py`, of a fetch in `fetch.py`.
"""
