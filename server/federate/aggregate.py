"""From the sum of the sites' integers to the next adapter: the weighted mean, and the server's optimizer on it.

Everything here is post-processing of noised sums, so it costs no ε. One pass, no randomness: the same sums give the same adapter.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.adapters import Adapter, Vector
from common.config import TrainingConfig
from common.errors import NotFinite, ShapeError
from common.secure.exchange import Summed
from common.secure.fixedpoint import to_floats

SECOND_MOMENT_DECAY = 0.99
ADAM_FLOOR = 1e-8


@dataclass(frozen=True, slots=True)
class Moments:
    """The server optimizer's memory of one tensor: how often it was moved, first and second moment (Adam only) in its shape."""

    steps: int
    first: Vector
    second: Vector


OptimizerState = Mapping[str, Moments]
"""Moments by the tensor's name; a tensor that was never trained has none."""


def mean_direction(summed: Summed, grid: float, expected_units: Mapping[str, float]) -> NDArray[np.float64]:
    """Δ = γ·Σ_s words_s / Σ_s L_s over the survivors s: the mean of all units of all survivors, in expectation.   (d,)

    The weights are public figures of the enrolment. A site that dropped out leaves both sums.
    """
    units = sum(expected_units[site] for site in summed.survivors)
    return to_floats(summed.words, grid) / units


def step(
    training: TrainingConfig, round_number: int, adapter: Adapter, direction: NDArray[np.float64], state: OptimizerState
) -> tuple[Adapter, OptimizerState]:
    """The adapter after a round: θ ← θ + η·m̂/(√v̂ + τ) (adam) or θ ← θ + η·m (sgd), with Δ as the negative gradient.

    Reddi et al. 2021, algorithm 2 (FedAdam), with Adam's bias correction (Kingma & Ba 2015), because a stage here has few rounds.
    m ← β₁m + (1 − β₁)Δ, v ← β₂v + (1 − β₂)Δ² for adam; m ← β₁m + Δ for sgd. β₁ = `server_momentum`, β₂ = 0.99, τ = 1e-8.
    η grows linearly over `warmup_rounds`. direction (d,) in the order of `adapter.vector(round_number)`.
    Raises ShapeError on another length, NotFinite when the step is not finite; the adapter given in is never changed.
    """
    if direction.shape != (adapter.spec.size(round_number),):
        raise ShapeError(
            f"the mean update has shape {direction.shape}; round {round_number} trains {adapter.spec.size(round_number)} numbers"
        )
    if not np.isfinite(direction).all():
        raise NotFinite("the mean update holds numbers that are not finite; the adapter stays as it was")
    rate = training.server_learning_rate
    if training.warmup_rounds:
        rate *= min(1.0, (round_number + 1) / training.warmup_rounds)
    new_state, moves, start = dict(state), [], 0
    for tensor in adapter.spec.trained(round_number):
        delta = direction[start : start + tensor.size]
        start += tensor.size
        move, new_state[tensor.name] = _move(training, delta, state.get(tensor.name))
        moves.append(move)
    return adapter.with_vector((adapter.vector(round_number) + rate * np.concatenate(moves)).astype(np.float32), round_number), new_state


def _move(training: TrainingConfig, delta: NDArray[np.float64], before: Moments | None) -> tuple[NDArray[np.float64], Moments]:
    zeros = np.zeros(delta.shape, np.float32)
    moments = before or Moments(0, zeros, zeros)
    beta, steps = training.server_momentum, moments.steps + 1
    if training.server_optimizer == "sgd":
        first = (beta * moments.first + delta).astype(np.float32)
        return first.astype(np.float64), Moments(steps, first, moments.second)
    # Moments are kept in float32 and read back from there, so that a resumed run computes with the same bits.
    first = (beta * moments.first + (1 - beta) * delta).astype(np.float32)
    second = (SECOND_MOMENT_DECAY * moments.second + (1 - SECOND_MOMENT_DECAY) * delta**2).astype(np.float32)
    mean = first / (1 - beta**steps)
    spread = np.sqrt(second.astype(np.float64) / (1 - SECOND_MOMENT_DECAY**steps))
    return mean / (spread + ADAM_FLOOR), Moments(steps, first, second)
