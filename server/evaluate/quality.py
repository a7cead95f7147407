"""How good the models are: held-out loss, reward accuracy, win rate, distance from the SFT model, calibration.

Everything here reads public or synthetic held-out data and DP outputs, never a hospital's vault, so no figure costs ε. A
judge's scores arrive as numbers: whoever judges is unknown to this room, as it is to every model that is judged.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

from common.config import ModelConfig
from common.errors import NotFinite, ShapeError
from common.models import Encoded, SharedBase
from server.evaluate.intervals import Estimate, bootstrap_mean, wilson

Floats = NDArray[np.float64]
CALIBRATED_PROMPTS = 20
"""Fewest prompts among which a temperature is looked for: halves of fewer say nothing of each other."""
LOGIT_ROWS = 256
"""Positions whose logits are held at once: 256 × 49,152 float32 are 50 MB."""


@dataclass(frozen=True, slots=True, repr=False)
class Example:
    """A held-out prompt with its reference answer. Public or synthetic text."""

    prompt: str
    answer: str

    def __repr__(self) -> str:
        return f"Example(<{len(self.prompt) + len(self.answer)} chars>)"


# -- with the model ----------------------------------------------------------------------------------------------------


def sft_losses(base: SharedBase, name: str | None, examples: Sequence[Example], config: ModelConfig, *, tokens: int = 2048) -> Floats:
    """Loss of each example (n,) in nats a token under adapter `name`, or under the bare base for None.

    ℓ_i = −Σ_t log p(y_t | x, y_<t) / T_i over the answer's own tokens, its end-of-turn included: the same number whatever
    else is in the batch. Logits are computed at answer positions only. Raises NotFinite when a loss is not a number.
    """
    encoded = [
        base.encode(e.prompt, e.answer, max_prompt_tokens=config.max_prompt_tokens, max_answer_tokens=config.max_answer_tokens)
        for e in examples
    ]
    losses = np.zeros(len(encoded))
    with torch.inference_mode(), base.using(name):
        for batch in _batches(encoded, tokens):
            before, targets, owners = _answer_positions(base, [encoded[i] for i in batch])
            for rows in _chunks(len(targets)):
                logits = base.logits(before[rows]).float()
                nll = torch.nn.functional.cross_entropy(logits, targets[rows], reduction="none").double().cpu().numpy()
                np.add.at(losses, np.asarray(batch)[owners[rows]], nll)
    losses /= [len(e.ids) - e.prompt_length for e in encoded]
    if not np.isfinite(losses).all():
        raise NotFinite(f"the held-out loss of {int((~np.isfinite(losses)).sum())} of {len(losses)} examples is not finite under `{name}`")
    return losses


def sequence_kl(
    base: SharedBase, policy: str, reference: str | None, rows: Sequence[Encoded], *, temperature: float = 1.0, tokens: int = 2048
) -> Floats:
    """KL(policy ‖ reference) of each sampled answer (n,), in nats a sequence.

    Σ_t KL( π(· | x, y_<t) ‖ π_ref(· | x, y_<t) ), the full vocabulary at each step: when y was drawn from the policy at
    `temperature`, its mean is unbiased for the KL between the two distributions over answers (of the sampled length, at that
    temperature), with far less variance than the difference of two log-probabilities. Never negative.
    """
    if not temperature > 0:
        raise ShapeError(f"temperature is {temperature}; KL is defined for sampling at a temperature above 0")
    kl = np.zeros(len(rows))
    with torch.inference_mode():
        for batch in _batches(rows, tokens):
            of_batch = [rows[i] for i in batch]
            with base.using(policy):
                ours, _, owners = _answer_positions(base, of_batch)
            with base.using(reference):
                theirs, _, _ = _answer_positions(base, of_batch)
            for part in _chunks(len(owners)):
                log_p = torch.log_softmax(base.logits(ours[part]).float() / temperature, -1)
                log_q = torch.log_softmax(base.logits(theirs[part]).float() / temperature, -1)
                each = (log_p.exp() * (log_p - log_q)).sum(-1).clamp_min(0)  # rounding can leave −1e-7 where both agree
                np.add.at(kl, np.asarray(batch)[owners[part]], each.double().cpu().numpy())
    if not np.isfinite(kl).all():
        raise NotFinite(f"the KL of {int((~np.isfinite(kl)).sum())} of {len(kl)} answers is not finite")
    return kl


def _answer_positions(base: SharedBase, rows: Sequence[Encoded]) -> tuple[torch.Tensor, torch.Tensor, NDArray[np.intp]]:
    """Hidden states that predict the answers' tokens (m, hidden), those tokens (m,), and the row each belongs to (m,)."""
    batch = base.pad([r.ids for r in rows])
    hidden = base.hidden(batch)
    owners = np.concatenate([np.full(len(r.ids) - r.prompt_length, i) for i, r in enumerate(rows)])
    places = np.concatenate([np.arange(r.prompt_length, len(r.ids)) for r in rows])
    row, place = torch.as_tensor(owners, device=hidden.device), torch.as_tensor(places, device=hidden.device)
    return hidden[row, place - 1], batch.ids[row, place], owners


