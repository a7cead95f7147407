"""GRPO, RLOO and DPO through TRL, from the same SFT adapter and, for the first two, on the same reward as PPO.

GRPO and RLOO need no value function: several answers to one prompt are each other's baseline. DPO needs no reward model: it learns
from public pairs. TRL has no PPO since its release 1.13, which is why PPO is written out in `ppo.py`.

TRL gets a copy of the base of its own (it changes what it is given), so this costs a second base in memory, in float32.
TRL is imported inside the functions: it takes seconds.
"""

import contextlib
import importlib
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel
from transformers import PrinterCallback

from common.adapters import Adapter
from common.config import StudyConfig
from common.errors import ConfigError
from common.models import SharedBase
from server.align.decoder import merged_copy
from server.align.ppo import policy_start
from server.align.pretraining import Pair
from server.align.rewards import Reward
from server.align.rollout import Answer

_ADAPTER = "default"
"""The name under which TRL trains an adapter; its frozen copy, the reference, is `ref`."""


@dataclass(frozen=True, slots=True)
class Aligned:
    """The policy and TRL's own log: one mapping of numbers a step."""

    policy: Adapter
    log: tuple[Mapping[str, float], ...]


def group_relative(
    study: StudyConfig,
    base: SharedBase,
    sft: str,
    prompts: Sequence[str],
    reward: Reward,
    *,
    algorithm: Literal["grpo", "rloo"] = "grpo",
    answers_per_prompt: int = 4,
) -> Aligned:
    """GRPO (Shao et al. 2024) or RLOO (Ahmadian et al. 2024) from adapter `sft` on the base, with PPO's own settings.

    A step takes `ppo.prompts_per_step` answers in groups of `answers_per_prompt`; β is `ppo.kl_coefficient` and stays fixed.
    Raises ConfigError when the answers of a step do not fall into whole groups, NotFinite when a reward is no number.
    """
    config = study.ppo
    if answers_per_prompt < 2 or config.prompts_per_step % answers_per_prompt:
        raise ConfigError(
            f"{config.prompts_per_step} answers a step do not make groups of {answers_per_prompt}; choose a divisor of `ppo.prompts_per_step` of at least 2"
        )
    if len(prompts) * answers_per_prompt < config.prompts_per_step:
        raise ConfigError(f"{len(prompts)} prompts are too few for a step of {config.prompts_per_step // answers_per_prompt}")
    trl = _trl()

    def score(prompts: Sequence[str], completion_ids: Sequence[Sequence[int]], question: Sequence[str], **_: Any) -> list[float]:  # noqa: ARG001  # TRL passes all by name
        answers = [Answer(base.decode(ids), tuple(ids), base.end_id in ids) for ids in completion_ids]
        return [float(value) for value in reward(question, answers).total]

    shared: dict[str, Any] = {
        "max_steps": config.steps * config.epochs,  # TRL counts updates; a batch of answers serves `num_iterations` of them
        "per_device_train_batch_size": config.prompts_per_step,
        "num_generations": answers_per_prompt,
        "max_completion_length": config.max_new_tokens,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "num_iterations": config.epochs,
        "epsilon": config.clip_ratio,
        "beta": config.kl_coefficient,
    }
    rows = [{"prompt": _text_of(base, prompt, study), "question": prompt} for prompt in prompts]

    def trainer(model: PeftModel, folder: Path, dataset: Any) -> Any:
        arguments = shared | _arguments(study, base, folder)
        make, settings = (trl.GRPOTrainer, trl.GRPOConfig) if algorithm == "grpo" else (trl.RLOOTrainer, trl.RLOOConfig)
        return make(model, score, settings(**arguments), train_dataset=dataset, processing_class=base.tokenizer)

    return _train(base, sft, rows, trainer)


