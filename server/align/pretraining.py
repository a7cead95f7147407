"""Preference-model pretraining: a reward adapter learns from public pairs at the coordinator, before any hospital is asked.

Hospitals have few expert pairs. On those alone a small model learns little; after public pairs it starts from relevance and
completeness, and the hospitals' own pairs adapt it under differential privacy. Public text alone is read here, so no ε is spent.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own convention
from numpy.typing import NDArray
from torch import Tensor, nn

from common.adapters import HEAD, Adapter, AdapterSpec
from common.config import ModelConfig, RewardConfig
from common.errors import ConfigError, NotFinite
from common.models import SharedBase
from common.progress import Progress, Silent
from server.align.passes import passes, token_batches
from server.align.pretraining_state import PretrainingState, PretrainingStep
from server.align.prompts import derived_seed

_NAME = "pretraining"
WARMUP = 0.05
"""Share of the steps over which the learning rate climbs from 0; it falls back to 0 over the rest."""
SAVED_EVERY = 8
"""Steps between two states on the disk: a kill costs fewer than so many."""
PAIRS_A_PART = 4
"""A step's pairs are cut into parts of so many, whoever computes them: the same sums in one process and in several."""


@dataclass(frozen=True, slots=True, repr=False)
class Pair:
    """A public prompt with a better and a worse answer."""

    prompt: str
    chosen: str
    rejected: str

    def __repr__(self) -> str:
        return f"Pair(<{len(self.prompt) + len(self.chosen) + len(self.rejected)} chars>)"


@dataclass(frozen=True, slots=True)
class Pretrained:
    adapter: Adapter
    steps: tuple[PretrainingStep, ...]


@dataclass(frozen=True, slots=True, repr=False)
class PairPart:
    """Pairs of one step and the adapter as it stands: all that their gradient depends on besides the base."""

    adapter: Adapter
    pairs: Sequence[Pair]
    config: RewardConfig
    model: ModelConfig


@dataclass(frozen=True, slots=True)
class PairGradients:
    """Sums over the pairs of a part: loss, pairs in the right order (a tie counts half), and the gradient of each tensor by name."""

    loss: float
    right: float
    gradients: Mapping[str, NDArray[np.float32]]


Spread = Callable[[Sequence[PairPart]], Iterable[PairGradients]]
"""Computes the parts of a step, here or in other processes, and gives them back in order."""


def pretrain(
    base: SharedBase,
    spec: AdapterSpec,
    pairs: Sequence[Pair],
    config: RewardConfig,
    model: ModelConfig,
    *,
    seed: int,
    spread: Spread | None = None,
    state: Path | None = None,
    progress: Progress | None = None,
) -> Pretrained:
    """One epoch over `pairs` from `spec`'s public start: both LoRA factors and the head, whatever the hospitals will train.

    ℓ = −log σ(r_chosen − r_rejected) + c·(r_chosen² + r_rejected²)/2, averaged over the pairs of a step; AdamW.
    The layers below the adapted ones run once without a graph. The same seed gives the same adapter, wherever `spread` computes.
    With `state`, a file, a run that was killed goes on where that file says; the file stands until the caller removes it.
    Raises ConfigError without pairs or without a head, NotFinite when the loss is no number; the base is left as it was.
    """
    if not pairs:
        raise ConfigError("pretraining has no public pairs; give some or set `reward.pretraining.pairs` to 0")
    if not spec.head:
        raise ConfigError("pretraining needs an adapter with a reward head")
    settings = config.pretraining
    batches = pair_order(len(pairs), settings.pairs_per_step, seed)
    progress = progress or Silent()
    progress.start("pretrain the reward model on public pairs", len(batches))
    base.put(_NAME, spec.initial())
    try:
        parameters = base.parameters(_NAME)
        optimizer = adamw(parameters, config)
        spread = spread or partial(map, partial(pair_gradients, base))
        binding = _binding(base, spec, pairs, config, model, seed)
        found = PretrainingState.load(state, binding) if state is not None else None
        steps: tuple[PretrainingStep, ...] = ()
        if found is not None:
            found.into(parameters, optimizer)
            steps = found.steps
            progress.advance(len(steps))
        for number, batch in enumerate(batches[len(steps) :], len(steps)):
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate(number, len(batches))
            adapter = base.get(_NAME)
            cuts = [batch[start : start + PAIRS_A_PART] for start in range(0, len(batch), PAIRS_A_PART)]
            parts = list(spread([PairPart(adapter, [pairs[i] for i in cut], config, model) for cut in cuts]))
            steps = (*steps, _gather(parameters, parts, len(batch)))
            nn.utils.clip_grad_norm_(parameters.values(), 1.0)
            optimizer.step()
            if state is not None and (len(steps) % SAVED_EVERY == 0 or len(steps) == len(batches)):
                PretrainingState.of(binding, steps, parameters, optimizer).save(state)
            progress.advance()
        progress.note(f"{len(pairs)} public pairs, {np.mean([s.accuracy for s in steps[-5:]]):.0%} in the right order in the last steps")
        return Pretrained(base.get(_NAME), steps)
    finally:
        base.drop(_NAME)


