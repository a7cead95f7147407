"""One private step: clip every unit, round to the grid, add integers, add rounded noise, clamp.

    words = clamp( Σ_u round(−g_u · min(1, C′/‖g_u‖) / γ) + round(N(0, (σC/γ)²)) ),     C′ = C − γ√d/2

Rounding moves a vector of d numbers by at most γ√d/2, so a unit clipped to C′ adds at most C after rounding (checked on the integers
themselves), and the sum of integers is exact. The continuous Gaussian carries the guarantee; rounding it and clamping are post-processing.

Protects against: a unit that adds more than C, whatever its gradient; a NaN or infinite gradient (the unit adds nothing); an empty batch (the
step is noise alone, and charged).
Does not protect against: the time a step takes, which grows with the units drawn.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client.train.engines import GradientEngine, Part, Task, UnitRows
from client.train.noise import Stream, rounded_gaussian
from common.errors import TrainingRefused
from common.privacy.mechanism import Mechanism
from common.secure.fixedpoint import clamp

R = TypeVar("R")

CLIP_HEADROOM = 1e-6
"""Relative. Covers the rounding of float32 when a gradient is scaled; without it a clipped norm was measured at 1.00000016·C."""


_EXACT = 2.0**53
"""Below it float64 holds every whole number."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """words: int32 grid integers (d,), noised. The two counts are the site's own and never leave it."""

    words: NDArray[np.int32]
    units_drawn: int
    units_dropped: int


def private_step(
    task: Task[R],
    engine: GradientEngine,
    units: Sequence[UnitRows[R]],
    mechanism: Mechanism,
    *,
    key: bytes,
    grid: float,
    sites: int,
    token_budget: int,
    noise_share: float = 1.0,
) -> StepResult:
    """The noised sum of the clipped gradients of the units drawn, negated: a direction of descent.

    key          the step's reserved key; the stream `noise` of it is used here
    sites        sites of the sum, which bounds a word
    noise_share  this site's part of the standard deviation σC; 1 under placement `site`
    """
    bound = clip_bound(mechanism.clip_norm, grid, task.dimensions)
    total, dropped = _sum(task, engine, units, token_budget, bound, grid, mechanism.clip_norm)
    return StepResult(noised(total, mechanism, key=key, grid=grid, sites=sites, noise_share=noise_share), len(units), dropped)


def noised(
    total: NDArray[np.int64], mechanism: Mechanism, *, key: bytes, grid: float, sites: int, noise_share: float = 1.0
) -> NDArray[np.int32]:
    """A sum of clipped integers (d,) with its noise, as the words that may leave: the only place where noise is added."""
    deviation = mechanism.noise_multiplier * mechanism.clip_norm * noise_share / grid
    return clamp(total + rounded_gaussian(Stream(key, "noise"), deviation, len(total)), sites)


def open_step(
    task: Task[R], engine: GradientEngine, units: Sequence[UnitRows[R]], *, grid: float, sites: int, token_budget: int
) -> StepResult:
    """The same sum without clipping and without noise: what `engine = "none"` runs. NOT PRIVATE."""
    total, dropped = _sum(task, engine, units, token_budget, math.inf, grid, math.inf)
    return StepResult(clamp(total, sites), len(units), dropped)


def clip_bound(clip_norm: float, grid: float, dimensions: int) -> float:
    """C′ = (C − γ√d/2)(1 − headroom). Raises TrainingRefused when the grid is so coarse that rounding alone could exceed C."""
    bound = (clip_norm - grid * math.sqrt(dimensions) / 2) * (1 - CLIP_HEADROOM)
    if not bound > 0:
        raise TrainingRefused(
            f"a grid of {grid:g} moves {dimensions:,} numbers by up to {grid * math.sqrt(dimensions) / 2:.3g}, more than `privacy.clip_norm` = "
            f"{clip_norm:g}; train fewer tensors (a lower `adapter.rank`) or use a finer grid"
        )
    return bound


def clipped_integers(gradients: Tensor, bound: float, grid: float, clip_norm: float) -> tuple[Tensor, Tensor]:
    """Each row scaled to norm ≤ `bound`, negated, and rounded to whole grid steps.  (units, d) → integers as floats (units, d), kept (units,).

    A row that is not finite is zero and not kept. So would be a row whose integers exceeded `clip_norm`: their norm is computed exactly.
    """
    norms = torch.linalg.vector_norm(gradients, dim=1, dtype=torch.float64)
    kept = norms.isfinite()
    factors = (bound / norms.clamp_min(1e-300)).clamp_max(1.0)
    integers = (gradients * (-factors / grid).to(gradients.dtype)[:, None]).round_()
    integers[~kept] = 0.0  # assigned, not multiplied: 0 · NaN is NaN
    if math.isfinite(clip_norm):
        # Squares of integers below 2⁵³ add exactly in float64 as long as their sum is below 2⁵³, which clip_norm/γ = 2¹⁶ ensures.
        kept = kept & (torch.linalg.vector_norm(integers, dim=1, dtype=torch.float64) <= clip_norm / grid)
        integers[~kept] = 0.0
    return integers, kept


def _sum(
    task: Task[R], engine: GradientEngine, units: Sequence[UnitRows[R]], token_budget: int, bound: float, grid: float, clip_norm: float
) -> tuple[NDArray[np.int64], int]:
    total = torch.zeros(task.dimensions, dtype=torch.float64, device=task.base.device)
    dropped = 0
    for gradients in unit_gradients(task, engine, units, token_budget):
        integers, kept = clipped_integers(gradients, bound, grid, clip_norm)
        total += integers.sum(0, dtype=torch.float64)  # exact: whole numbers far below 2⁵³
        dropped += int((~kept).sum())
    if not bool((total.abs() < _EXACT).all()):
        raise TrainingRefused("the sum of the gradients leaves the range in which whole numbers add exactly; lower `privacy.sampling_rate`")
    result: NDArray[np.int64] = total.to(torch.int64).cpu().numpy()
    return result, dropped


def unit_gradients(task: Task[R], engine: GradientEngine, units: Sequence[UnitRows[R]], token_budget: int) -> Iterator[Tensor]:
    """The mean gradient of every unit's rows, (units of one micro-batch, d) at a time.

    Micro-batches hold whole units up to `token_budget` tokens. A unit larger than that is computed alone, in pieces that are added up before
    anyone clips it. Cutting differs with the batch and changes nothing: the engine's gradients do not depend on their neighbours.
    """
    parts: list[Part[R]] = []
    tokens = 0
    for unit in units:
        if not unit.rows:
            continue
        size = sum(map(task.tokens, unit.rows))
        if parts and (tokens + size > token_budget or not engine.isolates):
            yield engine.gradients(task, parts)
            parts, tokens = [], 0
        if size > token_budget:
            yield _large_unit(task, engine, unit, token_budget)
            continue
        parts.append(Part(unit.rows, 1 / len(unit.rows)))
        tokens += size
    if parts:
        yield engine.gradients(task, parts)


def _large_unit(task: Task[R], engine: GradientEngine, unit: UnitRows[R], token_budget: int) -> Tensor:
    pieces: list[list[R]] = [[]]
    tokens = 0
    for row in unit.rows:
        if pieces[-1] and tokens + task.tokens(row) > token_budget:
            pieces.append([])
            tokens = 0
        pieces[-1].append(row)
        tokens += task.tokens(row)
    weight = 1 / len(unit.rows)
    total = engine.gradients(task, [Part(tuple(pieces[0]), weight)])
    for piece in pieces[1:]:
        total += engine.gradients(task, [Part(tuple(piece), weight)])
    return total
