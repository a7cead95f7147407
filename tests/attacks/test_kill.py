"""SIGKILL at two hundred random moments of training: nothing is under-reported, no step spent twice, every replay is bit-identical.

Each life is a process of its own that says what it is about to do before it does it, so that the dead can be compared with the ledger.
"""

import hashlib
import multiprocessing
import os
import random
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from client.train import update
from common.bases import load_base
from common.models import SharedBase
from common.privacy.ledger import State
from common.privacy.mechanism import Unit
from tests.unit.client.test_update import Hospital, run, study_of, work_of

LIVES = 200


def live(folder: Path, base: SharedBase, connection: Connection) -> None:
    """Train round after round with the system's noise. After each step: its ledger row and words; after each round: the update."""
    inner = update._step

    def watched(*arguments: Any) -> Any:
        result, reservation = inner(*arguments)
        assert reservation is not None
        connection.send(("step", reservation.index, reservation.replayed, hashlib.sha256(result.words.tobytes()).hexdigest()))
        return result, reservation

    update._step = watched
    hospital = Hospital(folder, budget=1e6)
    study = study_of(epsilon=10.0, noise_multiplier=60.0, rounds=10_000, local_steps=2)
    done = {c.entry.round for c in hospital.ledger.charges() if c.state is State.COMMITTED}
    for number in range(max(done, default=0), 10_000):
        words = run(work_of(base, study, round=number), hospital, base, seed=None).words
        connection.send(("update", number, False, hashlib.sha256(words.tobytes()).hexdigest()))


def lives(folder: Path, count: int) -> tuple[dict[int, set[str]], dict[int, set[str]], int]:
    """(words by ledger row, updates by round, replays) of that many lives, each ended by SIGKILL."""
    context, delays, base = multiprocessing.get_context("fork"), random.Random(5), load_base("tiny", "float32")
    steps: dict[int, set[str]] = {}
    updates: dict[int, set[str]] = {}
    replays = 0

    def note(kind: str, index: int, replayed: bool, words: str) -> int:
        (steps if kind == "step" else updates).setdefault(index, set()).add(words)
        return int(replayed)

    for _ in range(count):
        ours, theirs = context.Pipe()
        child = context.Process(target=live, args=(folder, base, theirs))
        child.start()
        theirs.close()
        try:
            for _ in range(delays.randint(0, 4)):
                replays += note(*ours.recv())
            ours.poll(delays.random() * 0.06)  # somewhere inside what comes next
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
            while True:
                replays += note(*ours.recv())
        except (EOFError, ConnectionResetError):
            pass
        child.join()
        ours.close()
    return steps, updates, replays


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_hundred_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    judge(tmp_path, LIVES)


def judge(folder: Path, count: int) -> None:
    steps, updates, replays = lives(folder, count)
    hospital = Hospital(folder, budget=1e6)
    hospital.ledger.verify()
    charges = {charge.index: charge for charge in hospital.ledger.charges()}
    assert set(steps) <= set(charges), "a step ran that the ledger does not know"
    assert all(len(words) == 1 for words in steps.values()), "a step was replayed with other words"
    assert all(len(words) == 1 for words in updates.values()), "one round has two updates"
    places = [(charge.entry.round, charge.entry.step) for charge in charges.values()]
    assert len(places) == len(set(places)), "a step was charged twice"
    assert sum(m.steps for m in hospital.ledger.spent(Unit.PATIENT)) == len(charges)
    assert replays > count // 20, f"only {replays} replays in {count} lives: the kills missed the steps"
    print(f"{count} lives, {len(charges)} charges, {len(updates)} updates, {replays} replays")  # noqa: T201  # the figures of the run, with -s
