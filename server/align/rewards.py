"""What an answer is worth: an ensemble of reward models as mean − λ·variance, and plain terms with weights beside it.

Each cohort of hospitals trained one member, so where members disagree a policy is likely to exploit what one of them
happened to learn (Coste et al. 2023). Members are brought to one scale by fixed reference answers, and stay on it.

Protects against: a policy that climbs one member's error (λ needs two members at least), scores that run away (clip), NaN.
Does not protect against: an error that all members share; the held-out judges of the evaluation look for that.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from common.config import ModelConfig
from common.errors import ConfigError, ModelUnavailable, NotFinite, ShapeError
from common.models import SharedBase
from server.align.passes import passes, remembered_trunk, token_batches
from server.align.rollout import Answer

Floats = NDArray[np.float64]
SCORING_TOKENS = 4096
"""Padded tokens of one scoring batch: no gradients are kept, so a batch costs little memory."""


class Member(Protocol):
    """One reward model of the ensemble."""

    @property
    def name(self) -> str: ...

    def __call__(self, prompts: Sequence[str], texts: Sequence[str]) -> Floats:
        """Scores (n,) on the member's own scale."""
        ...


@dataclass(frozen=True, slots=True)
class AdapterMember:
    """A reward adapter with its scalar head on the shared base, read at the end-of-turn token as in its training.

    An answer that was cut off is read as if it had ended: what it lacks is the missing-end term's business.
    """

    base: SharedBase = field(repr=False)
    name: str
    model: ModelConfig = field(repr=False)

    def __post_init__(self) -> None:
        if self.name not in self.base.heads:
            raise ModelUnavailable(f"no adapter `{self.name}` with a reward head on base model `{self.base.name}`")

    def __call__(self, prompts: Sequence[str], texts: Sequence[str]) -> Floats:
        found: Floats = score_adapters([self], prompts, texts)[0]
        return found


def score_adapters(members: Sequence[AdapterMember], prompts: Sequence[str], texts: Sequence[str]) -> Floats:
    """Scores (members, n) of adapters on one base, read at the end-of-turn token of each answer.

    The layers below the lowest adapted one are the same for all members and run once.
    """
    base, model = members[0].base, members[0].model
    bounds = {"max_prompt_tokens": model.max_prompt_tokens, "max_answer_tokens": model.max_answer_tokens}
    rows = [base.encode(prompt, text, **bounds).ids for prompt, text in zip(prompts, texts, strict=True)]
    common = min(min(base.get(member.name).spec.layers) for member in members)
    scores = np.empty((len(members), len(rows)))
    for batch in token_batches([len(row) for row in rows], SCORING_TOKENS):
        padded = base.pad([rows[i] for i in batch])
        with remembered_trunk(base, common), torch.inference_mode():
            for member, found in zip(members, scores, strict=True):
                with passes(base, member.name):
                    found[batch] = base.scores(member.name, padded).double().cpu().numpy()
    return scores


