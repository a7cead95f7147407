"""The gradient side of PPO: epochs of mini-batches over one batch of answers, in micro-batches that fit the token budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from common.config import PPOConfig
from common.errors import NotFinite
from common.models import Encoded, SharedBase
from server.align.advantages import Floats
from server.align.experience import POLICY, VALUE, Experience, ValueHead
from server.align.logprobs import answer_positions, chosen_logprobs, chosen_logprobs_and_entropy
from server.align.passes import passes, token_batches
from server.align.prompts import derived_seed


@dataclass(frozen=True, slots=True)
class Targets:
    """What the update aims at, (rows, time) each: whitened advantages and returns."""

    advantages: Floats
    returns: Floats


def policy_loss(logp: Tensor, old: Tensor, advantages: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """`advantages.policy_objective` on flat tensors with gradients: the loss of each token and whether the clip acted on it."""
    ratio = torch.exp(logp - old)
    bounded = ratio.clamp(1 - clip, 1 + clip)
    return -torch.minimum(ratio * advantages, bounded * advantages), (bounded * advantages < ratio * advantages).detach()


def value_loss(values: Tensor, old: Tensor, returns: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """`advantages.value_objective` on flat tensors with gradients: the loss of each token and whether the clip acted on it."""
    free = (values - returns).square()
    held = (old + (values - old).clamp(-clip, clip) - returns).square()
    return 0.5 * torch.maximum(free, held), (held > free).detach()


def update(
    base: SharedBase,
    experience: Experience,
    targets: Targets,
    value: ValueHead,
    optimizer: torch.optim.Optimizer,
    config: PPOConfig,
    *,
    seed: int,
    examples: Sequence[Encoded] = (),
) -> Mapping[str, float]:
    """`config.epochs` passes over the batch; moves policy and value parameters. Returns means over all of it, of each step's figures.

    The loss is a mean over the tokens of a mini-batch, so micro-batches change nothing but memory. `examples` are public answers whose
    likelihood is kept up (PPO-ptx; Ouyang et al. 2022, eq. 2), drawn anew for each mini-batch.
    Raises NotFinite before a step whose gradient is no number; what was taken before stays.
    """
    draws = np.random.Generator(np.random.PCG64(derived_seed(seed, "minibatches")))
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    rows: list[Mapping[str, float]] = []
    for _ in range(config.epochs):
        order = draws.permutation(len(experience.rows))
        for start in range(0, len(order), config.minibatch):
            chosen = order[start : start + config.minibatch].tolist()
            optimizer.zero_grad(set_to_none=True)
            figures = _backward(base, experience, targets, value, config, chosen)
            if config.ptx_coefficient > 0:
                drawn = draws.choice(len(examples), size=min(len(chosen), len(examples)), replace=False)
                figures["ptx_loss"] = _backward_examples(base, [examples[i] for i in drawn], config)
            norm = float(nn.utils.clip_grad_norm_(parameters, config.max_grad_norm))
            if not np.isfinite(norm):
                raise NotFinite("the gradient of a PPO step is not finite; lower `ppo.learning_rate` or look at the reward terms")
            optimizer.step()
            rows.append({**figures, "gradient_norm": norm})
    optimizer.zero_grad(set_to_none=True)
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def _backward(
    base: SharedBase, experience: Experience, targets: Targets, value: ValueHead, config: PPOConfig, minibatch: Sequence[int]
) -> dict[str, float]:
    """Gradients of the clipped objectives over one mini-batch, and its figures."""
    total = float(experience.mask[minibatch].sum())
    sums = dict.fromkeys(("policy_loss", "value_loss", "clipped", "value_clipped", "step_kl"), 0.0)
    head = base.lm.get_output_embeddings()
    assert head is not None
    own_trunk = config.value_trunk == "own"
    for micro in token_batches([len(experience.rows[i].ids) for i in minibatch], config.microbatch_tokens):
        of = [minibatch[i] for i in micro]
        rows = [experience.rows[i] for i in of]
        real = experience.mask[of].astype(bool)

        def flat(array: Floats, of: Sequence[int] = of, real: np.ndarray = real) -> Tensor:
            return torch.as_tensor(array[of][real], dtype=torch.float32, device=base.device)

        with passes(base, POLICY, gradients=True):
            hidden, tokens = answer_positions(base, rows)
            if config.entropy_coefficient > 0:
                logp, entropy = chosen_logprobs_and_entropy(head, hidden, tokens, temperature=config.temperature)
            else:
                logp, entropy = chosen_logprobs(head, hidden, tokens, temperature=config.temperature), hidden.new_zeros(1)
            policy_each, clipped = policy_loss(logp, flat(experience.logp), flat(targets.advantages), config.clip_ratio)
            loss = policy_each.sum() - config.entropy_coefficient * entropy.sum()
            if not own_trunk:
                value_each, held = value_loss(value(hidden), flat(experience.values), flat(targets.returns), config.clip_value)
                loss = loss + config.value_coefficient * value_each.sum()
        (loss / total).backward()
        if own_trunk:
            with passes(base, VALUE, gradients=True):
                value_each, held = value_loss(
                    value(answer_positions(base, rows)[0]), flat(experience.values), flat(targets.returns), config.clip_value
                )
            (config.value_coefficient * value_each.sum() / total).backward()
        with torch.no_grad():
            log_ratio = flat(experience.logp) - logp
            measured = (policy_each, value_each, clipped, held, torch.expm1(log_ratio) - log_ratio)
            for key, each in zip(sums, measured, strict=True):
                sums[key] += float(each.sum()) / total
    return sums


def _backward_examples(base: SharedBase, examples: Sequence[Encoded], config: PPOConfig) -> float:
    """Gradients of `ptx_coefficient` times the mean loss a token over public examples; returns that loss, in nats a token."""
    total = sum(len(example.ids) - example.prompt_length for example in examples)
    head = base.lm.get_output_embeddings()
    assert head is not None
    nats = 0.0
    for micro in token_batches([len(example.ids) for example in examples], config.microbatch_tokens):
        with passes(base, POLICY, gradients=True):
            hidden, tokens = answer_positions(base, [examples[i] for i in micro])
            loss = -chosen_logprobs(head, hidden, tokens).sum() / total
        (config.ptx_coefficient * loss).backward()
        nats += float(loss.detach())
    return nats
