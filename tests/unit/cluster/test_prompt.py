"""Questions that hang: who asks does not, and the answer still counts when it comes."""

import threading

import pytest

from mainstay.cluster.sites.prompt import Prompt, TooSlow
from mainstay.foundation.errors import NotFound


def test_an_answer_comes_through_and_so_does_a_refusal() -> None:
    prompt = Prompt()
    assert prompt.ask("a sum", lambda: 1 + 1) == 2

    def refuse() -> int:
        raise NotFound("nothing there")

    with pytest.raises(NotFound, match="nothing there"):
        prompt.ask("a sum", refuse)
    prompt.close()


def test_a_question_that_hangs_is_asked_once() -> None:
    prompt, go, asked = Prompt(limit_s=0.05), threading.Event(), []

    def hang() -> str:
        asked.append(1)
        assert go.wait(60)
        return "late"

    for _ in range(3):
        with pytest.raises(TooSlow, match="about it"):
            prompt.ask("it", hang)
    assert prompt.ask("something else", lambda: "soon") == "soon"
    assert asked == [1]
    waiting = prompt._open["it"]
    go.set()
    assert waiting.result(60) == "late"
    assert prompt.ask("it", lambda: "anew") in ("late", "anew")
    prompt.close()
