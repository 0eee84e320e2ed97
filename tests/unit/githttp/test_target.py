"""Reading the address of a Git request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay.doors.githttp.target import (
    DumbProtocol,
    Endpoint,
    MalformedAddress,
    Target,
    UnknownService,
    claims,
    parse_target,
)
from mainstay.foundation.errors import Invalid, MainstayError, NotFound
from mainstay.git.protocol.services import Service

UPLOAD = b"service=git-upload-pack"


@pytest.mark.parametrize(
    "path", [b"/ada/engine", b"/ada/engine.git", b"/ada/%65ngine.git", b"/ada/engine%2egit"]
)
def test_the_suffix_and_the_encoding_do_not_matter(path: bytes) -> None:
    expected = Target("ada/engine", Endpoint.ADVERTISEMENT, Service.UPLOAD_PACK)
    assert parse_target(path + b"/info/refs", UPLOAD) == expected


def test_only_one_suffix_is_taken_off() -> None:
    assert parse_target(b"/ada/engine.git.git/info/refs", UPLOAD).path == "ada/engine.git"


@pytest.mark.parametrize("service", list(Service))
def test_the_address_of_a_post_names_its_service(service: Service) -> None:
    target = parse_target(b"/a/b/c.git/" + service.encode(), b"")
    assert (target.path, target.service, target.endpoint.value) == ("a/b/c", service, service.value)


@pytest.mark.parametrize("endpoint", ["git-upload-pack", "git-receive-pack"])
@pytest.mark.parametrize("service", ["git-upload-pack", "git-receive-pack", "git-upload-archive", ""])
def test_a_post_whose_query_names_another_service_is_refused(endpoint: str, service: str) -> None:
    address, query = f"/ada/engine.git/{endpoint}".encode(), f"service={service}".encode()
    if service == endpoint:
        assert parse_target(address, query).service == service
    else:
        with pytest.raises(MalformedAddress):
            parse_target(address, query)


@pytest.mark.parametrize(
    "path",
    [
        b"/ada/../root/engine",
        b"/ada/./engine",
        b"/ada//engine",
        b"//ada/engine",
        b"/ada/%2e%2e/engine",
        b"/ada/.git",
        b"/ada/%2fetc",
        b"/ada/%2Fetc",
        b"/ada%5cengine",
        b"/ada\\engine",
        b"/ada/eng%00ine",
        b"/ada/eng%0aine",
        b"/ada/eng%c2%85ine",
        b"/ada/eng%ine",
        b"/ada/eng%",
        b"/ada/%ff%fe",
        b"ada/engine",
        b"/ada/" + b"e" * 5000,
    ],
)
def test_an_address_with_two_readings_is_refused(path: bytes) -> None:
    with pytest.raises(Invalid):
        parse_target(path + b"/info/refs", UPLOAD)


@pytest.mark.parametrize("path", [b"/engine/info/refs", b"/ada/engine/HEAD", b"/ada/engine/info/refs/", b"/"])
def test_what_is_no_repository_is_not_found(path: bytes) -> None:
    with pytest.raises(NotFound):
        parse_target(path, UPLOAD)


def test_a_doubly_encoded_path_is_decoded_once() -> None:
    assert parse_target(b"/ada/%252e%252e/info/refs", UPLOAD).path == "ada/%2e%2e"


def test_the_dumb_protocol_is_refused_with_a_hint() -> None:
    with pytest.raises(DumbProtocol, match="smart HTTP"):
        parse_target(b"/ada/engine.git/info/refs", b"")


@pytest.mark.parametrize(
    "service", ["git-upload-archive", "upload-pack", "git-upload-pack%20", "GIT-UPLOAD-PACK", ""]
)
def test_an_unknown_service_is_refused(service: str) -> None:
    with pytest.raises(UnknownService):
        parse_target(b"/ada/engine.git/info/refs", f"service={service}".encode())


def test_two_services_in_one_query_are_refused() -> None:
    with pytest.raises(MalformedAddress):
        parse_target(b"/ada/engine.git/info/refs", b"service=git-upload-pack&service=git-receive-pack")


def test_other_fields_of_the_query_are_ignored() -> None:
    assert (
        parse_target(b"/ada/engine.git/info/refs", b"x=1&service=git-receive-pack").service
        == "git-receive-pack"
    )


@given(st.binary(max_size=200), st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(path: bytes, query: bytes) -> None:
    try:
        target = parse_target(path + b"/info/refs", query)
    except MainstayError:
        return
    assert ".." not in target.path.split("/")
    assert not any(ord(letter) < 32 for letter in target.path)


def test_pages_of_the_web_are_not_claimed() -> None:
    assert claims(b"/ada/engine.git/info/refs")
    assert claims(b"/ada/engine/git-receive-pack")
    assert not claims(b"/ada/engine/-/blob/main/info/refs")
    assert not claims(b"/api/v4/projects/1/repository/files/info/refs")
    assert not claims(b"/ada/engine")
