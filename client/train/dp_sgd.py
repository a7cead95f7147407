"""One private step: clip every unit, round to the grid, add integers, add rounded noise, clamp.

    words = clamp( Σ_u round(−g_u · min(1, C′/‖g_u‖) / γ) + round(N(0, (σC/γ)²)) ),     C′ = C − γ√d/2

Rounding moves a vector of d numbers by at most γ√d/2, so a unit clipped to C′ adds at most C after rounding (checked on the integers
themselves), and the sum of integers is exact. The continuous Gaussian carries the guarantee; rounding it and clamping are post-processing.

Protects against: a unit that adds more than C, whatever its gradient; a NaN or infinite gradient (the unit adds nothing); an empty batch (the
step is noise alone, and charged); a unit whose gradient moves with its neighbours, and a trained tensor that gets no gradient (`probe`).
Does not protect against: the time a step takes, which grows with the units drawn.
"""

import hashlib
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
from common.adapters import HEAD
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


# -- the start-up probe ------------------------------------------------------------------------------------------------

_PROBED: set[tuple[object, ...]] = set()

PROBE_LENGTHS = (19, 33, 12, 300, 220)
"""Tokens of the probe's rows: more than one block in all, so that a kernel that changes with the number of tokens is met."""


def probe(task: Task[R], engine: GradientEngine) -> None:
    """Refuse an engine and model on which a unit's gradient depends on its neighbours, or a trained tensor gets none.

    Runs once a process for each base, adapter shape, objective and engine, on rows of random tokens. The gradient of a unit alone and among
    short and long neighbours must be the same, bit for bit: the sensitivity bound has no room for a difference.
    Raises TrainingRefused.
    """
    name = (task.base.digest, task.trained, type(task.objective), type(engine), torch.get_num_threads(), torch.is_autocast_enabled("cpu"))
    if name in _PROBED:
        return
    vocabulary = int(task.base.lm.config.vocab_size)

    def draw(count: int) -> tuple[int, ...]:
        words = Stream(hashlib.sha256(b"wardround probe").digest(), f"{count}").words(count)
        return tuple(int(word % np.uint64(vocabulary)) for word in words)

    rows = task.objective.made_up(PROBE_LENGTHS, draw)
    units = [UnitRows((row,)) for row in rows]
    pair = UnitRows((rows[0], rows[1]))
    # Each with an engine of its own: one that remembers a row's states would be compared with itself.
    alone = next(unit_gradients(task, type(engine)(), [pair], 10**9))[0]
    _refuse_missing(task, alone)
    among = torch.cat(list(unit_gradients(task, type(engine)(), [units[4], units[2], pair, units[3]], 10**9)))[2]
    if not torch.equal(alone, among):
        moved = float((alone - among).norm() / alone.norm())
        raise TrainingRefused(
            f"on base model `{task.base.name}` the gradient of one unit moves by {moved:.2g} of its norm with the units beside it, so no bound on "
            "a unit's contribution holds; its layers mix rows, or its kernels depend on the batch: use another base model"
        )
    _PROBED.add(name)


def _refuse_missing(task: Task[R], gradient: Tensor) -> None:
    """A tensor whose gradient is exactly zero on the probe is not on the path from input to loss (dA is zero as long as B is)."""
    parameters = task.base.parameters(task.adapter)
    start = 0
    for tensor in task.trained:
        part = gradient[start : start + tensor.size]
        start += tensor.size
        partner = tensor.name.replace(".lora_A.", ".lora_B.")
        silent = tensor.name != HEAD and ".lora_A." in tensor.name and not bool(parameters[partner].any())
        if not silent and not bool(part.any()):
            raise TrainingRefused(
                f"tensor `{tensor.name}` gets no gradient: nothing it does reaches the loss; take it out of `adapter.targets`"
            )
