"""What one private step does, said once: training and accounting read the same object.

Protects against: a noise level and an epsilon that were written down in two places and drifted apart.
Does not protect against: a caller who trains without building a Mechanism; `client/train/dp_sgd.py` takes nothing else.
"""

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from common.errors import ConfigError

SMALLEST_NOISE, LARGEST_NOISE = 0.1, 1000.0
"""Range of σ. Below it noise protects nobody (one step at q = 0.1 costs ε = 90 at δ = 1e-6), and the accountant's grid grows with 1/σ²: 1.3 GB at 0.01."""


class Unit(StrEnum):
    """Whose presence the guarantee hides. Neighbouring data sets differ by adding or removing one such unit at one site.

    With `site` the unit is all that one site contributes; that it takes part in the study is public.
    """

    PATIENT = "patient"
    RECORD = "record"
    PAIR = "pair"
    ANNOTATOR = "annotator"
    SITE = "site"


class Placement(StrEnum):
    """Where the noise is added: by every site in full, or in shares that reach σ only in the sum."""

    SITE = "site"
    SUM = "sum"


@dataclass(frozen=True, slots=True)
class Mechanism:
    """`steps` runs of the Poisson-subsampled Gaussian mechanism over units.

    noise_multiplier  σ: standard deviation of the noise divided by `clip_norm`; at least one site's full share
    sampling_rate     q: each unit takes part in a step independently with this public probability
    clip_norm         C: bound on the L2 norm of one unit's contribution to the sum
    expected_units    L = q·N_s, the public divisor of the sum; never the size of the batch that was drawn
    unit              who is protected; neighbours add or remove one
    """

    noise_multiplier: float
    sampling_rate: float
    clip_norm: float
    expected_units: float
    unit: Unit
    steps: int = 1
    placement: Placement = Placement.SITE

    def __post_init__(self) -> None:
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier > 0):
            raise ConfigError(
                f'noise_multiplier is {self.noise_multiplier}; it must be above 0 (use `engine = "none"` to train without privacy)'
            )
        if not 0 < self.sampling_rate <= 1:
            raise ConfigError(f"sampling_rate is {self.sampling_rate}; it must lie in (0, 1]")
        if not (math.isfinite(self.clip_norm) and self.clip_norm > 0):
            raise ConfigError(f"clip_norm is {self.clip_norm}; it must be above 0")
        if not (math.isfinite(self.expected_units) and self.expected_units > 0):
            raise ConfigError(f"expected_units is {self.expected_units}; declare at least one unit at the site")
        if self.steps < 1:
            raise ConfigError(f"steps is {self.steps}; a mechanism runs at least once")

    def times(self, steps: int) -> "Mechanism":
        """The same step, run `steps` times."""
        return replace(self, steps=steps)
