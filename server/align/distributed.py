"""Preference-model pretraining on several processes, through accelerate: DeepSpeed ZeRO-2, ZeRO-3, or one process.

    accelerate launch --config_file configs/deepspeed/zero2.yaml -m server.align.distributed STUDY.toml PAIRS.jsonl OUT

Each process takes its share of every step's pairs; the losses are those of `pretraining.pretrain` in one process, to rounding.
PAIRS.jsonl holds lines {"prompt", "chosen", "rejected"} of public text. Losses go to standard output, one JSON line a step,
and the adapter into OUT.
"""

import argparse
import contextlib
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.adapters import HEAD, Adapter
from common.bases import load_base
from common.config import StudyConfig, load_study
from common.errors import ConfigError, NotFinite
from common.models import Padded, SharedBase
from server.align.pretraining import Pair, adamw, pair_loss, pair_order, rate
from server.public_texts import read_pairs

_NAME = "pretraining"


class PairScorer(nn.Module):
    """The base with one reward adapter, as the module that DeepSpeed shards: rows of tokens → scores."""

    def __init__(self, base: SharedBase) -> None:
        super().__init__()
        self.lm = base.lm
        self.head = base.heads[_NAME]

    def forward(self, ids: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
        positions = (mask.cumsum(1) - 1).clamp_min(0)
        hidden = self.lm.base_model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).last_hidden_state
        at_end = hidden[torch.arange(len(ids), device=ids.device), lengths - 1]
        scores: Tensor = (at_end.float() * self.head.float()).sum(-1)
        return scores


def pretrain_distributed(study: StudyConfig, pairs: Sequence[Pair]) -> tuple[Adapter | None, list[float]]:
    """Pretrain `study.reward`'s adapter on `pairs` with the processes that accelerate started.

    Returns the adapter, on the main process only, and the loss of each step over all its pairs. Raises ConfigError unless the
    processes can share every step evenly (an uneven share would weigh some pairs more than others), and for a reward that reads the question.
    """
    if study.reward.adapter.reads != "answer":
        raise ConfigError(
            'several processes train a reward that is read at the answer; set `reward.adapter.reads = "answer"`, or use one process'
        )
    accelerator = accelerator_of_this_machine()
    world, rank = accelerator.num_processes, accelerator.process_index
    config, per_step = study.reward, study.reward.pretraining.pairs_per_step
    if per_step % world or len(pairs) % per_step:
        raise ConfigError(
            f"{len(pairs)} pairs in steps of {per_step} do not fall evenly to {world} processes; "
            f"`reward.pretraining.pairs_per_step` must be a multiple of {world} and the number of pairs a multiple of it"
        )
    base = load_base(study.model.base, study.model.dtype)
    spec = base.spec(config.adapter, head=True)
    base.put(_NAME, spec.initial())
    parameters = base.parameters(_NAME)
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    if accelerator.state.deepspeed_plugin is not None:
        accelerator.state.deepspeed_plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = per_step // world
    model, optimizer = accelerator.prepare(PairScorer(base), adamw(parameters, config))
    batches = pair_order(len(pairs), per_step, study.seed)
    losses = []
    for number, batch in enumerate(batches):
        share = [pairs[i] for i in batch[rank::world]]
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate(number, len(batches))
        rows = _rows(base, share, study)
        with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=base.lm.dtype is torch.bfloat16):
            scores = model(*(tensor.to(accelerator.device) for tensor in (rows.ids, rows.mask, rows.lengths)))
            loss = pair_loss(scores[: len(share)], scores[len(share) :], config.centring)
        losses.append(float(accelerator.gather(loss.detach().reshape(1)).mean()))
        if not torch.isfinite(loss):
            raise NotFinite("the loss of pretraining is not finite; lower `reward.pretraining.learning_rate`")
        accelerator.backward(loss)
        if accelerator.state.deepspeed_plugin is None:  # DeepSpeed clips by its own configuration
            accelerator.clip_grad_norm_(parameters.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    whole = accelerator.get_state_dict(model)  # every process takes part: under ZeRO-3 each holds a shard
    if not accelerator.is_main_process:
        return None, losses
    named = {name: f"lm.{name.removeprefix('base_model.model.').replace('.weight', f'.{_NAME}.weight')}" for name in parameters}
    named[HEAD] = "head"
    return Adapter(spec, {name: whole[key].float().cpu().numpy() for name, key in named.items()}), losses


def _rows(base: SharedBase, pairs: Sequence[Pair], study: StudyConfig) -> Padded:
    bounds = {"max_prompt_tokens": study.model.max_prompt_tokens, "max_answer_tokens": study.model.max_answer_tokens}
    texts = [(pair.prompt, pair.chosen) for pair in pairs] + [(pair.prompt, pair.rejected) for pair in pairs]
    return base.pad([base.encode(prompt, answer, **bounds).ids for prompt, answer in texts])


def accelerator_of_this_machine() -> Any:
    """An Accelerator whose processes find each other on a machine without a GPU too."""
    accelerate = importlib.import_module("accelerate")
    if torch.cuda.is_available():
        return accelerate.Accelerator()
    # Left alone, DeepSpeed compiles a shared-memory backend with g++ at start, and a build that was killed leaves a lock on which
    # every later run waits for ever. gloo does the same work.
    deepspeed = importlib.import_module("deepspeed")
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    # Without the backend's name accelerate takes every process for the only one: nothing is shared out and nothing gathered.
    handler = accelerate.InitProcessGroupKwargs(backend="gloo")
    return accelerate.Accelerator(kwargs_handlers=[handler])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Pretrain a preference model on public pairs with several processes.")
    parser.add_argument("study", type=Path, help="the study's TOML file")
    parser.add_argument("pairs", type=Path, help="JSON lines with prompt, chosen and rejected")
    parser.add_argument("out", type=Path, help="folder for the adapter")
    asked = parser.parse_args(arguments)
    with contextlib.redirect_stdout(sys.stderr):  # DeepSpeed logs to standard output
        adapter, losses = pretrain_distributed(load_study(asked.study), read_pairs(asked.pairs))
    if adapter is not None:
        adapter.save(asked.out)
        for step, loss in enumerate(losses):
            sys.stdout.write(json.dumps({"step": step, "loss": loss}) + "\n")


if __name__ == "__main__":
    main()
