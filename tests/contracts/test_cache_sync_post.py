"""How the webhook of a cache is posted: once, where it was sent, with its token."""

import pytest

from mainstay.boot.cache_sync import poster
from mainstay.foundation.logs import Secret
from mainstay.ops.sites.cache_sync import NotTold
from support.ports import free_port
from support.webhook_receiver import webhook_receiver


def test_it_arrives_with_its_token() -> None:
    with webhook_receiver() as heard:
        poster(heard.url, Secret("s3cret"))(b'{"event_name": "cache_sync"}')
        poster(heard.url, Secret(""))(b"{}")
    first, second = heard.posts
    assert (first.path, first.body) == ("/hook", b'{"event_name": "cache_sync"}')
    assert first.headers["X-Gitlab-Token"] == "s3cret"
    assert first.headers["Content-Type"] == "application/json"
    assert "X-Gitlab-Token" not in second.headers


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_refusal_or_a_redirection_is_told_and_not_followed(status: int) -> None:
    with webhook_receiver(status) as heard, pytest.raises(NotTold, match=str(status)):
        poster(heard.url, Secret(""))(b"{}")
    assert len(heard.posts) == 1


def test_nobody_there_is_told() -> None:
    with pytest.raises(NotTold, match="does not answer"):
        poster(f"http://127.0.0.1:{free_port()}/hook", Secret(""))(b"{}")
