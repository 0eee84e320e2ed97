"""What was taken away opens nothing any more: at once, at every door, on connections already open."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from support.api_client import ApiClient
from support.git_client import GitClient
from support.people import Person, person, project_id

_numbers = count(1)

Doors = Callable[[], Awaitable[dict[str, bool]]]


@pytest.fixture
def bob(ada: Person, tmp_path: Path) -> Person:
    """Somebody new, who is let in and thrown out again."""
    return person(ada.node, tmp_path / "bob", f"robert{next(_numbers)}")


@pytest.fixture
def private(ada: Person, tmp_path: Path) -> str:
    """A private project of Ada's with commits in it."""
    path = ada.project(f"revoked-{next(_numbers)}")
    ada.git("push", "--quiet", ada.url(path), "main", cwd=ada.git.repository(tmp_path / "work"))
    return path


def let_in(ada: Person, guest: Person, path: str) -> None:
    member = {"user_id": user_id(guest), "access_level": 30}
    ada.must("POST", f"projects/{project_id(path)}/members", member)


def user_id(someone: Person) -> int:
    return int(someone.must("GET", "user")["id"])


@asynccontextmanager
async def doors_of(guest: Person, path: str) -> AsyncIterator[Doors]:
    """Ask at all doors whether `guest` gets in; SSH over one connection that stays open all the time."""
    key = guest.git.key
    assert key is not None
    connecting = asyncssh.connect(
        "127.0.0.1",
        guest.node.ssh_port,
        username="git",
        client_keys=[str(key)],
        known_hosts=None,
        config=None,
        agent_path=None,
    )
    async with connecting as connection:

        async def ask() -> dict[str, bool]:
            return {
                "api": await asyncio.to_thread(_reads_by_api, guest, path),
                "http token": await asyncio.to_thread(_lists, guest.git, guest.url(path, secret=guest.token)),
                "http password": await asyncio.to_thread(_lists, guest.git, guest.url(path)),
                "new ssh": await asyncio.to_thread(_lists, guest.git, guest.ssh_url(path)),
                "open ssh pull": await _serves(connection, f"git-upload-pack '{path}.git'"),
                "open ssh push": await _serves(connection, f"git-receive-pack '{path}.git'"),
            }

        yield ask


async def _serves(connection: asyncssh.SSHClientConnection, command: str) -> bool:
    try:
        return (await connection.run(command, input="0000")).exit_status == 0
    except BrokenPipeError:
        # Refused, and the channel closed, before our four bytes were on their way.
        return False


def _reads_by_api(guest: Person, path: str) -> bool:
    return guest.api("GET", f"projects/{project_id(path)}/repository/branches").status == 200


def _lists(git: GitClient, url: str) -> bool:
    return bool(git.try_("ls-remote", url))


EVERYWHERE = {"api", "http token", "http password", "new ssh", "open ssh pull", "open ssh push"}


async def opened(ask: Doors) -> set[str]:
    return {door for door, is_open in (await ask()).items() if is_open}


def revoke_the_token(admin: ApiClient, _ada: Person, guest: Person, _path: str) -> None:
    ApiClient(guest.node.http_port, guest.token).ok("DELETE", "/personal_access_tokens/self")


def remove_the_key(_admin: ApiClient, _ada: Person, guest: Person, _path: str) -> None:
    for key in guest.must("GET", "user/keys"):
        guest.must("DELETE", f"user/keys/{key['id']}")


def block_the_user(admin: ApiClient, _ada: Person, guest: Person, _path: str) -> None:
    admin.ok("POST", f"/users/{user_id(guest)}/block")


def delete_the_user(admin: ApiClient, _ada: Person, guest: Person, _path: str) -> None:
    admin.ok("DELETE", f"/users/{user_id(guest)}")


def remove_the_member(_admin: ApiClient, ada: Person, guest: Person, path: str) -> None:
    ada.must("DELETE", f"projects/{project_id(path)}/members/{user_id(guest)}")


def change_the_password(admin: ApiClient, _ada: Person, guest: Person, _path: str) -> None:
    admin.ok("PUT", f"/users/{user_id(guest)}", {"password": "another-password-2"})


@pytest.mark.parametrize(
    ("take_away", "still_open"),
    [
        (revoke_the_token, EVERYWHERE - {"api", "http token"}),
        (remove_the_key, {"api", "http token", "http password"}),
        (change_the_password, EVERYWHERE - {"http password"}),
        (block_the_user, set()),
        (delete_the_user, set()),
        (remove_the_member, set()),
    ],
)
def test_the_next_request_is_refused(
    ada: Person, bob: Person, private: str, take_away: Any, still_open: set[str]
) -> None:
    admin = ApiClient(ada.node.http_port, ada.node.token(scopes="api"))
    let_in(ada, bob, private)

    async def journey() -> None:
        async with doors_of(bob, private) as ask:
            assert await opened(ask) == EVERYWHERE
            await asyncio.to_thread(take_away, admin, ada, bob, private)
            assert await opened(ask) == still_open

    asyncio.run(journey())


def test_a_project_that_became_private_is_closed_to_strangers(ada: Person, bob: Person, private: str) -> None:
    address = f"projects/{project_id(private)}"
    ada.must("PUT", address, {"visibility": "public"})

    async def journey() -> None:
        async with doors_of(bob, private) as ask:
            assert await opened(ask) == EVERYWHERE - {"open ssh push"}
            await asyncio.to_thread(ada.must, "PUT", address, {"visibility": "private"})
            assert await opened(ask) == set()

    asyncio.run(journey())
    assert not bob.git.try_("ls-remote", ada.node.url + f"/{private}.git")


def test_a_member_who_became_a_reporter_pulls_and_pushes_no_more(
    ada: Person, bob: Person, private: str
) -> None:
    let_in(ada, bob, private)

    async def journey() -> None:
        async with doors_of(bob, private) as ask:
            assert await opened(ask) == EVERYWHERE
            member = f"projects/{project_id(private)}/members/{user_id(bob)}"
            await asyncio.to_thread(ada.must, "PUT", member, {"access_level": 20})
            assert await opened(ask) == EVERYWHERE - {"open ssh push"}

    asyncio.run(journey())
