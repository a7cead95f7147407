"""A unit's gradient that moves with its neighbours is refused at start-up, and at a watched step when it begins later or only on live rows."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from client.train import update
from client.train.engines import FastEngine, Part, Task
from client.train.probing import WATCHED_SHARE, Watched, is_watched
from common.bases import load_base
from common.errors import TrainingRefused
from common.models import SharedBase
from common.privacy.ledger import Entry, State
from tests.helpers.gradients import Given, Width
from tests.unit.client.test_update import Hospital, run, study_of, work_of

KEY = bytes(range(32))


@pytest.fixture(scope="module")
def base() -> SharedBase:
    return load_base("tiny", "float32")


def entry(number: int, *, attempt: int = 0) -> Entry:
    return Entry("study", "sft", number, attempt, 0, "0" * 64)


class Turning(FastEngine):
    """Keeps units apart until the class's `mixes` is set; then every unit's gradient takes a thousandth of its neighbours'."""

    mixes = False

    def gradients(self, task: Task[Any], parts: Sequence[Part[Any]]) -> torch.Tensor:
        found = super().gradients(task, parts)
        return found + 1e-3 * (found.sum(0) - found) if self.mixes else found


def test_one_step_in_eight_is_watched_by_its_public_name_alone() -> None:
    steps = 8000
    watched = sum(is_watched(entry(number)) for number in range(steps))
    deviation = math.sqrt(steps * WATCHED_SHARE * (1 - WATCHED_SHARE))
    assert abs(watched - steps * WATCHED_SHARE) < 4 * deviation, watched
    assert is_watched(entry(5)) == is_watched(entry(5, attempt=3)), "a step that is asked for again must be watched again"
    assert all(is_watched(entry(number), 1.0) for number in range(50))


def test_a_watched_engine_gives_the_same_gradients_and_sees_what_moves() -> None:
    task: Task[Any] = Width(3)  # type: ignore[assignment]  # Width is all of a task that is used here
    parts = [Part((torch.full((3,), float(n)),), 1.0) for n in range(4)]
    assert torch.equal(Watched(Given(), KEY).gradients(task, parts), Given().gradients(task, parts))
    bad = [*parts, Part((torch.full((3,), float("nan")),), 1.0)]
    for number in range(8):  # whichever unit is drawn, the one that is not a number included
        Watched(Given(), bytes([number]) * 32).gradients(task, bad)


@pytest.mark.parametrize("ours", [False, True], ids=["twin", "ours"])
def test_mixing_that_begins_after_the_start_is_met_by_a_watched_step(
    tmp_path: Path, base: SharedBase, monkeypatch: pytest.MonkeyPatch, ours: bool
) -> None:
    """The engine passes the start-up probe and mixes from the second round on. The twin, which watches no step, trains to the end."""
    watched = next(number for number in range(1, 100) if is_watched(entry(number)))
    rounds = watched + 2
    monkeypatch.setattr(update, "FastEngine", Turning)
    monkeypatch.setattr(update, "is_watched", lambda entry: ours and is_watched(entry))
    hospital, study = Hospital(tmp_path, budget=1e6), study_of(epsilon=10.0, noise_multiplier=60.0, rounds=rounds)
    done, refusal = 0, ""
    for number in range(rounds):
        monkeypatch.setattr(Turning, "mixes", number > 0)
        try:
            run(work_of(base, study, round=number), hospital, base)
        except TrainingRefused as error:
            refusal = str(error)
            break
        done += 1
    assert (done, "moves by" in refusal) == ((watched, True) if ours else (rounds, False))
    assert hospital.states() == [State.COMMITTED] * done + [State.RESERVED] * ours, "a refused step stays charged"
