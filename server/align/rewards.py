"""What an answer is worth: an ensemble of reward models as one number, shaped, and plain terms with weights beside it.

Each cohort of hospitals trained one member, so where members disagree a policy is likely to exploit what one of them
happened to learn (Coste et al. 2023). Members are brought to one scale by fixed reference answers, and stay on it.

Protects against: a policy that climbs one member's error (λ needs two members at least), scores that run away (clip), NaN.
Does not protect against: an error that all members share; the held-out judges (`watch.py`) look for that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from common.errors import ConfigError, NotFinite, ShapeError
from server.align.members import AdapterMember, Member, score_adapters
from server.align.rollout import Answer
from server.align.terms import Weighted

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scale:
    """A member's mean and standard deviation on the reference answers."""

    mean: float
    deviation: float


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Members on one scale, and how their scores become one.

    variance_penalty  λ; above 0 it needs two members at least, else ConfigError: the variance of one is always 0
    scales            one for each member; None leaves the members' own scales
    weights           one for each member, in mean and variance, such as the sites behind it; empty means equal
    combine           `mean` is mean − λ·variance, `worst` the lowest member (Coste et al. 2023, WCO)
    """

    members: tuple[Member, ...]
    variance_penalty: float = 0.0
    scales: tuple[Scale, ...] | None = None
    weights: tuple[float, ...] = ()
    combine: Literal["mean", "worst"] = "mean"

    def __post_init__(self) -> None:
        if not self.members:
            raise ConfigError("a reward ensemble needs at least one member")
        if self.variance_penalty > 0 and len(self.members) < 2:
            raise ConfigError(
                f"λ is {self.variance_penalty} with one reward member, whose variance is always 0; train at least two members or set `ppo.variance_penalty` to 0"
            )
        if self.scales is not None and len(self.scales) != len(self.members):
            raise ShapeError(f"{len(self.scales)} scales for {len(self.members)} members")
        if self.weights and len(self.weights) != len(self.members):
            raise ConfigError(f"{len(self.weights)} weights for {len(self.members)} reward members; give one each")

    def fixed_on(self, prompts: Sequence[str], texts: Sequence[str]) -> "Ensemble":
        """This ensemble with each member at mean 0 and deviation 1 on these reference answers, for good.

        Raises ConfigError when a member gives all of them the same score: it has learned nothing that PPO could follow.
        """
        raw = self._raw(prompts, texts)
        for member, scores in zip(self.members, raw, strict=True):
            if not scores.std() > 0:
                raise ConfigError(
                    f"reward member `{member.name}` scores all {len(texts)} reference answers alike; train it longer or leave it out"
                )
        return replace(self, scales=tuple(Scale(float(s.mean()), float(s.std())) for s in raw))

    def score(self, prompts: Sequence[str], texts: Sequence[str]) -> Floats:
        """Scores (members, n), scaled. Raises NotFinite naming the member whose score is not a number."""
        raw = self._raw(prompts, texts)
        if self.scales is None:
            return raw
        return np.stack([(s - scale.mean) / scale.deviation for s, scale in zip(raw, self.scales, strict=True)])

    def combined(self, scores: Floats) -> Floats:
        """(members, n) → (n,): the weighted mean over members − λ times their (biased, weighted) variance, or the worst of them."""
        if self.combine == "worst":
            worst: Floats = scores.min(0)
            return worst
        mean = np.average(scores, 0, self.weights or None)
        combined: Floats = mean - self.variance_penalty * np.average((scores - mean) ** 2, 0, self.weights or None)
        return combined

    def _raw(self, prompts: Sequence[str], texts: Sequence[str]) -> Floats:
        # Adapters on one base share the layers below them, so they are scored together.
        adapters = [member for member in self.members if isinstance(member, AdapterMember)]
        together = bool(adapters) and all((m.base, m.model) == (adapters[0].base, adapters[0].model) for m in adapters)
        shared = iter(score_adapters(adapters, prompts, texts)) if together else None
        rows = []
        for member in self.members:
            row = next(shared) if shared is not None and isinstance(member, AdapterMember) else member(prompts, texts)
            rows.append(require_finite(np.asarray(row, np.float64), len(texts), f"reward member `{member.name}`"))
        return np.stack(rows)


@dataclass(frozen=True, slots=True)
class RunningScale:
    """Mean and deviation of all rewards so far, one batch after the other.   Chan et al. 1979, eq. 2.1."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Σ (x − mean)²."""

    def after(self, values: Floats) -> "RunningScale":
        n, mean = len(values), float(values.mean())
        total, difference = self.count + n, mean - self.mean
        squares = self.squares + float(((values - mean) ** 2).sum()) + difference**2 * self.count * n / total
        return RunningScale(total, self.mean + difference * n / total, squares)

    def applied(self, values: Floats) -> Floats:
        """(x − mean)/deviation; 0 while all values were equal."""
        deviation = (self.squares / self.count) ** 0.5
        scaled: Floats = (values - self.mean) / deviation if deviation > 0 else np.zeros_like(values)
        return scaled


