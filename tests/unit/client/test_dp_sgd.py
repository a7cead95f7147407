"""The private step: bounded units, integers, noise of the right size, and what happens to bad or absent gradients."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from client.train.dp_sgd import clip_bound, clipped_integers, open_step, private_step
from client.train.engines import FastEngine, Part, Task, UnitRows
from client.train.objectives import CompletionLoss, PairLoss
from client.train.opacus_engine import OpacusEngine
from common.adapters import Adapter
from common.bases import load_base
from common.config import AdapterConfig
from common.errors import TrainingRefused
from common.models import Encoded
from common.privacy.mechanism import Mechanism, Unit

GRID = 2.0**-16
KEY = bytes(range(32))
STEP = Mechanism(0.8, 0.1, 1.0, 4.0, Unit.PATIENT)


class Given:
    """An engine that gives out gradients written down beforehand: rows are their own gradients."""

    isolates = True

    def gradients(self, task: Task[Any], parts: Sequence[Part[Any]]) -> torch.Tensor:
        return torch.stack([sum((part.weight * row for row in part.rows), torch.zeros_like(part.rows[0])) for part in parts])


class Width:
    """A task of d numbers for `Given`."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions, self.base = dimensions, load_base("tiny", "float32")

    def tokens(self, row: Any) -> int:
        return 1


def step(gradients: Sequence[torch.Tensor], mechanism: Mechanism = STEP, **options: Any) -> Any:
    settings: dict[str, Any] = {"key": KEY, "grid": GRID, "sites": 8, "token_budget": 100} | options
    return private_step(Width(len(gradients[0]) if gradients else 64), Given(), [UnitRows((g,)) for g in gradients], mechanism, **settings)  # type: ignore[arg-type]  # Width is all of a task that is used here


def noise_alone(dimensions: int = 64) -> np.ndarray[Any, Any]:
    return private_step(Width(dimensions), Given(), [], STEP, key=KEY, grid=GRID, sites=8, token_budget=100).words.astype(np.int64)  # type: ignore[arg-type]  # as above


def test_an_empty_batch_is_a_step_of_noise() -> None:
    words = noise_alone(20_000)
    assert words.std() * GRID == pytest.approx(0.8, rel=0.03)


def test_the_sum_is_minus_the_clipped_gradients_and_the_noise_does_not_depend_on_them() -> None:
    small, large = torch.full((64,), 0.01), torch.full((64,), -3.0)
    words = step([small, large]).words - noise_alone()
    bound = clip_bound(1.0, GRID, 64)
    expected = -small + bound / 8 * torch.ones(64)  # large has norm 24 and points to −1/8 in every coordinate
    assert np.abs(words * GRID - expected.numpy()).max() <= 1.01 * GRID


def test_units_with_nan_or_infinity_add_nothing_and_are_counted() -> None:
    good, bad, worse = torch.full((64,), 0.01), torch.full((64,), 0.01), torch.full((64,), 0.01)
    bad[3], worse[5] = float("nan"), float("inf")
    result = step([good, bad, worse])
    assert (result.units_drawn, result.units_dropped) == (3, 2)
    assert np.array_equal(result.words, step([good]).words)


def test_a_gradient_of_zeros_adds_nothing() -> None:
    assert np.array_equal(step([torch.zeros(64)]).words, noise_alone())


def test_a_huge_gradient_is_clipped_and_an_overflowing_one_dropped() -> None:
    result = step([torch.full((64,), 1e18)])
    contribution = (result.words - noise_alone()) * GRID
    assert result.units_dropped == 0
    assert 0.99 <= np.linalg.norm(contribution) <= 1.0
    assert step([torch.full((64,), 3e38, dtype=torch.float32)]).units_dropped in (0, 1)


def test_words_are_clamped_to_a_sites_share_of_the_sum() -> None:
    loud = Mechanism(40_000.0, 0.1, 1.0, 4.0, Unit.PATIENT)
    words = step([torch.zeros(2000)], loud, sites=1000).words
    assert np.abs(words).max() == (2**31 - 1) // 1000
    assert words.dtype == np.int32


def test_a_share_of_the_noise_is_smaller_by_as_much() -> None:
    whole, part = step([torch.zeros(20_000)]).words, step([torch.zeros(20_000)], noise_share=0.5).words
    assert np.abs(part - whole / 2).max() <= 1


def test_a_grid_that_is_too_coarse_is_refused() -> None:
    with pytest.raises(TrainingRefused, match="finer grid"):
        clip_bound(1.0, 0.1, 10_000)


def test_the_bound_costs_little_at_a_million_numbers() -> None:
    assert 0.991 < clip_bound(1.0, GRID, 1_240_000) < 0.992


def test_integers_are_whole_and_small_enough() -> None:
    gradients = torch.randn(7, 1000, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 6, 7)[:, None]
    integers, kept = clipped_integers(gradients, clip_bound(1.0, GRID, 1000), GRID, 1.0)
    assert kept.all()
    assert torch.equal(integers, integers.round())
    assert (torch.linalg.vector_norm(integers.double(), dim=1) * GRID <= 1.0).all()


def real_task(objective: Any) -> Task[Any]:
    base = load_base("tiny", "float32")
    spec = base.spec(AdapterConfig(rank=4, alpha=8.0), head=isinstance(objective, PairLoss))
    generator = torch.Generator().manual_seed(1)
    base.put("local", Adapter(spec, {t.name: (torch.randn(t.shape, generator=generator) * 0.1).numpy() for t in spec.tensors}))
    return Task(base, "local", spec.trained(), objective)


@pytest.mark.parametrize("objective", [CompletionLoss(), PairLoss(0.01)])
def test_opacus_gives_the_same_words_up_to_one_grid_step(objective: Any) -> None:
    task = real_task(objective)
    generator = torch.Generator().manual_seed(4)
    rows = objective.made_up((20, 31, 12, 25), lambda n: tuple(torch.randint(3, 590, (n,), generator=generator).tolist()))
    units = [UnitRows((rows[0], rows[1])), UnitRows((rows[2],)), UnitRows((rows[3],))]
    ours, theirs = (
        private_step(task, engine, units, STEP, key=KEY, grid=GRID, sites=8, token_budget=64) for engine in (FastEngine(), OpacusEngine())
    )
    assert ours.units_drawn == theirs.units_drawn == 3
    assert np.abs(ours.words - theirs.words).max() <= 1
    assert (ours.words != theirs.words).mean() < 0.05


def test_without_privacy_the_sum_is_plain() -> None:
    task = real_task(CompletionLoss())
    generator = torch.Generator().manual_seed(4)
    rows = [Encoded(tuple(torch.randint(3, 590, (20,), generator=generator).tolist()), 8) for _ in range(2)]
    units = [UnitRows((row,)) for row in rows]
    result = open_step(task, FastEngine(), units, grid=GRID, sites=8, token_budget=1000)
    plain = FastEngine().gradients(task, [Part((row,), 1.0) for row in rows]).sum(0)
    assert float(plain.norm()) > 1.0, "the example must be one that clipping would change"
    assert np.abs(result.words * GRID + plain.numpy()).max() <= GRID * math.sqrt(2)