def _batches(rows: Sequence[Encoded], tokens: int) -> Iterator[list[int]]:
    """Indices in batches of at most `tokens` padded tokens, rows of like length together."""
    batch: list[int] = []
    for i in sorted(range(len(rows)), key=lambda i: len(rows[i].ids)):
        if batch and (len(batch) + 1) * len(rows[i].ids) > tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _chunks(n: int) -> Iterator[slice]:
    for start in range(0, n, LOGIT_ROWS):
        yield slice(start, start + LOGIT_ROWS)


# -- on numbers --------------------------------------------------------------------------------------------------------


def accuracy(margins: ArrayLike, clusters: Sequence[str] | None = None, rng: np.random.Generator | None = None) -> Estimate:
    """Share of pairs whose chosen answer scores higher; margins (n,) are score(chosen) − score(rejected), 0 counts half.

    Wilson's interval when every pair has its own prompt; with `clusters` naming the prompt of each pair and repeated names,
    a bootstrap over prompts (which needs `rng`), since pairs of one prompt are not independent.
    """
    m = np.asarray(margins, np.float64)
    if m.ndim != 1 or m.size == 0 or not np.isfinite(m).all():
        raise ShapeError(f"accuracy needs at least one finite margin; got shape {m.shape}")
    right = (m > 0) + 0.5 * (m == 0)
    if clusters is not None and len(set(clusters)) < len(clusters):
        if rng is None:
            raise ShapeError("pairs share prompts: pass `rng` for the interval over prompts")
        return bootstrap_mean(right, rng, clusters=clusters)
    return wilson(float(right.sum()), m.size)


def accuracy_by(margins: ArrayLike, groups: Sequence[str]) -> dict[str, Estimate]:
    """Accuracy of the pairs of each group apart (by fault, by site, on-policy or not), with Wilson's interval."""
    m = np.asarray(margins, np.float64)
    if len(groups) != m.size:
        raise ShapeError(f"{m.size} margins but {len(groups)} group names")
    return {g: accuracy(m[[h == g for h in groups]]) for g in sorted(set(groups))}


@dataclass(frozen=True, slots=True)
class RewardQuality:
    """Accuracy of the ensemble and of each member on held-out pairs, apart by group, beside the shallow baselines.

    by: {"on_policy": {"yes": …, "no": …}, "fault": {…}, …}. calibration_error is of the mean margin on the members' own scale,
    calibration_error_after the same once the margins are divided by a temperature; None for pairs of too few prompts.
    """

    ensemble: Estimate
    members: tuple[Estimate, ...]
    by: Mapping[str, Mapping[str, Estimate]]
    baselines: Mapping[str, Estimate]
    calibration_error: float
    temperature: float
    calibration_error_after: float | None

    @property
    def beats_baselines(self) -> bool:
        return all(self.ensemble.value > b.value for b in self.baselines.values())


