"""AI feedback: the SFT model judges pairs by written principles (Bai et al. 2022), as a labelled source of preferences.

What comes out is an `AiPreference` that names its source: model and principles by digest. It is another type than the `Preference` of a
clinician, which never leaves a hospital, and what is trained on it gets a registry line of its own, `reward-ai`, whose figures say so.

Protects against: machine judgements that pass for clinicians', and a judge that prefers whatever stands first: both orders are asked.
Does not protect against: a model that does not understand the principles; at 135 M parameters its verdicts are near chance.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from common.adapters import Adapter
from common.config import ModelConfig, Stage
from common.errors import ConfigError
from common.journal import JSON
from common.models import SharedBase
from common.progress import Progress
from server.align.members import SCORING_TOKENS
from server.align.passes import passes, token_batches
from server.align.pretraining import Pair, pretrain
from server.align.prompts import derived_seed
from server.registry import Version
from server.run_folder import RunFolder

Floats = NDArray[np.float64]
AI_REWARD = "reward-ai"
"""The registry line of the reward member that learns from AI feedback."""
LETTERS = ("A", "B")


@dataclass(frozen=True, slots=True, repr=False)
class AiPreference:
    """A pair as a model judged it. margin is log p(chosen) − log p(rejected), averaged over principles and both orders: above 0."""

    pair: Pair
    margin: float
    source: str

    def __repr__(self) -> str:
        return f"AiPreference({self.pair!r}, {self.source})"


def source_of(model: str, model_digest: str, principles: Sequence[str]) -> str:
    """Such as "ai:sft:1f0c…:9a3b…": what judged, and by which principles."""
    written = hashlib.sha256("\0".join(principles).encode()).hexdigest()
    return f"ai:{model}:{model_digest[:12]}:{written[:12]}"


def ai_preferences(
    base: SharedBase, model: str, pairs: Sequence[Pair], principles: Sequence[str], config: ModelConfig, *, least_margin: float = 0.0
) -> list[AiPreference]:
    """The pairs of public answers with the one that adapter `model` prefers as chosen; which one came as chosen is not told to it.

    Pairs whose margin is not above `least_margin` are left out. Raises ConfigError without principles.
    """
    if not principles:
        raise ConfigError("a constitution needs at least one principle; write some into `reward.constitution`")
    margins = np.zeros(len(pairs))
    for principle in principles:
        forward = _first_wins(base, model, [_question(p, p.chosen, p.rejected, principle) for p in pairs], config)
        backward = _first_wins(base, model, [_question(p, p.rejected, p.chosen, principle) for p in pairs], config)
        margins += (forward - backward) / (2 * len(principles))
    source = source_of(model, base.get(model).digest, principles)
    found = []
    for pair, margin in zip(pairs, margins.tolist(), strict=True):
        if abs(margin) > least_margin:
            chosen = pair if margin > 0 else Pair(pair.prompt, pair.rejected, pair.chosen)
            found.append(AiPreference(chosen, abs(margin), source))
    return found


def train_ai_member(run: RunFolder, base: SharedBase, pairs: Sequence[Pair], *, progress: Progress | None = None) -> Version:
    """Let the SFT model judge `pairs` by the study's constitution, train a reward member on its verdicts, and register it as `reward-ai`.

    Returns at once when it is registered. Raises ConfigError when the model has no preference at all.
    """
    study, sft = run.study, run.registry.latest(Stage.SFT.value)
    done = run.registry.find(AI_REWARD)
    if done is not None and done.parents == (sft.name,):
        return done
    base.put(Stage.SFT.value, Adapter.load(sft.folder))
    judged = ai_preferences(base, Stage.SFT.value, pairs, study.reward.constitution, study.model)
    if not judged:
        raise ConfigError("the SFT model prefers no answer by `reward.constitution`; write other principles, or none")
    spec = base.spec(study.reward.adapter, head=True)
    seed = derived_seed(study.seed, AI_REWARD)
    learned = pretrain(base, spec, [one.pair for one in judged], study.reward, study.model, seed=seed, progress=progress)
    agreed = float(np.mean([one.pair in set(pairs) for one in judged]))
    figures: dict[str, JSON] = {
        "source": judged[0].source, "pairs": len(judged), "agreement_with_public_pairs": agreed, "accuracy": learned.steps[-1].accuracy,
    }  # fmt: skip
    return run.registry.put(AI_REWARD, learned.adapter.save, parents=[sft], figures=figures)


def _question(pair: Pair, first: str, second: str, principle: str) -> str:
    return f"Which answer {principle}?\nQuestion: {pair.prompt}\nAnswer A: {first}\nAnswer B: {second}\nReply with A or B."


def _first_wins(base: SharedBase, model: str, questions: Sequence[str], config: ModelConfig) -> Floats:
    """log p("A") − log p("B") as the first token of the reply (n,)."""
    letters = [base.tokenizer(letter, add_special_tokens=False).input_ids[0] for letter in LETTERS]
    room = config.max_prompt_tokens + 2 * config.max_answer_tokens + 64
    rows = [base.encode_prompt(question, room) for question in questions]
    found = np.zeros(len(rows))
    for batch in token_batches([len(row) for row in rows], SCORING_TOKENS):
        padded = base.pad([rows[i] for i in batch])
        with passes(base, model), torch.inference_mode():
            last = base.hidden(padded)[torch.arange(len(batch), device=base.device), padded.lengths - 1]
            logits = base.logits(last).float()
        found[batch] = (logits[:, letters[0]] - logits[:, letters[1]]).double().cpu().numpy()
    return found
