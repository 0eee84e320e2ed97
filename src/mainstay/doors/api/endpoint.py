"""The frame of every endpoint: read the parameters, find out who asks, call, answer, translate errors.

A subclass has a method per HTTP verb; `HEAD` comes with `GET`. Its class attributes say who may come:
by default somebody signed in, with a token made for the API.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, cast

from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser, FormParser, JSONParser, MultiPartParser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from mainstay.access.actors import ANONYMOUS, Actor, Kind
from mainstay.doors.api import authentication, errors, pagination
from mainstay.doors.api.kit import Addresses, Kit
from mainstay.doors.api.parameters import Parameters, WrongParameter, merged, nested
from mainstay.doors.api.paths import Reference, reference
from mainstay.foundation.errors import NotFound
from mainstay.product.accounts import identify
from mainstay.product.accounts.lookup import User, actor_of, user_for

BODY_BYTES_MAX = 20 * 1024 * 1024


class _AlwaysJson(BaseContentNegotiation):
    """Whatever `Accept` says: GitLab's clients send the oddest things there and expect JSON."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser | None:
        media_type = (request.content_type or "").partition(";")[0].strip().lower()
        # A body without a type is JSON, as in `curl --data @-` with the header cleared.
        wanted = media_type or "application/json"
        return next((parser for parser in parsers if parser.media_type == wanted), None)

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> Any:  # noqa: ARG002 - the framework's signature
        return renderers[0], renderers[0].media_type


class Endpoint(APIView):
    """One path of the API."""

    authentication_classes = ()
    permission_classes = ()
    throttle_classes = ()
    renderer_classes = (JSONRenderer,)
    parser_classes = (JSONParser, FormParser, MultiPartParser)
    content_negotiation_class = _AlwaysJson

    anonymous_may_read: ClassVar[bool] = False
    """Whether GET works without a token; what is seen then is what is public."""
    accepted_scopes: ClassVar[frozenset[str]] = frozenset()
    """Scopes beside `api` and `read_api` that open reading here."""
    every_scope: ClassVar[bool] = False
    """Whether any valid token will do, whatever it was made for."""

    kit: Kit = None  # type: ignore[assignment]  # given by as_view(kit=…); Django wants the attribute here
    actor: Actor = ANONYMOUS
    parameters: Parameters

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        del args
        _check_size(request)
        self.parameters = _parameters_of(request, kwargs)
        self.actor = self._identified(request)

    def handle_exception(self, exc: Exception) -> Response:
        response = errors.answer_to(exc)
        if response.status_code == 405:  # noqa: PLR2004 - HTTP's own number
            response["Allow"] = ", ".join(self.allowed_methods)
        # A refusal is an answer, not an event; bugs are logged by the table already, once.
        response._has_been_logged = True  # type: ignore[attr-defined]  # noqa: SLF001 - Django's own mark
        return response

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Response:
        # The framework negotiates before it looks at anything else, but not before the body's own errors.
        if not hasattr(request, "accepted_renderer"):
            negotiated = self.perform_content_negotiation(request, force=True)
            request.accepted_renderer, request.accepted_media_type = negotiated
        return super().finalize_response(request, response, *args, **kwargs)

    def _identified(self, request: Request) -> Actor:
        token = authentication.token_in(request.headers, self.parameters)
        if token is None:
            if not (self.anonymous_may_read and request.method in authentication.READING):
                raise errors.NeedsSignIn
            return ANONYMOUS
        actor = self._by_token(request, token)
        if not self.every_scope:
            authentication.check_scopes(actor, request.method or "", accepted=self.accepted_scopes)
        return self._acting(request, actor)

    def _by_token(self, request: Request, token: str) -> Actor:
        try:
            actor = identify.by_token(
                self.kit.database,
                token,
                address=client_address(request),
                clock=self.kit.clock,
                settings=self.kit.accounts,
            )
        except identify.WrongCredentials as error:
            raise errors.BadToken from error
        if actor.kind is not Kind.USER:
            # Deploy tokens fetch and push by Git only.
            raise errors.BadToken
        return actor

    def _acting(self, request: Request, actor: Actor) -> Actor:
        wanted = request.headers.get("Sudo") or self.parameters.maybe_text("sudo")
        if not wanted:
            return actor
        authentication.check_may_sudo(actor)
        try:
            user = find_user(actor, reference(wanted))
        except NotFound as error:
            raise errors.NoSuchThing(f"User with ID or username '{wanted}'") from error
        return authentication.acting_as(actor, actor_of(user))

    # Answers
    def page(
        self, rows: Any, shape: Callable[[Any], Mapping[str, Any]] | None = None, *, total: int | None = None
    ) -> Response:
        """The part of `rows` that was asked for: a query set or a list, shaped row by row."""
        return self.shaped_page(
            rows, lambda part: [shape(row) for row in part] if shape else list(part), total
        )

    def shaped_page(
        self, rows: Any, shape_all: Callable[[Sequence[Any]], list[Any]], total: int | None = None
    ) -> Response:
        """As `page`, where the rows of a page are shaped together, to look up what they share once."""
        page = pagination.page_of(self.parameters)
        count = total if total is not None else _count(rows)
        body = shape_all(list(rows[page.offset : page.end]))
        headers = pagination.page_headers(page, count, url=self.own_url(), query=self.own_query())
        return Response(body, headers=headers)

    def keyset_page(
        self, rows: Any, keyset: pagination.Keyset, shape_all: Callable[[Sequence[Any]], list[Any]]
    ) -> Response:
        """The next rows of a query set in order of id."""
        if keyset.id_after is not None:
            rows = rows.filter(id__gt=keyset.id_after)
        if keyset.id_before is not None:
            rows = rows.filter(id__lt=keyset.id_before)
        part = list(rows.order_by("-id" if keyset.descending else "id")[: keyset.per_page])
        headers = pagination.keyset_headers(
            keyset,
            last_id=part[-1].id if part else None,
            is_full=len(part) == keyset.per_page,
            url=self.own_url(),
            query=self.own_query(),
        )
        return Response(shape_all(part), headers=dict(headers))

    def created(self, body: Mapping[str, Any]) -> Response:
        return Response(body, status=201)

    def no_content(self) -> Response:
        return Response(status=204)

    @property
    def addresses(self) -> Addresses:
        """Where this client reaches us: as set, else as it did just now."""
        return self.kit.addresses.seen_from(
            scheme=self.request.scheme or "http", host=self.request.get_host()
        )

    def own_url(self) -> str:
        return self.addresses.external_url + self.request.path_info

    def own_query(self) -> list[tuple[str, str]]:
        """All parameters of the query but secrets, which have no place in a link."""
        return [
            (name, str(value))
            for name, values in self.request.query_params.lists()
            for value in values
            if name not in ("private_token", "access_token", "job_token")
        ]