def reward_quality(
    ensemble: ArrayLike,
    members: ArrayLike,
    *,
    own_scale: ArrayLike,
    groups: Mapping[str, Sequence[str]],
    baselines: Mapping[str, Estimate],
    clusters: Sequence[str] | None = None,
    rng: np.random.Generator | None = None,
) -> RewardQuality:
    """Margins of the ensemble (n,) and of its members (k, n) as one report, beside what baselines reached on the same pairs.

    own_scale (n,): the mean margin in the units of the Bradley–Terry loss, without which calibration means nothing.
    """
    each = np.asarray(members, np.float64)
    if each.ndim != 2:
        raise ShapeError(f"margins of the members have shape {each.shape}; (members, pairs) is needed")
    prompts = clusters if clusters is not None else [str(i) for i in range(np.size(own_scale))]
    return RewardQuality(
        ensemble=accuracy(ensemble, clusters, rng),
        members=tuple(accuracy(m, clusters, rng) for m in each),
        by={name: accuracy_by(ensemble, of) for name, of in groups.items()},
        baselines=dict(baselines),
        calibration_error=calibration_error(own_scale),
        temperature=temperature(own_scale),
        calibration_error_after=calibration_error(calibrated(own_scale, prompts)) if len(set(prompts)) >= CALIBRATED_PROMPTS else None,
    )


def calibration_error(margins: ArrayLike, bins: int = 5) -> float:
    """Expected calibration error of a Bradley–Terry reward on pairs.   Guo et al. 2017, eq. 3, with bins of equal mass.

    The reward says that its favourite wins with probability σ(|margin|); the error is the mean distance of that from how
    often it was right. 0 is perfect; a reward whose scale means nothing (normalised, say) can be accurate and badly calibrated.
    """
    m = np.asarray(margins, np.float64)
    if m.size == 0:
        raise ShapeError("calibration needs at least one margin")
    said = 1 / (1 + np.exp(-np.abs(m)))
    right = (m > 0) + 0.5 * (m == 0)
    parts = np.array_split(np.argsort(said, kind="stable"), min(bins, m.size))
    return float(sum(len(p) * abs(said[p].mean() - right[p].mean()) for p in parts) / m.size)


COLDEST, HOTTEST = 1e-2, 1e3


def temperature(margins: ArrayLike) -> float:
    """The T in [0.01, 1000] that minimises the mean of log(1 + exp(−m/T)): margins divided by it are calibrated.   Guo et al. 2017, §4.2."""
    m = np.asarray(margins, np.float64)
    if m.size == 0:
        raise ShapeError("a temperature needs at least one margin")

    def loss(log_t: float) -> float:
        return float(np.logaddexp(0.0, -m / np.exp(log_t)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded").x))


def calibrated(margins: ArrayLike, clusters: Sequence[str]) -> Floats:
    """Margins (n,) divided by a temperature that none of them helped to choose: pairs are halved by prompt, each half takes the other's."""
    m = np.asarray(margins, np.float64)
    half = np.array([hashlib.sha256(prompt.encode()).digest()[0] % 2 for prompt in clusters])
    if m.shape != half.shape or len(set(half)) < 2:
        raise ShapeError(f"{m.size} margins of {len(set(clusters))} prompts cannot be halved by prompt")
    return np.where(half == 0, m / temperature(m[half == 1]), m / temperature(m[half == 0]))


def win_rate(policy: ArrayLike, sft: ArrayLike) -> Estimate:
    """How often a judge scores the policy's answer above the SFT model's answer to the same prompt; a tie counts half.

    policy, sft (n,): the judge's scores. Wilson's interval, which is on the safe side with ties (see `wilson`).
    """
    p, s = np.asarray(policy, np.float64), np.asarray(sft, np.float64)
    if p.shape != s.shape or p.ndim != 1:
        raise ShapeError(f"the judge's scores have shapes {p.shape} and {s.shape}; one score for each prompt is needed on both sides")
    if not (np.isfinite(p).all() and np.isfinite(s).all()):
        raise NotFinite("a judge's score is not finite")
    return wilson(float((p > s).sum() + 0.5 * (p == s).sum()), p.size)