def _binding(base: SharedBase, spec: AdapterSpec, pairs: Sequence[Pair], config: RewardConfig, model: ModelConfig, seed: int) -> str:
    """Names all that a pretraining depends on, in hex."""
    shape = spec.config.model_dump_json(exclude={"factors"})  # both are trained here
    settings = [config.pretraining.model_dump_json(), str(config.centring), str(config.microbatch_tokens), str(PAIRS_A_PART)]
    parts = [base.digest, shape, *settings, str(model.max_prompt_tokens), str(model.max_answer_tokens), str(seed)]
    parts += [text for pair in pairs for text in (pair.prompt, pair.chosen, pair.rejected)]
    return hashlib.sha256("\0".join(hashlib.sha256(part.encode()).hexdigest() for part in parts).encode()).hexdigest()


def pair_order(pairs: int, per_step: int, seed: int) -> list[list[int]]:
    """Indices of each step's pairs: one shuffled epoch."""
    order = np.random.Generator(np.random.PCG64(derived_seed(seed, "pretraining"))).permutation(pairs).tolist()
    return [order[start : start + per_step] for start in range(0, pairs, per_step)]


def rate(step: int, steps: int) -> float:
    """The share of the learning rate that step 0, 1, … takes: up over the first WARMUP of them, then down in a line towards 0."""
    return min((step + 1) / max(1, round(WARMUP * steps)), (steps - step) / steps)


def adamw(parameters: Mapping[str, nn.Parameter], config: RewardConfig) -> torch.optim.AdamW:
    """AdamW without weight decay; adapter and head in groups of their own, each with its `peak` rate."""
    settings = config.pretraining
    lora = [parameter for name, parameter in parameters.items() if name != HEAD]
    return torch.optim.AdamW(
        [
            {"params": lora, "lr": settings.learning_rate, "peak": settings.learning_rate},
            {"params": [parameters[HEAD]], "lr": settings.head_learning_rate, "peak": settings.head_learning_rate},
        ],
        weight_decay=0.0,
    )


def pair_gradients(base: SharedBase, part: PairPart) -> PairGradients:
    """Loss and gradient of a part, in batches of whole pairs within the token budget. `part.adapter` stays on the base, not trainable."""
    base.put(_NAME, part.adapter)
    parameters = base.parameters(_NAME)
    for parameter in parameters.values():
        parameter.requires_grad_(True)
        parameter.grad = None
    bounds = {"max_prompt_tokens": part.model.max_prompt_tokens, "max_answer_tokens": part.model.max_answer_tokens}
    shape = part.adapter.spec.config
    chosen = [base.encode_for(shape, pair.prompt, pair.chosen, **bounds) for pair in part.pairs]
    rejected = [base.encode_for(shape, pair.prompt, pair.rejected, **bounds) for pair in part.pairs]
    longest = [2 * max(len(c.ids), len(r.ids)) for c, r in zip(chosen, rejected, strict=True)]
    loss_sum, right = 0.0, 0.0
    for batch in token_batches(longest, part.config.microbatch_tokens):
        rows = [chosen[i] for i in batch] + [rejected[i] for i in batch]
        with passes(base, _NAME, gradients=True):
            (scores,) = base.rewards([_NAME], rows)
            better, worse = scores[: len(batch)], scores[len(batch) :]
            loss = pair_loss(better, worse, part.config.centring) * len(batch)
        if not bool(torch.isfinite(loss)):
            raise NotFinite("the loss of pretraining is not finite; lower `reward.pretraining.learning_rate`")
        loss.backward()
        loss_sum += float(loss.detach())
        right += float((better > worse).float().sum() + 0.5 * (better == worse).float().sum())
    gradients = {}
    for name, parameter in parameters.items():
        assert parameter.grad is not None
        gradients[name] = parameter.grad.numpy(force=True)
        parameter.requires_grad_(False)
        parameter.grad = None
    return PairGradients(loss_sum, right, gradients)


def _gather(parameters: Mapping[str, nn.Parameter], parts: Sequence[PairGradients], pairs: int) -> PretrainingStep:
    """Sets each parameter's gradient to the mean over the step's pairs, summed in the order of the parts."""
    for name, parameter in parameters.items():
        total = np.sum([part.gradients[name] for part in parts], axis=0, dtype=np.float32)
        parameter.requires_grad_(True)
        parameter.grad = torch.from_numpy(total / np.float32(pairs)).to(parameter.device)
    return PretrainingStep(sum(part.loss for part in parts) / pairs, sum(part.right for part in parts) / pairs)


def pair_loss(better: Tensor, worse: Tensor, centring: float) -> Tensor:
    """Mean of −log σ(b − w) + c·(b² + w²)/2 over pairs.   Bradley and Terry 1952; the second term keeps scores near 0."""
    return (-F.logsigmoid(better - worse) + centring * (better.square() + worse.square()) / 2).mean()