@dataclass(frozen=True, slots=True)
class Scale:
    """A member's mean and standard deviation on the reference answers."""

    mean: float
    deviation: float


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Members on one scale; `combined` is mean − λ·variance over them.

    variance_penalty  λ; above 0 it needs two members at least, else ConfigError: the variance of one is always 0
    scales            one for each member; None leaves the members' own scales
    """

    members: tuple[Member, ...]
    variance_penalty: float = 0.0
    scales: tuple[Scale, ...] | None = None

    def __post_init__(self) -> None:
        if not self.members:
            raise ConfigError("a reward ensemble needs at least one member")
        if self.variance_penalty > 0 and len(self.members) < 2:
            raise ConfigError(
                f"λ is {self.variance_penalty} with one reward member, whose variance is always 0; train at least two members or set `ppo.variance_penalty` to 0"
            )
        if self.scales is not None and len(self.scales) != len(self.members):
            raise ShapeError(f"{len(self.scales)} scales for {len(self.members)} members")

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
        """(members, n) → (n,): the mean over members − λ times their (biased) variance."""
        combined: Floats = scores.mean(0) - self.variance_penalty * scores.var(0)
        return combined

    def _raw(self, prompts: Sequence[str], texts: Sequence[str]) -> Floats:
        adapters = [member for member in self.members if isinstance(member, AdapterMember)]
        if len(adapters) == len(self.members) and all((m.base, m.model) == (adapters[0].base, adapters[0].model) for m in adapters):
            rows = list(score_adapters(adapters, prompts, texts))
        else:
            rows = [np.asarray(member(prompts, texts), np.float64) for member in self.members]
        return np.stack(
            [require_finite(row, len(texts), f"reward member `{member.name}`") for member, row in zip(self.members, rows, strict=True)]
        )


Term = Callable[[Sequence[str], Sequence[Answer]], Floats]
"""A reward term: prompts and answers → one number an answer (n,). Rules, penalties and test rewards are such functions."""


@dataclass(frozen=True, slots=True)
class Weighted:
    """A named term and its weight in the sum."""

    name: str
    term: Term
    weight: float = 1.0


def missing_end(prompts: Sequence[str], answers: Sequence[Answer]) -> Floats:  # noqa: ARG001  # a Term sees both
    """−1 for an answer that was cut off before its end of turn, else 0."""
    return np.array([0.0 if answer.ended else -1.0 for answer in answers])


LENGTH_BAND = 0.25
"""How far from the reference length an answer may be, as a share of it, before the length term counts."""


@dataclass(frozen=True, slots=True)
class Length:
    """−(tokens outside reference · (1 ± LENGTH_BAND)), 0 inside. Length is the easiest thing to exploit, in both directions:
    some reward models love every further sentence, and one that punishes errors is pleased by an answer that says nothing.
    """

    reference_tokens: float

    def __call__(self, prompts: Sequence[str], answers: Sequence[Answer]) -> Floats:  # noqa: ARG002  # a Term sees both
        lengths = np.array([len(answer.ids) for answer in answers], np.float64)
        low, high = (1 - LENGTH_BAND) * self.reference_tokens, (1 + LENGTH_BAND) * self.reference_tokens
        outside: Floats = np.minimum(0.0, lengths - low) + np.minimum(0.0, high - lengths)
        return outside


@dataclass(frozen=True, slots=True)
class Rewarded:
    """total (n,) is what PPO maximises; by_term what each term adds to it; disagreement (n,) the members' standard deviation."""

    total: Floats
    by_term: Mapping[str, Floats]
    disagreement: Floats


@dataclass(frozen=True, slots=True)
class Reward:
    """clip(ensemble, ±clip) + Σ weight·term. Only the learned part is clipped: a penalty always counts.

    Without an ensemble the terms stand alone. The same object serves PPO, GRPO and RLOO.
    """

    ensemble: Ensemble | None
    terms: tuple[Weighted, ...] = ()
    clip: float = 4.0

    def __post_init__(self) -> None:
        if self.ensemble is None and not self.terms:
            raise ConfigError("a reward needs an ensemble or at least one term")

    def __call__(self, prompts: Sequence[str], answers: Sequence[Answer]) -> Rewarded:
        """Raises NotFinite naming the term whose value is not a number."""
        by_term: dict[str, Floats] = {}
        disagreement = np.zeros(len(answers))
        if self.ensemble is not None:
            scores = self.ensemble.score(prompts, [answer.text for answer in answers])
            disagreement = scores.std(0)
            by_term["ensemble"] = np.clip(self.ensemble.combined(scores), -self.clip, self.clip)
        for weighted in self.terms:
            values = require_finite(np.asarray(weighted.term(prompts, answers), np.float64), len(answers), f"reward term `{weighted.name}`")
            by_term[weighted.name] = weighted.weight * values
        return Rewarded(np.sum(list(by_term.values()), 0), by_term, disagreement)


def require_finite(values: Floats, n: int, source: str) -> Floats:
    """Raises ShapeError unless there are n values, NotFinite unless each is a number."""
    if values.shape != (n,):
        raise ShapeError(f"{source} gave an array of shape {values.shape} for {n} answers; one number an answer is needed")
    if not np.isfinite(values).all():
        raise NotFinite(f"{source} is not finite for {int((~np.isfinite(values)).sum())} of {n} answers; the step is not taken")
    return values
