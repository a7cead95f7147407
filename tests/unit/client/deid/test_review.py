"""People's review: the sample cannot be drawn again, a marked note is held back, and the bound waits for the whole sample."""

import io
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from client.commands.review_desk import show_note
from client.deid.assurance.bounds import upper_bound
from client.deid.assurance.review import REVIEWED, Mark, Reviewer, review_of
from client.deid.gate import hold_gate, verify_token
from client.hospital.policy import HospitalPolicy
from client.hospital.site import Site
from client.records import CleanNote, RawNote
from common.errors import GateRefused

NOTES = 70


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    policy = HospitalPolicy(max_leak_upper_bound=0.08, max_review_upper_bound=0.06)
    with Site.create(tmp_path / "north", "north", policy, simulated_seed=1) as site:
        site.vault.ingest([RawNote(f"n{i}", f"p{i % 7}", "raw") for i in range(NOTES)])
        site.vault.put_notes([CleanNote(f"n{i}", f"p{i % 7}", f"Cough for {i} days.") for i in range(NOTES)])
        yield site


def reviewer(site: Site) -> Reviewer:
    return Reviewer(site.vault, rng=random.Random(3))


def test_a_review_goes_on_where_it_stopped_and_its_sample_is_never_drawn_anew(site: Site) -> None:
    first = reviewer(site)
    first.draw(60)
    waiting = [note.note_id for note in first.waiting()]
    first.read_all(lambda note, number, count: Mark.CLEAN if number <= 20 else None)
    assert (first.status().read, first.status().sample, first.status().upper_bound) == (20, 60, 1.0)
    second = reviewer(site)
    second.draw(60)
    assert [note.note_id for note in second.waiting()] == waiting[20:]
    assert second.read_all(lambda *_: Mark.CLEAN).upper_bound == pytest.approx(upper_bound(0, 60))


def test_a_marked_note_is_held_back_counts_for_good_and_reaches_the_token(site: Site) -> None:
    one = reviewer(site)
    one.draw(NOTES)
    with pytest.raises(GateRefused, match=r"people's review .* run `wardround-site review`"):
        hold_gate(site)
    state = one.read_all(lambda note, number, count: Mark.CLEAN)
    token = hold_gate(site)
    assert (token.reviewed, token.review_leaking, token.review_upper_bound) == (NOTES, 0, pytest.approx(upper_bound(0, NOTES)))
    assert verify_token(site) == token
    one.mark(next(site.vault.notes()), Mark.LEAK)
    state = review_of(site.vault)
    assert (state.read, state.leaking) == (NOTES, 1)
    assert [reason for _, reason in site.vault.quarantined()] == [REVIEWED]
    with pytest.raises(GateRefused):  # one leak among 70 is above 0.06, and reading others instead cannot mend it
        hold_gate(site)


def test_a_note_that_was_cleaned_anew_has_to_be_read_anew(site: Site) -> None:
    one = reviewer(site)
    one.draw(NOTES)
    one.read_all(lambda *_: Mark.CLEAN)
    site.vault.put_note(CleanNote("n3", "p3", "Another text."))
    assert review_of(site.vault).read == NOTES - 1


def test_the_desk_takes_one_key_and_shows_markup_as_it_stands() -> None:
    keys = iter(["x", "L"])
    screen = Console(file=io.StringIO(), width=60)
    assert show_note(CleanNote("n", "p", "[red]cough[/red]"), 1, 2, console=screen, key=lambda: next(keys)) is Mark.LEAK
    assert "[red]cough[/red]" in screen.file.getvalue()  # type: ignore[attr-defined] # a StringIO
    assert show_note(CleanNote("n", "p", "ok"), 1, 2, console=screen, key=lambda: "q") is None
