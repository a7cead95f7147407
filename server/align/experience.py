"""What one batch of sampled answers is worth: rewards, log-probabilities under policy and reference, their KL, values."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from common.config import PPOConfig
from common.models import Encoded, SharedBase
from server.align.logprobs import against_reference, answer_positions, chosen_logprobs_and_entropy
from server.align.passes import passes, token_batches
from server.align.rewards import Reward, Rewarded, RunningScale
from server.align.rollout import Answer, sample_ids, stop_ids

Floats = NDArray[np.float64]
POLICY, VALUE = "policy", "value"
"""The adapters that PPO trains on the shared base; `value` only when the value function has a trunk of its own."""

Clock = Callable[[], float]


@dataclass(slots=True)
class Stopwatch:
    """CPU seconds by phase of a step; the clock is an argument, so that a test can hold it still."""

    clock: Clock = time.process_time
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = self.clock()
        yield
        self.seconds[phase] = self.seconds.get(phase, 0.0) + self.clock() - start


@dataclass(frozen=True, slots=True)
class ValueHead:
    """V = w·h + b on the hidden state before a token. Both start at 0: the first advantages are the plain returns."""

    weight: nn.Parameter
    bias: nn.Parameter

    @classmethod
    def zeros(cls, base: SharedBase) -> "ValueHead":
        return cls(
            nn.Parameter(torch.zeros(base.hidden_size, device=base.device), requires_grad=False),
            nn.Parameter(torch.zeros(1, device=base.device), requires_grad=False),
        )

    def __call__(self, hidden: Tensor) -> Tensor:
        """hidden (m, hidden_size) → (m,), float32 whatever autocast says: values are small differences."""
        with torch.autocast(hidden.device.type, enabled=False):
            return hidden.float() @ self.weight + self.bias


@dataclass(frozen=True, slots=True)
class Experience:
    """A batch of answers as PPO reads it. Arrays are (rows, time), right-padded; mask is 1 on the answer's own tokens, its end included.

    logp, reference  log-probability of each token under the policy and under its reference
    kl               KL(policy ‖ reference) over the whole vocabulary where the token was drawn, in nats
    """

    prompts: tuple[str, ...]
    rows: tuple[Encoded, ...]
    answers: tuple[Answer, ...]
    rewarded: Rewarded
    mask: Floats
    logp: Floats
    reference: Floats
    kl: Floats
    values: Floats
    entropy: float


def collect(
    base: SharedBase,
    prompts: Sequence[str],
    reward: Reward,
    value: ValueHead,
    config: PPOConfig,
    *,
    reference: str,
    max_prompt_tokens: int,
    seed: int,
    watch: Stopwatch,
    running: RunningScale | None = None,
) -> Experience:
    """Let the policy answer, and score what it wrote. Log-probabilities are those at the sampling temperature."""
    starts = [base.encode_prompt(prompt, max_prompt_tokens) for prompt in prompts]
    with watch("generate"):
        answers = sample_ids(
            base, POLICY, starts, max_new_tokens=config.max_new_tokens, temperature=config.temperature,
            top_p=config.top_p, seed=seed, batch_size=len(starts), stop_ids=stop_ids(base, config.stop_tokens),
        )  # fmt: skip
    rows = tuple(Encoded((*start, *answer.ids), len(start)) for start, answer in zip(starts, answers, strict=True))
    with watch("reward"):
        rewarded = reward(prompts, answers, running)
    read, mask = read_back(base, rows, value, config, reference=reference, watch=watch), mask_of(rows)
    entropy = float((read["entropy"] * mask).sum() / mask.sum())
    return Experience(
        tuple(prompts), rows, tuple(answers), rewarded, mask, read["logp"], read["reference"], read["kl"], read["values"], entropy
    )


def mask_of(rows: Sequence[Encoded]) -> Floats:
    """(rows, time): 1 on each row's answer tokens, from their counts."""
    lengths = np.array([len(row.ids) - row.prompt_length for row in rows])
    return (np.arange(lengths.max()) < lengths[:, None]).astype(np.float64)


def read_back(
    base: SharedBase, rows: Sequence[Encoded], value: ValueHead, config: PPOConfig, *, reference: str, watch: Stopwatch
) -> Mapping[str, Floats]:
    """Of the answers' tokens: `logp` and `entropy` under the policy, `reference` and `kl` against that adapter, and `values`.

    Each (rows, time), 0 on padding.
    """
    mask, own_trunk = mask_of(rows).astype(bool), config.value_trunk == "own"
    found = {name: np.zeros(mask.shape) for name in ("logp", "entropy", "reference", "kl", "values")}
    head = base.lm.get_output_embeddings()
    assert head is not None
    for batch in token_batches([len(row.ids) for row in rows], config.microbatch_tokens):
        of, each = [rows[i] for i in batch], dict[str, Tensor]()
        with watch("score"), _reading(base, POLICY):
            hidden, chosen = answer_positions(base, of)
            each["logp"], each["entropy"] = chosen_logprobs_and_entropy(head, hidden, chosen, temperature=config.temperature)
            if not own_trunk:
                each["values"] = value(hidden)
        with watch("reference"), _reading(base, reference):
            theirs, _ = answer_positions(base, of)
            each["reference"], each["kl"] = against_reference(head, hidden, theirs, chosen, temperature=config.temperature)
        if own_trunk:
            with watch("value"), _reading(base, VALUE):
                each["values"] = value(answer_positions(base, of)[0])
        of_batch = np.zeros_like(mask)
        of_batch[batch] = mask[batch]
        # The batch holds its rows by length, the arrays hold them as they came: flat positions are dealt back row by row.
        places = np.concatenate([np.flatnonzero(of_batch[i]) + i * mask.shape[1] for i in batch])
        for name, tensor in each.items():
            found[name].ravel()[places] = tensor.double().cpu().numpy()
    return found


@contextmanager
def _reading(base: SharedBase, adapter: str) -> Iterator[None]:
    # Attention as in training, so that the first ratio of the update is 1 and not 1 plus rounding.
    with passes(base, adapter, fused=False), torch.inference_mode():
        yield
