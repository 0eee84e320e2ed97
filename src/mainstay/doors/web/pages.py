"""The few pages that need no template engine: the front page, errors, and what `go get` reads."""

import html
import json
from http import HTTPStatus

_STYLE = """
:root{color-scheme:light dark}
body{font:1rem/1.6 system-ui,sans-serif;max-width:42rem;margin:10vh auto 4rem;padding:0 1.25rem}
h1{font-size:1.6rem;margin:0 0 .25rem}
pre{overflow-x:auto;padding:1rem;border:1px solid #8884;border-radius:.5rem;font-size:.9rem}
small,footer{opacity:.7}
"""

_SENTENCES = {
    404: "There is nothing here, or nothing that you may see.",
    408: "The request came too slowly.",
    413: "The request is too large.",
    502: "The web part of this node is starting again. Try once more in a few seconds.",
    503: "This node is busy or stopping. Try once more in a few seconds.",
    504: "The answer took too long. Try once more in a few seconds.",
}


def page(title: str, content: str, *, head: str = "") -> bytes:
    """A whole page. `title` is text; `content` and `head` are HTML, escaped by the caller."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"{head}<title>{html.escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body>{content}</body></html>\n"
    ).encode()


def front_page(*, version: str, http_url: str, ssh_url: str) -> bytes:
    """Where am I, and how do I push."""
    shown = {"http": html.escape(http_url), "ssh": html.escape(ssh_url)}
    content = (
        "<h1>Mainstay</h1><p>Git that stays up. This node is ready for your pushes.</p>"
        f"<pre>git remote add origin {shown['http']}/YOUR-NAME/PROJECT.git\n"
        "git push -u origin HEAD</pre>"
        "<p>A push to a new path under your own name creates a private project. Over SSH the address is</p>"
        f"<pre>{shown['ssh']}/YOUR-NAME/PROJECT.git</pre>"
        f"<footer><small>Mainstay {html.escape(version)}</small></footer>"
    )
    return page("Mainstay", content)


def go_import_page(*, host: str, path: str, http_url: str) -> bytes:
    """What `go get HOST/PATH` looks for: where the repository of an import path is."""
    root, repository = html.escape(f"{host}/{path}"), html.escape(f"{http_url}/{path}.git")
    meta = f'<meta name="go-import" content="{root} git {repository}">'
    return page("go get", f"<p>go get {root}</p>", head=meta)


def error_page(status: int) -> bytes:
    phrase = HTTPStatus(status).phrase
    sentence = _SENTENCES.get(status, phrase)
    return page(phrase, f"<h1>{status} {html.escape(phrase)}</h1><p>{html.escape(sentence)}</p>")


def error_answer(path: str, accept: bytes, status: int) -> tuple[bytes, str]:
    """Body and content type of an error: a page for browsers, JSON for the API and other programs."""
    if b"text/html" in accept and not path.startswith("/api/"):
        return error_page(status), "text/html; charset=utf-8"
    message = f"{status} {HTTPStatus(status).phrase}"
    return json.dumps({"message": message}).encode(), "application/json"
