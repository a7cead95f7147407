"""What a trained model gives away about its training data, by two attacks that anybody who has the model can run.

Membership  Was this example trained on? The attacker looks how much likelier the model finds it than the bare base does.
            Yeom et al. 2018, with the base as the reference of Watson et al. 2022.
Exposure    Does the model prefer a planted secret to other secrets of its kind?   Carlini et al. 2019, definition of exposure.

Protects against: taking a budget for a measurement; a twin that is trained without privacy is caught by both (`tests/attacks/test_trained_models.py`).
Does not protect against: better attacks. That these find nothing proves nothing; what no attack can pass is the bound of ε.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm, rankdata

from common.config import ModelConfig, StudyConfig
from common.errors import ShapeError
from common.models import SharedBase
from server.evaluate.intervals import Estimate, bootstrap_mean
from server.evaluate.quality import Example, Floats, sft_losses
from server.evaluate.summary import AttackFigures, ExposureFigures, Interval, MembershipFigures


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A text with a planted secret, and the same text with other secrets of its kind, drawn as that one was."""

    planted: Example
    others: Sequence[Example]

    def __repr__(self) -> str:
        return f"Secret(<{len(self.others)} others>)"


def limits(config: StudyConfig) -> str:
    """What a reader might expect of this, and was not done."""
    if not config.evaluation.attack_examples:
        return "Attacks on the trained models (membership inference, extraction, gradient inversion, canary exposure) were not run."
    return "Two attacks were run on the SFT model and the policy; none on the reward models, no extraction of free text, no inversion of updates."


def membership(members: ArrayLike, others: ArrayLike) -> Estimate:
    """How often the attack's score is higher for a member (m,) than for another example (n,); ½ is chance, a tie counts half.

    The area under its ROC curve, with the 95 % interval of Hanley and McNeil 1982. Raises ShapeError when either side is empty or not finite.
    """
    inside, outside = np.asarray(members, np.float64), np.asarray(others, np.float64)
    m, n = inside.size, outside.size
    if min(m, n) == 0 or not np.isfinite([*inside, *outside]).all():
        raise ShapeError(f"membership needs finite scores on both sides; got {m} of members and {n} of others")
    ranks = rankdata([*inside, *outside])[:m]
    area = float((ranks.sum() - m * (m + 1) / 2) / (m * n))
    twice, squared = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (area * (1 - area) + (m - 1) * (twice - area**2) + (n - 1) * (squared - area**2)) / (m * n)
    half = float(norm.ppf(0.975)) * math.sqrt(max(0.0, variance))
    return Estimate(area, max(0.0, area - half), min(1.0, area + half), m + n)


def permitted(epsilon: float, delta: float) -> float:
    """The area that no attack on one unit can pass under (ε, δ)-differential privacy: 1 − (1 − δ)²/(1 + e^ε).

    What lies above the curve FNR ≥ max(1 − δ − e^ε·FPR, e^−ε·(1 − δ − FPR)).   Kairouz et al. 2015, theorem 2.1.
    """
    return 1.0 if math.isinf(epsilon) else 1 - (1 - delta) ** 2 / (1 + math.exp(min(epsilon, 700.0)))


def exposure(secret: float, others: ArrayLike) -> float:
    """log₂(n + 1) − log₂(rank) in bits, of a secret's loss among those of n others; a tie counts half.

    0 when all others are likelier, log₂(n + 1) when none is.
    """
    losses = np.asarray(others, np.float64)
    rank = 1 + float((losses < secret).sum()) + 0.5 * float((losses == secret).sum())
    return math.log2(losses.size + 1) - math.log2(rank)


def chance_exposure(others: int) -> float:
    """Mean exposure of a secret that the model knows nothing of, among so many others."""
    return math.log2(others + 1) - float(np.log2(np.arange(1, others + 2)).mean())


def attack(
    base: SharedBase,
    names: Sequence[str],
    members: Sequence[Example],
    others: Sequence[Example],
    secrets: Sequence[Secret],
    config: ModelConfig,
    *,
    epsilon: float,
    delta: float,
    rng: np.random.Generator,
) -> AttackFigures:
    """Both attacks on each of the adapters `names` of `base`; every secret beside as many others. `epsilon` is what one unit's data may have cost; it only sets `permitted`."""
    examples = [*members, *others]
    texts = [text for secret in secrets for text in (secret.planted, *secret.others)]
    reference = sft_losses(base, None, [*examples, *texts], config)
    memberships, exposures = list[MembershipFigures](), list[ExposureFigures]()
    for name in names:
        # Beside the bare base: neither a common conversation nor a secret of common letters is given away by being common.
        gained = reference - sft_losses(base, name, [*examples, *texts], config)
        if members:
            area = membership(gained[: len(members)], gained[len(members) : len(examples)])
            memberships.append(MembershipFigures(model=name, area=Interval.of(area), permitted=permitted(epsilon, delta)))
        if secrets:
            exposures.append(_exposed(name, -gained[len(examples) :].reshape(len(secrets), -1), rng))
    return AttackFigures(membership=tuple(memberships), exposure=tuple(exposures))


def _exposed(name: str, losses: Floats, rng: np.random.Generator) -> ExposureFigures:
    """Of losses (secrets, 1 + others), the planted one first."""
    others = losses.shape[1] - 1
    bits = bootstrap_mean([exposure(float(own[0]), own[1:]) for own in losses], rng)
    return ExposureFigures(model=name, bits=Interval.of(bits), chance=chance_exposure(others), most=math.log2(others + 1))
