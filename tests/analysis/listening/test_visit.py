"""The steps of a visit without a browser: whose token opens what, and what is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis.listening.kept import Kept
from analysis.listening.schemas import Limits, Predictor
from analysis.listening.visit import NOTHING, Said, Visit, sentence

Tone = Any


@pytest.fixture
def visit(tmp_path: Path, pitch_predictor: Predictor) -> Visit:
    return Visit(pitch_predictor, Limits(1, 1), Kept(2_000_000), tmp_path)


def sent(visit: Visit, name: str, data: bytes) -> dict[str, str]:
    path = visit.folder / "upload"
    path.write_bytes(data)
    return {"path": str(path), "orig_name": name}


def test_a_recording_is_kept_under_its_token_alone(visit: Visit, tone: Tone) -> None:
    first, said = visit.take_one(sent(visit, "a.wav", tone(200.0)))
    second, _ = visit.take_one(sent(visit, "b.wav", tone(600.0)))
    assert said == NOTHING
    assert list(visit.folder.iterdir()) == []
    assert visit.hear_one(first)[0] == Said("This sounds like Ada, 90%.")
    assert visit.hear_one(second)[0] == Said("This sounds like Cem, 90%.")
    gone = Said("The recording is not kept any more; please send it again.", True)
    assert visit.hear_one("another") == visit.hear_one(None) == (gone, "", "")
    assert visit.enroll("another", "Eva") == gone


def test_nothing_sent_is_no_problem(visit: Visit) -> None:
    assert visit.take_one(None) == visit.take_many([]) == visit.take_many(None) == (None, NOTHING)
    assert NOTHING.html() == ""


def test_too_much_is_said_at_once(visit: Visit) -> None:
    token, said = visit.take_one(sent(visit, "a.wav", bytes(1_000_001)))
    assert token is None
    assert said == Said(
        "All recordings together are larger than 1 MB, the most at once.", problem=True
    )
    assert visit.kept.size() == 0


def test_a_batch_counts_and_forgets(visit: Visit, tone: Tone) -> None:
    token, _ = visit.take_many([sent(visit, "a.wav", tone(200.0))])
    assert token
    states = list(visit.hear_many(token))
    assert states[-1][0] == Said("1 recording answered.")
    assert "prediction.csv" in states[-1][1]
    assert list(visit.hear_many(token)) == [
        (Said("The files are not kept any more; please send them again.", True), "")
    ]
    token, _ = visit.take_many([sent(visit, "a.wav", b"nothing")])
    (_, table) = list(visit.hear_many(token))[-1]
    assert "prediction.csv" not in table  # there is nothing in it


def test_names_are_tidied_and_escaped(visit: Visit, tone: Tone) -> None:
    token, _ = visit.take_one(sent(visit, "a.wav", tone(1200.0)))
    assert visit.enroll(token, "  \n ").text == "A name is missing; write whose voice it is."
    assert visit.enroll(token, "  Eva \n <b> ") == Said("Learnt: a.wav is Eva <b>.")
    assert '<option value="Eva &lt;b&gt;">' in visit.known()
    assert Said("<i>", True).html() == '<p class="problem">&lt;i&gt;</p>'


def test_sentences() -> None:
    assert [sentence(one) for one in ("no song", "Done.", " why? ", "")] == [
        "No song.", "Done.", "Why?", ""
    ]  # fmt: skip