def preference_optimisation(
    study: StudyConfig, base: SharedBase, sft: str, pairs: Sequence[Pair], *, beta: float = 0.1, pairs_per_step: int = 8
) -> Aligned:
    """DPO (Rafailov et al. 2023, eq. 7) on public pairs from adapter `sft`, for `ppo.steps` steps at `ppo.learning_rate`.

    Public pairs only: hospitals' pairs never leave them, and a gradient of theirs would need the private step.
    Raises ConfigError without pairs.
    """
    if not pairs:
        raise ConfigError("DPO has no public pairs")
    trl = _trl()
    bound = study.model.max_answer_tokens - 1
    rows = [
        {"prompt": _text_of(base, p.prompt, study), "chosen": _cut(base, p.chosen, bound), "rejected": _cut(base, p.rejected, bound)}
        for p in pairs
    ]

    def trainer(model: PeftModel, folder: Path, dataset: Any) -> Any:
        arguments = {
            "max_steps": study.ppo.steps,
            "per_device_train_batch_size": pairs_per_step,
            "beta": beta,
            "max_length": study.model.max_prompt_tokens + study.model.max_answer_tokens,
        }
        settings = trl.DPOConfig(**(arguments | _arguments(study, base, folder)))
        return trl.DPOTrainer(model, args=settings, train_dataset=dataset, processing_class=base.tokenizer)

    return _train(base, sft, rows, trainer)


def _trl() -> Any:
    """TRL, whose names mypy cannot follow: it loads them when they are asked for."""
    return importlib.import_module("trl")


def _train(base: SharedBase, sft: str, rows: Sequence[Mapping[str, str]], make: Callable[[PeftModel, Path, Any], Any]) -> Aligned:
    """Run one of TRL's trainers on a copy of the base with the SFT adapter made trainable, and read the adapter back."""
    from datasets import Dataset

    start = policy_start(base.get(sft))
    # DeepSpeed, which TRL loads on the way, logs to standard output; that is the caller's.
    with tempfile.TemporaryDirectory(prefix="wardround-") as name, contextlib.redirect_stdout(sys.stderr):
        folder = Path(name)
        start.save(folder / "start")
        copy = merged_copy(base, None, torch.float32)
        model = PeftModel.from_pretrained(copy, folder / "start", adapter_name=_ADAPTER, is_trainable=True)
        trainer = make(model, folder / "trainer", Dataset.from_list([dict(row) for row in rows]))
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        log = tuple({k: float(v) for k, v in row.items() if isinstance(v, int | float)} for row in trainer.state.log_history)
    return Aligned(_read_back(model, start), log)


def _read_back(model: PeftModel, start: Adapter) -> Adapter:
    parameters = dict(model.named_parameters())
    tensors = {
        name: parameters[name.replace(".weight", f".{_ADAPTER}.weight")].detach().float().cpu().numpy().copy() for name in start.tensors
    }
    return replace(start, tensors=tensors)


def _arguments(study: StudyConfig, base: SharedBase, folder: Path) -> dict[str, Any]:
    """What all trainers are told: no reports, no checkpoints, no progress bar of their own."""
    return {
        "output_dir": str(folder),
        "learning_rate": study.ppo.learning_rate,
        "max_grad_norm": study.ppo.max_grad_norm,
        "lr_scheduler_type": "constant",
        "seed": study.seed,
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": base.device.type == "cpu",
        "bf16": False,
        "gradient_checkpointing": False,
    }


def _text_of(base: SharedBase, prompt: str, study: StudyConfig) -> str:
    """The prompt in the chat format of `SharedBase.encode_prompt`, as text: TRL encodes for itself, and must come to the same ids."""
    ids = base.encode_prompt(prompt, study.model.max_prompt_tokens)
    text = str(base.tokenizer.decode(ids, skip_special_tokens=False))
    if list(base.tokenizer(text).input_ids) != ids:
        raise ConfigError(f"the tokenizer of base model `{base.name}` does not read back what it wrote; TRL cannot be used with it")
    return text


def _cut(base: SharedBase, answer: str, tokens: int) -> str:
    """The answer's first tokens; TRL adds the end of turn."""
    return str(base.tokenizer.decode(base.tokenizer(answer, add_special_tokens=False).input_ids[:tokens]))
