"""One call to one node: a streaming HTTP/1.1 request over TLS, whose two bodies run at the same time.

The name in the address is `<node id>.node.mainstay.internal`, which the certificate of that node must have;
where it is reached is looked up in the node list. So an answer never comes from another machine than the one
that was meant.

Nothing of what the client says is taken before the node has said BEGUN. Until then whatever goes wrong is
`NotServed`, and somebody else may be asked; after it the caller decides by what was taken and given.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from mainstay.cluster.identity import server_name_of
from mainstay.cluster.placement import GitNode
from mainstay.foundation.errors import MainstayError, OutcomeUnknown, Unavailable
from mainstay.foundation.logs import Secret, get_logger
from mainstay.foundation.metrics import counter
from mainstay.repository.remote import faults, frames
from mainstay.repository.remote.calls import address_of
from mainstay.repository.remote.frames import BadFrame, Frame, FrameReader, Kind, data_frames, frame
from mainstay.repository.remote.kept import Kept
from mainstay.repository.remote.strict import BadFields
from mainstay.repository.streams import ByteSink, ByteSource
from mainstay.repository.threads import ended

log = get_logger()

BYTES = counter("rpc_client_bytes_total", "Git data to and from other nodes.", ["direction"])

_READ_BYTES = 1 << 18
_ERROR_BYTES_MAX = 64 * 1024
_OK, _UNAUTHORIZED, _NOT_FOUND, _BUSY = 200, 401, 404, 503


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait for another node."""

    connect_s_max: float = 2.0
    begin_s_max: float = 4.0
    """From the request to BEGUN; a node that is full says so in less."""
    last_begin_s_max: float = 12.0
    """The same where there is nobody else to ask."""
    silence_s_max: float = 20.0
    """A node that works says ALIVE every `alive_s`."""
    alive_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Naming:
    """By which name an answerer is asked, and at which path. By default: nodes of one cluster."""

    server: Callable[[str], str] = server_name_of
    address: Callable[[str], str] = address_of


NODES = Naming()
Aside = Callable[[bytes], Awaitable[None]]


class NotServed(Exception):
    """The node did not do it, or not to the end. `error` is for the caller when nobody else does."""

    def __init__(self, reason: str, error: MainstayError, *, said: bool = False) -> None:
        super().__init__(f"{reason}: {error}")
        self.reason = reason
        self.error = error
        self.said = said
        """The node itself said so: nothing is left open."""


