"""What masks still allow against poisoning: every group's sum is known, so a group whose step harms public examples can be left out.

The adapter is moved by each group's own mean direction and scored on public examples; a group is left out when its loss lies above the
median of the groups by more than `TOLERANCE` times their spread. Scores are computed from noised sums and public data, so they cost no ε;
the remaining sums are the ones already opened, and nobody is asked again.

Protects against: a group that one site has turned against the task, as far as public examples show it.
Does not protect against: a poisoned update that leaves the public loss alone (a backdoor); it names a group, never a site; groups
fewer than three; more than half of the groups poisoned.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence

from common.adapters import Adapter
from common.config import TrainingConfig
from common.secure.exchange import Summed
from server.federate.aggregate import OptimizerState, mean_direction, step

Score = Callable[[Adapter], float]
"""Loss of an adapter on public examples; lower is better."""

TOLERANCE = 6.0
"""In units of the median absolute deviation: of honest groups with normal losses it drops fewer than one in ten thousand."""

SMALLEST_GROUPS = 3
FLOOR = 1e-4
"""Relative to the median loss: groups that agree to so many digits have no spread worth dividing by."""

OUTLIER = "outlier"
"""What the record of a round says of a site whose group was left out."""


def kept_groups(losses: Sequence[float]) -> list[bool]:
    """Which groups stay: loss ≤ median + 6·MAD. All of them when there are fewer than three, or when a loss is the same for all."""
    if len(losses) < SMALLEST_GROUPS:
        return [True] * len(losses)
    middle = statistics.median(losses)
    spread = max(statistics.median(abs(loss - middle) for loss in losses), FLOOR * abs(middle))
    return [loss <= middle + TOLERANCE * spread for loss in losses]


def group_losses(
    sums: Sequence[Summed],
    score: Score,
    *,
    training: TrainingConfig,
    round_number: int,
    adapter: Adapter,
    moments: OptimizerState,
    grid: float,
    expected_units: Mapping[str, float],
) -> list[float]:
    """The public loss after a step of each group alone, from the same adapter and the same optimizer's memory. NaN counts as infinite."""
    losses = []
    for summed in sums:
        moved, _ = step(training, round_number, adapter, mean_direction(summed, grid, expected_units), moments)
        loss = score(moved)
        losses.append(loss if loss == loss else float("inf"))
    return losses
