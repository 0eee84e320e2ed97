"""What every answer of this door says to a browser about itself: believe the type, run nothing, show us in
no frame, tell nobody where you were.

The API's answers carry it too: somebody may open one in a browser.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the data plane says the same on its own pages, without Django
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse

SAFETY = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def with_safety(
    answer: "Callable[[HttpRequest], HttpResponse]",
) -> "Callable[[HttpRequest], HttpResponse]":
    """Django middleware. What a view has said itself stays."""

    def safely(request: "HttpRequest") -> "HttpResponse":
        response = answer(request)
        for name, value in SAFETY.items():
            response.setdefault(name, value)
        return response

    return safely
