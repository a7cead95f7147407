"""How far the policy may move away from the SFT model: the coefficient of the KL penalty, and the budget that ends a run."""

from dataclasses import dataclass, replace

LARGEST_ERROR = 0.2
"""The controller reacts to at most 20 % of deviation a batch, so that one odd batch cannot throw it."""


@dataclass(frozen=True, slots=True)
class KlController:
    """β ← max(β₀, β·(1 + clip(KL/target − 1, ±0.2)·n/horizon)).   Ziegler et al. 2019, §2.2, made one-sided.

    The original lets β decay while the KL is still small and then reacts too late: it let the KL run to 16 nats for a target
    of 8. β never falls below its start here.

    target   nats a sequence        horizon   sequences over which it reacts; about a batch on short runs
    """

    coefficient: float
    start: float
    target: float
    horizon: float

    def after(self, kl: float, sequences: int) -> "KlController":
        """The controller after a batch of `sequences` answers whose mean KL was `kl` nats."""
        error = min(max(kl / self.target - 1, -LARGEST_ERROR), LARGEST_ERROR)
        return replace(self, coefficient=max(self.start, self.coefficient * (1 + error * sequences / self.horizon)))
