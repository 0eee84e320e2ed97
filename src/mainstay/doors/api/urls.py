"""The routes of the API, relative to `/api/v4/`.

The composition root calls `patterns(kit)` once; whatever no route knows is answered here, too, so that
nothing under the prefix ever reaches Django's own pages.
"""

from typing import Any

from django.urls import URLPattern, path, re_path

from mainstay.doors.api import paths  # noqa: F401 - registers the converters used below
from mainstay.doors.api.endpoint import Endpoint, unknown_route
from mainstay.doors.api.endpoints import about, keys, tokens, users
from mainstay.doors.api.kit import Kit

_ROUTES: dict[str, type[Endpoint]] = {
    "version": about.Version,
    "metadata": about.Metadata,
    "user": users.CurrentUser,
    "user/status": users.OwnStatus,
    "user/keys": keys.OwnKeys,
    "user/keys/<number:key>": keys.OwnKey,
    "user/personal_access_tokens": tokens.OwnTokens,
    "users": users.Users,
    "users/<reference:user>": users.OneUser,
    "users/<reference:user>/status": users.Status,
    "users/<reference:user>/block": users.Block,
    "users/<reference:user>/unblock": users.Unblock,
    "users/<reference:user>/keys": keys.UserKeys,
    "users/<reference:user>/keys/<number:key>": keys.UserKey,
    "users/<reference:user>/personal_access_tokens": tokens.UserTokens,
    "keys/<number:key>": keys.AnyKey,
    "personal_access_tokens": tokens.Tokens,
    "personal_access_tokens/self": tokens.OwnToken,
    "personal_access_tokens/self/rotate": tokens.RotateOwnToken,
    "personal_access_tokens/<number:token>": tokens.OneToken,
    "personal_access_tokens/<number:token>/rotate": tokens.RotateToken,
}


def patterns(kit: Kit) -> list[URLPattern]:
    """The routes, each with the dependencies it works with."""
    known: list[Any] = [path(route, endpoint.as_view(kit=kit)) for route, endpoint in _ROUTES.items()]
    return [*known, re_path(r"", unknown_route)]
