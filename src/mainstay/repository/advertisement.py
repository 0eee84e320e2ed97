"""What is said of refs: made once per listing, then sent again and again without a process or a query."""

from collections.abc import Awaitable, Callable

from mainstay.cache.refs import RefListing
from mainstay.git.protocol import advertise
from mainstay.git.protocol import v2 as protocol_v2
from mainstay.git.protocol.services import Service
from mainstay.repository.streams import ByteSink

_FORMS_KEPT = 16
_PREFIXES_KEPT = 8


async def send(
    service: Service,
    *,
    version: int,
    sink: ByteSink,
    seen: RefListing | None,
    look: Callable[[], Awaitable[RefListing]],
) -> None:
    """The body of an `info/refs` answer: the v2 capabilities, which need no refs, or the v0 refs."""
    if service is Service.UPLOAD_PACK and version == 2:  # noqa: PLR2004 - the number of the protocol
        await sink.write(v2())
        return
    listing = seen if seen is not None else await look()
    await sink.write(v0(service, listing, stateless=True))


def v0(service: Service, listing: RefListing, *, stateless: bool) -> bytes:
    """The v0 advertisement: every visible ref, peeled tags for upload-pack."""
    key = f"v0:{service}:{stateless}"
    made = listing.encoded.get(key)
    if made is None:
        made = b"".join(_v0(service, listing, stateless=stateless))
        listing.encoded[key] = made
    return made


def _v0(service: Service, listing: RefListing, *, stateless: bool) -> list[bytes]:
    if service is Service.RECEIVE_PACK:
        return advertise.receive_pack_refs(listing.lines)
    return advertise.upload_pack_refs(listing.lines, _head(listing), stateless=stateless)


def v2() -> bytes:
    """The v2 capability advertisement; the same for every repository."""
    return advertise.capabilities_v2()


def ls_refs(request: protocol_v2.LsRefs, listing: RefListing) -> bytes:
    """The answer to `ls-refs`. The few forms that clones and fetches use are kept with the listing."""
    made = listing.encoded.get(request)
    if made is None:
        made = b"".join(protocol_v2.ls_refs_response(request, listing.lines, _head(listing)))
        if len(listing.encoded) < _FORMS_KEPT and len(request.prefixes) <= _PREFIXES_KEPT:
            listing.encoded[request] = made
    return made


def _head(listing: RefListing) -> advertise.Head:
    return advertise.Head(listing.repository.head, listing.head_oid())