class Wire:
    """Connections to other nodes, kept open between calls. Belongs to one event loop."""

    def __init__(
        self,
        *,
        context: ssl.SSLContext,
        token: Kept[Secret] | None,
        patience: Patience | None = None,
        naming: Naming | None = None,
    ) -> None:
        """Without a `token` the certificate of `context` says who asks."""
        self._token = token
        self._naming = naming or NODES
        self._patience = patience or Patience()
        self._resolver = Directory()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=context, resolver=self._resolver, use_dns_cache=False, limit=0
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=_READ_BYTES,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._patience.connect_s_max),
        )

    async def close(self) -> None:
        await self._session.close()

    async def ask(
        self,
        node: GitNode,
        name: str,
        parameters: bytes,
        *,
        source: ByteSource,
        sink: ByteSink,
        request_id: str,
        is_last: bool,
        aside: Aside | None = None,
    ) -> bytes:
        """Make the call. Returns, when the answer was whole, what stood at its end. Raises `NotServed`, what
        the node said it failed with, and what `source` and `sink` raise. `aside` hears what is for people.
        """
        call = _Call(node, name, parameters, request_id, self._patience)
        begin_s_max = self._patience.last_begin_s_max if is_last else self._patience.begin_s_max
        async with self._opened(call, begin_s_max) as (response, reader):
            return await _Conversation(call, response, reader, self._patience, aside).hold(source, sink)

    @asynccontextmanager
    async def _opened(
        self, call: "_Call", begin_s_max: float
    ) -> AsyncIterator[tuple[aiohttp.ClientResponse, FrameReader]]:
        """The answer, once it has begun. The connection is closed unless both bodies came to their end."""
        response = None
        try:
            try:
                with _understood(call):
                    async with asyncio.timeout(begin_s_max):
                        response = await self._admitted(call)
                        reader = await _begun(response, call)
            except TimeoutError as error:
                raise _not_served("timeout", call, error) from error
            except aiohttp.ClientSSLError as error:
                raise _not_served("untrusted", call, error) from error
            except (aiohttp.ClientError, OSError) as error:
                raise _not_served("unreachable", call, error) from error
            yield response, reader
        finally:
            if response is not None and not (response.content.at_eof() and call.said_everything):
                call.cut(response)

    async def _admitted(self, call: "_Call") -> aiohttp.ClientResponse:
        """An answer with status 200. A token that is not good any more is asked for again, once."""
        response = await self._post(call, await self._token.get() if self._token else None)
        if response.status == _UNAUTHORIZED and self._token:
            call.cut(response)
            response = await self._post(call, await self._token.renewed())
        if response.status != _OK:
            try:
                raise await _refusal(response, call)
            finally:
                call.cut(response)
        return response

    async def _post(self, call: "_Call", token: Secret | None) -> aiohttp.ClientResponse:
        server = self._naming.server(call.node.id)
        self._resolver.learn(server, call.node.host)
        headers = {"X-Request-Id": call.request_id}
        if token is not None:
            headers["Authorization"] = f"Bearer {token.reveal()}"
        url = f"https://{server}:{call.node.port}{self._naming.address(call.name)}"
        response = await self._session.post(url, data=call.body(), headers=headers)
        if response.connection is not None:
            call.transport = response.connection.transport
        return response


class _Call:
    """One request as aiohttp sends it: parameters at once, data after BEGUN."""

    def __init__(
        self, node: GitNode, name: str, parameters: bytes, request_id: str, patience: Patience
    ) -> None:
        self.node = node
        self.name = name
        self.request_id = request_id
        self.begun = asyncio.Event()
        self.pieces: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self.said_everything = False
        self.transport: asyncio.Transport | None = None
        self._parameters = parameters
        self._alive_s = patience.alive_s

    def cut(self, response: aiohttp.ClientResponse) -> None:
        """Close the connection at once: a polite end of TLS would wait for a node that may be gone."""
        if self.transport is not None:
            self.transport.abort()
        response.close()

    async def body(self) -> AsyncIterator[bytes]:
        yield frame(Kind.PARAMETERS, self._parameters)
        await self.begun.wait()
        while (piece := await self._next()) is not None:
            if not piece:
                yield frames.ALIVE
            for each in data_frames(piece):
                yield each
            BYTES.labels("sent").inc(len(piece))
        yield frames.END
        self.said_everything = True

    async def _next(self) -> bytes | None:
        """b"" when there was nothing for a while, None at the end."""
        try:
            async with asyncio.timeout(self._alive_s):
                return await self.pieces.get()
        except TimeoutError:
            return b""


