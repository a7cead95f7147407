"""The process that does TRL 1.12's PPO steps for `ppo.py`; it runs with that release's folder first in its path.

TRL's loop is left as it is: a callback at the end of each of its steps reports and waits to be asked for the next.
"""

import importlib
import importlib.metadata
import json
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, TrainerCallback

from common.bases import load_base
from simulations.bench.ppo_child import (
    EPOCHS,
    LEARNING_RATE,
    RANK,
    TARGETS,
    TEMPERATURE,
    VALUE_COEFFICIENT,
    Answer,
    answering,
    peak_mb,
    prompts,
)


class Turns(TrainerCallback):
    """Reports each step and waits for the next; phases are filled in by the timed functions."""

    def __init__(self, answer: Answer, tokens: int) -> None:
        self._answer, self._tokens = answer, tokens
        self.phases: dict[str, float] = {}
        self._began = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._answer({"ready": True})
        self._wait()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        cpu = time.process_time() - self._began
        phases = {**self.phases, "update": cpu - sum(self.phases.values())}
        self._answer({"cpu": cpu, "phases": phases, "peak_mb": peak_mb(), "tokens": self._tokens})
        self._wait()

    def _wait(self) -> None:
        if not sys.stdin.readline():
            sys.exit(0)
        self.phases.clear()
        self._began = time.process_time()

    def timed(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, with its CPU time without gradients booked under `phase`; the update calls the same ones with gradients."""

        def measured(*arguments: Any, **named: Any) -> Any:
            if torch.is_grad_enabled():
                return function(*arguments, **named)
            began = time.process_time()
            try:
                return function(*arguments, **named)
            finally:
                self.phases[phase] = self.phases.get(phase, 0.0) + time.process_time() - began

        return measured


def trainer_of(asked: dict[str, Any], callback: Turns, folder: str) -> Any:
    """TRL's trainer in the layout that was asked for."""
    module = importlib.import_module("trl.experimental.ppo.ppo_trainer")
    config = importlib.import_module("trl.experimental.ppo").PPOConfig
    for phase, name in (("generate", "batch_generation"), ("score", "forward"), ("reward", "get_reward")):
        setattr(module, name, callback.timed(phase, getattr(module, name)))
    base = load_base(asked["base"])
    place, tokenizer = str(base.lm.name_or_path), base.tokenizer
    tokenizer.padding_side = "left"
    rows = [{"input_ids": base.encode_prompt(prompt, 64)} for prompt in prompts(asked["prompts"])]
    del base
    lora = asked["layout"] != "trl_four_models"
    dtype = torch.bfloat16 if asked["layout"] == "trl_lora_bf16" else torch.float32

    def scorer() -> Any:
        model = AutoModelForSequenceClassification.from_pretrained(place, num_labels=1, dtype=dtype, local_files_only=True)
        return get_peft_model(model, _lora("SEQ_CLS")) if lora else model

    def writer() -> Any:
        return AutoModelForCausalLM.from_pretrained(place, dtype=dtype, local_files_only=True)

    settings = config(
        output_dir=folder, per_device_train_batch_size=asked["prompts"], gradient_accumulation_steps=1, num_mini_batches=1,
        num_ppo_epochs=EPOCHS, total_episodes=asked["prompts"] * (asked["steps"] + 2), response_length=asked["new_tokens"],
        temperature=TEMPERATURE, learning_rate=LEARNING_RATE, vf_coef=VALUE_COEFFICIENT, kl_coef=0.05,
        stop_token="eos",  # noqa: S106  # a word of TRL's, no secret
        missing_eos_penalty=1.0, local_rollout_forward_batch_size=asked["prompts"], num_sample_generations=0, bf16=True, use_cpu=True,
        report_to="none", save_strategy="no", disable_tqdm=True, gradient_checkpointing=False,
    )  # fmt: skip
    value = scorer()
    value.base_model_prefix = getattr(value, "base_model_prefix", "model")
    return module.PPOTrainer(
        settings, tokenizer, writer(), None if lora else writer(), scorer(), Dataset.from_list(rows), value,
        peft_config=_lora("CAUSAL_LM") if lora else None, callbacks=[callback],
    )  # fmt: skip


def _lora(task: str) -> LoraConfig:
    return LoraConfig(r=RANK, lora_alpha=2 * RANK, lora_dropout=0.0, target_modules=list(TARGETS), task_type=task)


def main() -> None:
    asked = json.loads(sys.argv[1])
    answer = answering()
    if importlib.metadata.version("trl") != "1.12.0":
        sys.exit(f"TRL {importlib.metadata.version('trl')} stands before 1.12.0 in the path")
    turns = Turns(answer, asked["prompts"] * asked["new_tokens"])
    with tempfile.TemporaryDirectory() as folder:
        trainer_of(asked, turns, folder).train()


if __name__ == "__main__":
    main()