@dataclass(frozen=True, slots=True)
class Rewarded:
    """total (n,) is what PPO maximises; by_term what each term adds to it; disagreement (n,) the members' standard deviation.

    learned (n,) is the ensemble's own reward, shaped the same before normalisation and clip; zeros without an ensemble. running is the
    scale after this batch, when there was one.
    """

    total: Floats
    by_term: Mapping[str, Floats]
    disagreement: Floats
    learned: Floats
    shaped: Floats
    running: RunningScale | None = None


@dataclass(frozen=True, slots=True)
class Reward:
    """clip(shaped ensemble, ±clip) + Σ weight·term. Only the learned part is clipped: a penalty always counts.

    references  prompt → the ensemble's reward of an SFT answer to it. With them the learned part is σ(reward − reference), which is
                bounded and centred: the further above the reference, the less a further step is worth (Fu et al. 2025, PAR)

    Without an ensemble the terms stand alone. The same object serves PPO, GRPO and RLOO.
    """

    ensemble: Ensemble | None
    terms: tuple[Weighted, ...] = ()
    clip: float = 4.0
    references: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if self.ensemble is None and not self.terms:
            raise ConfigError("a reward needs an ensemble or at least one term")

    def __call__(self, prompts: Sequence[str], answers: Sequence[Answer], running: RunningScale | None = None) -> Rewarded:
        """`running` is the scale before this batch; with it the learned part is normalised by the scale that includes the batch.

        Raises NotFinite naming the term whose value is not a number, ConfigError for a prompt without a reference.
        """
        by_term: dict[str, Floats] = {}
        disagreement = learned = shaped = np.zeros(len(answers))
        if self.ensemble is not None:
            scores = self.ensemble.score(prompts, [answer.text for answer in answers])
            disagreement, learned = scores.std(0), self.ensemble.combined(scores)
            shaped = learned if self.references is None else self._against(prompts, learned)
            by_term["ensemble"] = np.clip(shaped, -self.clip, self.clip)
        for weighted in self.terms:
            values = require_finite(np.asarray(weighted.term(prompts, answers), np.float64), len(answers), f"reward term `{weighted.name}`")
            by_term[weighted.name] = weighted.weight * values
        found = Rewarded(np.sum(list(by_term.values()), 0), by_term, disagreement, learned, shaped)
        return found if running is None else self.normalised(found, running)

    def normalised(self, batch: Rewarded, running: RunningScale) -> Rewarded:
        """`batch` with its learned part on the scale that `running` becomes with it; apart from the call for whoever puts a batch together."""
        if self.ensemble is None:
            return batch
        running = running.after(batch.shaped)
        by_term = {**batch.by_term, "ensemble": np.clip(running.applied(batch.shaped), -self.clip, self.clip)}
        return replace(batch, total=np.sum(list(by_term.values()), 0), by_term=by_term, running=running)

    def _against(self, prompts: Sequence[str], learned: Floats) -> Floats:
        assert self.references is not None
        missing = sum(prompt not in self.references for prompt in prompts)
        if missing:
            raise ConfigError(f"{missing} of {len(prompts)} prompts have no reference reward; fix the references on all prompts of the run")
        against: Floats = 1 / (1 + np.exp(np.array([self.references[p] for p in prompts]) - learned))
        return against


def require_finite(values: Floats, n: int, source: str) -> Floats:
    """Raises ShapeError unless there are n values, NotFinite unless each is a number."""
    if values.shape != (n,):
        raise ShapeError(f"{source} gave an array of shape {values.shape} for {n} answers; one number an answer is needed")
    if not np.isfinite(values).all():
        raise NotFinite(f"{source} is not finite for {int((~np.isfinite(values)).sum())} of {n} answers; the step is not taken")
    return values
