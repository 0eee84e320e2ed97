"""The few pages that need no template engine: the front page, errors, and what `go get` reads."""

import html
import json
from hashlib import sha256
from http import HTTPStatus
from importlib.resources import files

STYLE = files("mainstay.doors.web").joinpath("assets", "mainstay.css").read_bytes()
STYLE_PATH = f"/-/assets/mainstay-{sha256(STYLE).hexdigest()[:16]}.css"
"""Named by its content, so that a browser may keep it for ever."""

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
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<link rel="stylesheet" href="{STYLE_PATH}">'
        f"{head}<title>{html.escape(title)}</title></head>"
        f'<body><header><p><a href="/">Mainstay</a></p></header><main>{content}</main></body></html>\n'
    ).encode()


def front_page(*, http_url: str, ssh_url: str, notice: str = "") -> bytes:
    """Where am I, and how do I push. Says no version: that is for people who signed in.

    `notice` is HTML to stand above it.
    """
    path = "<var>YOUR-NAME</var>/<var>PROJECT</var>.git"
    over_http, over_ssh = f"{html.escape(http_url)}/{path}", f"{html.escape(ssh_url)}/{path}"
    lead = "" if notice else '<p class="lead">This node is ready for your pushes.</p>'
    content = (
        f"{notice}<h1>Git that stays up</h1>{lead}"
        "<h2>Push a repository</h2>"
        f"<pre>git remote add origin {over_http}\ngit push -u origin HEAD</pre>"
        "<p>Git asks for your user name and your password; a token does instead of the password. "
        "A push to a new path under your own name creates a private project there.</p>"
        "<h2>Or over SSH</h2>"
        f"<pre>git remote add origin {over_ssh}</pre>"
        "<p>For this the node has to know your public key.</p>"
        "<h2>Get it back</h2>"
        f"<pre>git clone {over_http}</pre>"
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
