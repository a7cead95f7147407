"""A law of the KL budget for every course of a run: what is handed on was measured within it, its standard error included."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from common.bases import load_base
from common.config import AdapterConfig, ModelConfig, PPOConfig, StudyConfig
from server.align.checkpoint import StepRecord
from server.align.ppo import OVER_BUDGET, Task, decide, start
from server.align.rewards import Ensemble, Reward
from server.align.watch import OVER_OPTIMISED, Watch

BUDGET, STEPS = 1.0, 8
COURSE = st.lists(st.tuples(st.floats(0, 1.2), st.floats(0, 0.2), *2 * [st.floats(-3, 3)]), min_size=1, max_size=STEPS + 1)
"""KL, its standard error, reward and judgement of each step's policy."""


class Unasked:
    """A judge whose verdicts stand in the records."""

    name = "unasked"

    def __call__(self, prompts: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        raise AssertionError


@cache
def task_of(watched: bool) -> Task:
    base = load_base("tiny", "float32")
    base.put("sft", base.spec(AdapterConfig(rank=1, last_layers=1)).initial())
    ppo = PPOConfig(steps=STEPS, prompts_per_step=1, kl_budget=BUDGET)
    study = StudyConfig(seed=1, model=ModelConfig(base="tiny", dtype="float32"), ppo=ppo)
    judges = Ensemble((Unasked(),))
    return Task(study, base, "sft", ["?"], Reward(judges), "none", watch=Watch(judges, window=2, fall=0.5) if watched else None)


@given(COURSE, st.booleans())
@settings(deadline=None)
def test_what_is_kept_was_measured_within_the_budget(course: list[tuple[float, float, float, float]], watched: bool) -> None:
    task = task_of(watched)
    state, measured = start(task), []
    for step, figures in enumerate([(0.0, 0.0, *course[0][2:]), *course[1:]]):
        record = StepRecord(step, dict(zip(("kl", "kl_error", "reward", "judge"), figures, strict=True)), {})
        measured.append(state.trained)
        state = decide(task, state, record)
        if state.stopped is None:  # an update leaves other tensors
            trained = {name: np.full_like(tensor, step + 1) for name, tensor in state.trained.items()}
            state = replace(state, steps=step + 1, trained=trained, records=(*state.records, record))
        of_kept = state.records[state.kept_step].figures
        assert of_kept["kl"] + of_kept["kl_error"] <= BUDGET
        assert state.kept
        for name, tensor in state.kept.items():
            np.testing.assert_array_equal(tensor, measured[state.kept_step][f"policy/{name}"])
        if state.stopped is not None:
            assert state.stopped != OVER_OPTIMISED or watched
            assert (state.stopped == OVER_BUDGET) == (sum(figures[:2]) > BUDGET)
            break