@csrf_exempt
def unknown_route(_request: HttpRequest) -> JsonResponse:
    """Any path that no route knows; answered before anybody looks at tokens."""
    response = JsonResponse({"error": "404 Not Found"}, status=404)
    response._has_been_logged = True  # type: ignore[attr-defined]  # noqa: SLF001 - Django's own mark
    return response


def find_user(actor: Actor, wanted: Reference) -> User:
    """A user by id or name, if the actor may know of them."""
    return user_for(actor, wanted.key)


def client_address(request: Any) -> str:
    """Where the client is, as the data plane saw it."""
    return cast("str", request.META.get("REMOTE_ADDR", ""))


def _check_size(request: Request) -> None:
    try:
        length = int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError as error:
        raise WrongParameter("Content-Length does not have a valid value") from error
    if length > BODY_BYTES_MAX:
        raise errors.BodyTooLarge(f"an API request has at most {BODY_BYTES_MAX} bytes")


def _parameters_of(request: Request, path: Mapping[str, Any]) -> Parameters:
    named = {name: str(value) if isinstance(value, Reference) else value for name, value in path.items()}
    query = nested((name, value) for name, values in request.query_params.lists() for value in values)
    return Parameters(merged(path=named, body=_body_of(request), query=query))


def _body_of(request: Request) -> Mapping[str, Any]:
    try:
        body: Any = request.data
    except RecursionError as error:
        raise WrongParameter("the body is nested too deeply") from error
    if hasattr(body, "lists"):
        return nested((name, value) for name, values in body.lists() for value in values)
    if body is None:
        return {}
    if not isinstance(body, dict):
        raise WrongParameter("the body is not a JSON object")
    return body


def _count(rows: Any) -> int:
    return len(rows) if isinstance(rows, list | tuple) else rows.count()