class _Conversation:
    """Both directions at once, until the answer is whole."""

    def __init__(
        self,
        call: _Call,
        response: aiohttp.ClientResponse,
        reader: FrameReader,
        patience: Patience,
        aside: Aside | None,
    ) -> None:
        self._aside = aside
        self._result = b""
        self._call = call
        self._response = response
        self._reader = reader
        self._patience = patience

    async def hold(self, source: ByteSource, sink: ByteSink) -> bytes:
        saying = asyncio.create_task(self._say(source))
        hearing = asyncio.create_task(self._hear(sink))
        try:
            await asyncio.wait({saying, hearing}, return_when=asyncio.FIRST_COMPLETED)
            if not hearing.done():
                saying.result()  # who has nothing more to say waits; who failed is not answered
                await asyncio.wait({hearing})
            hearing.result()
            return self._result
        finally:
            await ended(saying, hearing)

    async def _say(self, source: ByteSource) -> None:
        while piece := await source.read():
            await self._call.pieces.put(piece)
        await self._call.pieces.put(None)

    async def _hear(self, sink: ByteSink) -> None:
        with _understood(self._call):
            while not self._reader.ended:
                while (found := self._reader.next()) is not None:
                    await self._take(found, sink)
                if not self._reader.ended:
                    self._reader.feed(await self._read())
        await self._see_the_end()

    async def _take(self, found: Frame, sink: ByteSink) -> None:
        if found.kind is Kind.DATA:
            BYTES.labels("received").inc(len(found.body))
            await sink.write(found.body)
        elif found.kind is Kind.FAILED:
            raise _failed(found.body)
        elif found.kind is Kind.ASIDE and self._aside:
            await self._aside(found.body)
        elif found.kind is Kind.END:
            self._result = found.body

    async def _read(self) -> bytes:
        try:
            async with asyncio.timeout(self._patience.silence_s_max):
                chunk = await self._response.content.readany()
        except TimeoutError as error:
            raise _not_served("cut", self._call, error) from error
        except (aiohttp.ClientError, OSError) as error:
            raise _not_served("cut", self._call, error) from error
        if not chunk:
            raise _not_served("cut", self._call, EOFError("the answer has no end"))
        return chunk

    async def _see_the_end(self) -> None:
        """Read the end of the HTTP body, too, so that the connection may be used again.

        Not when our own body is not out yet: then the connection is of no more use.
        """
        if not self._call.said_everything:
            return
        try:
            async with asyncio.timeout(self._patience.alive_s):
                await self._response.content.readany()
        except (TimeoutError, aiohttp.ClientError, OSError):
            self._call.cut(self._response)


class Directory(AbstractResolver):
    """Where those are who are asked, by the names in their certificates."""

    def __init__(self) -> None:
        self._hosts: dict[str, str] = {}

    def learn(self, server: str, host: str) -> None:
        self._hosts[server] = host

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._hosts[host], port, type=socket.SOCK_STREAM, family=family)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Nothing is held."""


@contextmanager
def _understood(call: _Call) -> Iterator[None]:
    """What a node says that is no frame, or no error, is no answer."""
    try:
        yield
    except (BadFrame, BadFields) as error:
        raise _not_served("garbled", call, error) from error


async def _begun(response: aiohttp.ClientResponse, call: _Call) -> FrameReader:
    """Wait for BEGUN, then let the data go."""
    reader = FrameReader()
    while (found := reader.next()) is None:
        chunk = await response.content.readany()
        if not chunk:
            raise aiohttp.ClientPayloadError("the answer ended before it began")
        reader.feed(chunk)
    if found.kind is Kind.FAILED:
        raise _failed(found.body)
    if found.kind is not Kind.BEGUN:
        raise BadFrame(f"the answer began with {found.kind.name}")
    call.begun.set()
    return reader


def _failed(body: bytes) -> Exception:
    """What the node said. Who is told to come back later may ask somebody else now."""
    error = faults.heard(body)
    return NotServed("unavailable", error, said=True) if isinstance(error, Unavailable) else error


async def _refusal(response: aiohttp.ClientResponse, call: _Call) -> Exception:
    """An answer without BEGUN: nothing was taken."""
    if response.status == _UNAUTHORIZED:
        log.error("rpc.token_refused", node=call.node.id)
        return NotServed("refused", Unavailable("the nodes of this cluster do not trust each other"))
    if response.status == _NOT_FOUND:
        return NotServed("version", Unavailable("no node of the cluster understands this request yet"))
    error = faults.heard(await response.content.read(_ERROR_BYTES_MAX))
    if isinstance(error, OutcomeUnknown) or not isinstance(error, Unavailable):
        return error
    return NotServed("busy" if response.status == _BUSY else "unavailable", error, said=True)


def _not_served(reason: str, call: _Call, error: Exception) -> NotServed:
    log.warning("rpc.not_served", node=call.node.id, call=call.name, reason=reason, error=_text(error))
    return NotServed(reason, Unavailable("the node that holds this repository went away: try again"))


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
