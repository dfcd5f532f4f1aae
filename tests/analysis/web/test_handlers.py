"""The steps of a handlers without a browser: whose token opens what, and what is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis.web.handlers import NOTHING, Handlers, Message, sentence
from analysis.web.schemas import Limits, Predictor
from analysis.web.uploads import Recent

Tone = Any


@pytest.fixture
def handlers(tmp_path: Path, pitch_predictor: Predictor) -> Handlers:
    return Handlers(pitch_predictor, Limits(1, 1), Recent(2_000_000), tmp_path)


def sent(handlers: Handlers, name: str, data: bytes) -> dict[str, str]:
    path = handlers.folder / "upload"
    path.write_bytes(data)
    return {"path": str(path), "orig_name": name}


def test_a_recording_is_kept_under_its_token_alone(handlers: Handlers, tone: Tone) -> None:
    first, said = handlers.take_one(sent(handlers, "a.wav", tone(200.0)))
    second, _ = handlers.take_one(sent(handlers, "b.wav", tone(600.0)))
    assert said == NOTHING
    assert list(handlers.folder.iterdir()) == []
    assert handlers.recognise_one(first)[0] == Message("This sounds like Ada, 90%.")
    assert handlers.recognise_one(second)[0] == Message("This sounds like Cem, 90%.")
    gone = Message("The recording is not kept any more; please send it again.", True)
    assert handlers.recognise_one("another") == handlers.recognise_one(None) == (gone, "", "")
    assert handlers.enroll("another", "Eva") == gone


def test_nothing_sent_is_no_problem(handlers: Handlers) -> None:
    assert (
        handlers.take_one(None)
        == handlers.take_many([])
        == handlers.take_many(None)
        == (None, NOTHING)
    )
    assert NOTHING.html() == ""


def test_too_much_is_said_at_once(handlers: Handlers) -> None:
    token, said = handlers.take_one(sent(handlers, "a.wav", bytes(1_000_001)))
    assert token is None
    assert said == Message(
        "All recordings together are larger than 1 MB, the most at once.", problem=True
    )
    assert handlers.kept.size() == 0


def test_a_batch_counts_and_forgets(handlers: Handlers, tone: Tone) -> None:
    token, _ = handlers.take_many([sent(handlers, "a.wav", tone(200.0))])
    assert token
    states = list(handlers.recognise_many(token))
    assert states[-1][0] == Message("1 recording answered.")
    assert "prediction.csv" in states[-1][1]
    assert list(handlers.recognise_many(token)) == [
        (Message("The files are not kept any more; please send them again.", True), "")
    ]
    token, _ = handlers.take_many([sent(handlers, "a.wav", b"nothing")])
    (_, table) = list(handlers.recognise_many(token))[-1]
    assert "prediction.csv" not in table  # there is nothing in it


def test_names_are_tidied_and_escaped(handlers: Handlers, tone: Tone) -> None:
    token, _ = handlers.take_one(sent(handlers, "a.wav", tone(1200.0)))
    assert handlers.enroll(token, "  \n ").text == "A name is missing; write whose voice it is."
    assert handlers.enroll(token, "  Eva \n <b> ") == Message("Learnt: a.wav is Eva <b>.")
    assert '<option value="Eva &lt;b&gt;">' in handlers.known()
    assert Message("<i>", True).html() == '<p class="problem">&lt;i&gt;</p>'


def test_sentences() -> None:
    assert [sentence(one) for one in ("no song", "Done.", " why? ", "")] == [
        "No song.", "Done.", "Why?", ""
    ]  # fmt: skip
