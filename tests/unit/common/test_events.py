"""An event cannot carry text."""

import logging
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pytest

from common.events import Event, Handle, emit
from common.journal import Journal


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Happened(Event):
    count: int
    rate: float = 0.5
    colour: Colour = Colour.RED
    ref: Handle | None = None


def test_goes_to_the_log_and_the_journal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal.open(tmp_path / "audit.jsonl")
    ref = Handle.draw()
    with caplog.at_level(logging.INFO, logger="wardround"):
        emit(Happened(3, ref=ref), journal)
        emit(Happened(4))
    assert journal.rows()[0].kind == "Happened"
    assert journal.rows()[0].body == {"count": 3, "rate": 0.5, "colour": "red", "ref": str(ref)}
    assert len(journal.rows()) == 1
    assert "Happened count=3 rate=0.5 colour=red" in caplog.text


@pytest.mark.parametrize("text", ["Maria Lopez", "", b"x", ["a"], {"a": 1}, float("nan")])
def test_text_and_other_things_are_refused_without_being_shown(text: object) -> None:
    with pytest.raises(TypeError, match="holds numbers") as caught:
        Happened(text)  # type: ignore[arg-type]  # the refusal under test
    assert "Maria" not in str(caught.value)


@pytest.mark.parametrize("text", ["Maria", "0123", "0123456789ABCDEF", "g" * 16, "0" * 65])
def test_a_handle_is_random_hex(text: str) -> None:
    with pytest.raises(ValueError, match="hex"):
        Handle(text)
