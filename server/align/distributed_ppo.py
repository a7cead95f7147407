"""PPO on several processes, through accelerate: DeepSpeed ZeRO-2, ZeRO-3, or one process.

    accelerate launch --config_file configs/deepspeed/zero2.yaml -m server.align.distributed_ppo RUN

Each process answers and scores its share of a step's prompts, everybody learns the figures of all, and each takes its share of every
mini-batch: the figures are those of one process, to rounding. Under ZeRO-3 the base is sharded while gradients are taken and gathered while
answers are written. RUN is a run folder whose prompts are kept (`wardround-coordinator align` or `wardround simulate` keeps them).

After each step DeepSpeed writes every process's moments into RUN/federation, and then the checkpoint that names them is replaced: a run that
was killed goes on with as many processes. Public examples for PPO-ptx come with `--examples F.jsonl`, as for `wardround-coordinator align`.
"""

import argparse
import contextlib
import importlib
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.adapters import Adapter
from common.bases import load_base
from common.errors import ConfigError, NotFinite
from common.models import Encoded, SharedBase
from server.align.advantages import Floats
from server.align.checkpoint import PolicyState, StepRecord
from server.align.controller import KlController
from server.align.distributed import accelerator_of_this_machine
from server.align.experience import POLICY, VALUE, Experience, Stopwatch, ValueHead, collect, mask_of
from server.align.ppo import (
    FINISHED,
    PolicyResult,
    Save,
    Task,
    adam,
    assess,
    decide,
    install,
    policy_start,
    start,
    updates_of,
)
from server.align.prompts import derived_seed, prompts_of_step
from server.align.rewards import Rewarded
from server.align.stage import load_models, plan
from server.align.update import Targets, policy_loss, value_loss
from server.public_texts import encoded_examples, read_prompts
from server.run_folder import RunFolder


class PolicyScorer(nn.Module):
    """The base with its adapters and the value head, as the module that DeepSpeed shards: rows → log-probability, entropy and value a token."""

    is_gradient_checkpointing = False

    def __init__(self, base: SharedBase, head: ValueHead, value_adapter: str) -> None:
        super().__init__()
        self._base, self._value_adapter, self.lm = base, value_adapter, base.lm
        self.value_weight, self.value_bias = head.weight, head.bias

    def forward(self, ids: Tensor, mask: Tensor, owners: Tensor, places: Tensor, temperatures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """owners, places, temperatures (m,): row, place and sampling temperature of each answer token. Returns three of (m,)."""
        before = self._before(POLICY, ids, mask, owners, places)
        # The head is called as a module: ZeRO-3 gathers its weights there and nowhere else.
        log_p = (self.lm.get_output_embeddings()(before).float() / temperatures[:, None]).log_softmax(-1)
        logp = log_p.gather(-1, ids[owners, places][:, None])[:, 0]
        read = before if self._value_adapter == POLICY else self._before(self._value_adapter, ids, mask, owners, places)
        return logp, -(log_p.exp() * log_p).sum(-1), read.float() @ self.value_weight + self.value_bias

    def _before(self, adapter: str, ids: Tensor, mask: Tensor, owners: Tensor, places: Tensor) -> Tensor:
        """Hidden states (m, hidden_size) that predict the answer tokens, under `adapter`."""
        positions = (mask.cumsum(1) - 1).clamp_min(0)
        with self._base.using(adapter):
            hidden: Tensor = self.lm.base_model(
                input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False
            ).last_hidden_state
        return hidden[owners, places - 1]


class Party:
    """The processes of a run, and the sharded model between them."""

    def __init__(self, accelerator: Any, task: Task, state: PolicyState, moments: Path) -> None:
        self.accelerator, self._moments = accelerator, moments
        self.world, self.rank = self.accelerator.num_processes, self.accelerator.process_index
        config = task.config
        rows = config.prompts_per_step * config.answers_per_prompt
        for what, number in (
            ("`ppo.prompts_per_step`", config.prompts_per_step),
            ("`ppo.minibatch`", config.minibatch),
            ("the last mini-batch of a step", rows % config.minibatch),
        ):
            if number % self.world:
                raise ConfigError(f"{what} is {number}, which does not fall evenly to {self.world} processes; make it a multiple")
        self.parameters, self.head = install(task, state)
        self._shard(task, state)

    def _shard(self, task: Task, state: PolicyState) -> None:
        plugin = self.accelerator.state.deepspeed_plugin
        if plugin is not None:
            plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = max(1, task.config.minibatch // self.world)
            plugin.deepspeed_config["gradient_clipping"] = task.config.max_grad_norm
        self.sharded = plugin is not None
        optimizer = adam(self.parameters, state, task.config)
        scorer = PolicyScorer(task.base, self.head, VALUE if task.config.value_trunk == "own" else POLICY)
        self.model, self.optimizer = self.accelerator.prepare(scorer, optimizer)
        if self.sharded and state.steps:
            found, _ = self.model.load_checkpoint(str(self._moments), tag=_tag(state.steps), load_module_strict=False)
            if found is None:
                raise ConfigError(
                    f"{self._moments}: the moments of step {state.steps} are not there; the run was left by another number of processes, "
                    "or remove the checkpoint to start PPO again"
                )

    def keep(self, steps: int) -> None:
        """Write every process's moments after `steps` steps; those of the step before stay until `forget`."""
        if self.sharded:
            self.model.save_checkpoint(str(self._moments), tag=_tag(steps), exclude_frozen_parameters=True)

    def forget(self, before: int) -> None:
        """Remove the moments of steps before `before`, once the checkpoint no longer names them."""
        if self.sharded and self.accelerator.is_main_process:
            for folder in self._moments.glob(f"{_tag('*')}"):
                if folder.name != _tag(before):
                    shutil.rmtree(folder)

    def gather(self, share: Any) -> list[Any]:
        """Every process's `share`, in the order of the processes."""
        found: list[Any] = importlib.import_module("accelerate.utils").gather_object([share])
        return found

    @contextlib.contextmanager
    def whole(self) -> Any:
        """Inside, all weights are there on every process and forward passes go without DeepSpeed's hooks."""
        with importlib.import_module("trl.models").unwrap_model_for_generation(self.model, self.accelerator):
            yield

    def harvest(self, state: PolicyState, updates: int) -> PolicyState:
        """`state` with tensors as they are now, put together from all processes; moments stay with DeepSpeed where it holds them."""
        trained, first, second = {}, {}, {}
        for name, parameter in self.parameters.items():
            if self.sharded:
                whole = importlib.import_module("deepspeed.utils").safe_get_full_fp32_param(parameter)
            else:
                whole, moments = parameter.detach(), self.optimizer.optimizer.state[parameter]
                first[name], second[name] = (moments[key].cpu().numpy().copy() for key in ("exp_avg", "exp_avg_sq"))
            trained[name] = whole.float().cpu().numpy().reshape(parameter_shape(parameter)).copy()
        return replace(state, trained=trained, first=first, second=second, updates=updates)


def _tag(steps: int | str) -> str:
    return f"step-{steps}"


def parameter_shape(parameter: nn.Parameter) -> tuple[int, ...]:
    """The shape of the whole tensor; under ZeRO-3 the parameter itself is a shard."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def train_together(accelerator: Any, task: Task, state: PolicyState | None, *, moments: Path, save: Save) -> PolicyResult:
    """`ppo.train_policy` on all processes that accelerate started; `save` is called by each, with equal states. `moments` is a folder.

    Raises ConfigError for what is not offered here, and as `train_policy` does.
    """
    if state is not None and state.binding != task.binding:
        raise ConfigError("the state belongs to another study, model, reward or set of prompts; start a new run")
    state = state or start(task)
    spec = policy_start(task.base.get(task.sft)).spec  # under ZeRO-3 no tensor of the base is whole from here on
    party = Party(accelerator, task, state, moments)
    while state.stopped is None:
        state = _step(task, state, party)
        if state.stopped is None:
            party.keep(state.steps)
        save(state)
        party.forget(before=state.steps)
    return PolicyResult(Adapter(spec, dict(state.kept)), state.kept_step, state.stopped or FINISHED, state.records)


def _step(task: Task, state: PolicyState, party: Party) -> PolicyState:
    """One step of `ppo.step`, its work shared."""
    config, seed, watch = task.config, task.study.seed, Stopwatch()
    asked = prompts_of_step(task.prompts, state.steps, config.prompts_per_step, seed)
    own = [prompt for prompt in asked[party.rank :: party.world] for _ in range(config.answers_per_prompt)]
    with party.whole():
        share = collect(
            task.base, own, task.reward, party.head, config, reference=task.sft,
            max_prompt_tokens=task.study.model.max_prompt_tokens, seed=derived_seed(seed, "rollout", state.steps), watch=watch,
        )  # fmt: skip
        judged = task.watch.judge(share.prompts, [a.text for a in share.answers]) if task.watch is not None else None
    shares = party.gather((share, judged))
    experience = joined([e for e, _ in shares], config.answers_per_prompt)
    if config.running_normalisation:
        experience = replace(experience, rewarded=task.reward.normalised(experience.rewarded, state.running))
    controller = KlController(state.coefficient, config.kl_coefficient, config.kl_target, config.kl_horizon)
    targets, figures = assess(experience, config, controller.coefficient)
    if task.watch is not None:
        figures["judge"] = float(np.mean([judge for _, judge in shares]))
    state = replace(state, running=experience.rewarded.running or state.running)
    state = decide(task, state, StepRecord(state.steps, figures, watch.seconds))
    if state.stopped is not None:
        return state
    with watch("update"):
        moved = _update(task, experience, targets, party, seed=derived_seed(seed, "update", state.steps))
    state = party.harvest(state, state.updates + updates_of(config))
    return replace(
        state,
        steps=state.steps + 1,
        coefficient=controller.after(figures["kl"], len(experience.rows)).coefficient,
        records=(*state.records, StepRecord(state.steps, {**figures, **moved}, watch.seconds)),
    )


def joined(shares: Sequence[Experience], answers_per_prompt: int) -> Experience:
    """The experience of one process from those of all, rows in the order in which one process would have them."""
    k, world = answers_per_prompt, len(shares)
    prompts = len(shares[0].rows) // k
    order = [(rank, k * prompt + answer) for prompt in range(prompts) for rank in range(world) for answer in range(k)]
    rows = tuple(shares[rank].rows[i] for rank, i in order)
    mask = mask_of(rows)

    def padded(name: str) -> Floats:
        found = np.zeros(mask.shape)
        for place, (rank, i) in enumerate(order):
            row = getattr(shares[rank], name)[i]
            found[place, : min(len(row), mask.shape[1])] = row[: mask.shape[1]]
        return found

    def dealt(each: Sequence[Floats]) -> Floats:
        return np.array([each[rank][i] for rank, i in order])

    of = [share.rewarded for share in shares]
    rewarded = Rewarded(
        dealt([r.total for r in of]), {name: dealt([r.by_term[name] for r in of]) for name in of[0].by_term},
        dealt([r.disagreement for r in of]), dealt([r.learned for r in of]), dealt([r.shaped for r in of]),
    )  # fmt: skip
    tokens = [float(share.mask.sum()) for share in shares]
    entropy = float(np.average([share.entropy for share in shares], weights=tokens))
    prompts_asked = tuple(shares[rank].prompts[i] for rank, i in order)
    answers = tuple(shares[rank].answers[i] for rank, i in order)
    return Experience(
        prompts_asked, rows, answers, rewarded, mask, padded("logp"), padded("reference"), padded("kl"), padded("values"), entropy
    )


def _update(task: Task, experience: Experience, targets: Targets, party: Party, *, seed: int) -> dict[str, float]:
    """`update.update`, each process with its share of every mini-batch; returns the same figures on all of them."""
    config, draws = task.config, np.random.Generator(np.random.PCG64(derived_seed(seed, "minibatches")))
    found: list[dict[str, float]] = []
    for _ in range(config.epochs):
        order = draws.permutation(len(experience.rows))
        for first in range(0, len(order), config.minibatch):
            minibatch, drawn = order[first : first + config.minibatch].tolist(), []
            if config.ptx_coefficient > 0:
                drawn = draws.choice(len(task.examples), size=min(len(minibatch), len(task.examples)), replace=False).tolist()
            found.append(_minibatch(task, experience, targets, party, minibatch, [task.examples[i] for i in drawn]))
    return {key: float(np.mean([row[key] for row in found])) for key in found[0]}


def _minibatch(
    task: Task, experience: Experience, targets: Targets, party: Party, minibatch: Sequence[int], examples: Sequence[Encoded]
) -> dict[str, float]:
    config, base = task.config, task.base
    own, kept = minibatch[party.rank :: party.world], examples[party.rank :: party.world]
    rows, real = [experience.rows[i] for i in own], experience.mask[own].astype(bool)
    total = float(experience.mask[minibatch].sum())
    example_total = float(max(1, _tokens(examples)))

    def flat(array: Floats) -> Tensor:
        return torch.as_tensor(array[own][real], dtype=torch.float32, device=base.device)

    # The examples of PPO-ptx ride in the same forward pass, so that there is one backward pass for DeepSpeed to reduce.
    answered = int(real.sum())
    batch = base.pad([row.ids for row in (*rows, *kept)])
    owners, places = (t.to(base.device) for t in _positions((*rows, *kept)))
    temperatures = torch.ones(len(owners), device=base.device)
    temperatures[:answered] = config.temperature
    with torch.autocast(base.device.type, torch.bfloat16, enabled=base.lm.dtype is torch.bfloat16):
        every_logp, every_entropy, every_value = party.model(batch.ids, batch.mask, owners, places, temperatures)
    logp, entropy, values = (each[:answered] for each in (every_logp, every_entropy, every_value))
    policy_each, clipped = policy_loss(logp, flat(experience.logp), flat(targets.advantages), config.clip_ratio)
    value_each, held = value_loss(values, flat(experience.values), flat(targets.returns), config.clip_value)
    loss = policy_each.sum() + config.value_coefficient * value_each.sum() - config.entropy_coefficient * entropy.sum()
    of_examples = -every_logp[answered:].sum()
    # Gradients are averaged over processes, and this process has its own tokens alone: times the world, by the tokens of all.
    party.accelerator.backward((loss / total + config.ptx_coefficient * of_examples / example_total) * party.world)
    if not party.sharded:  # DeepSpeed clips by its own configuration
        norm = float(party.accelerator.clip_grad_norm_(list(party.parameters.values()), config.max_grad_norm))
    else:
        norm = float(party.model.get_global_grad_norm())
    if not np.isfinite(norm):
        raise NotFinite("the gradient of a PPO step is not finite; lower `ppo.learning_rate` or look at the reward terms")
    party.optimizer.step()
    party.optimizer.zero_grad()
    with torch.no_grad():
        log_ratio = flat(experience.logp) - logp
        each = (policy_each, value_each, clipped, held, torch.expm1(log_ratio) - log_ratio)
        *sums, nats = np.sum(party.gather([*(float(e.sum()) for e in each), float(of_examples)]), 0)
    names = ("policy_loss", "value_loss", "clipped", "value_clipped", "step_kl")
    found = dict(zip(names, (float(s) / total for s in sums), strict=True))
    return {**found, **({"ptx_loss": float(nats) / example_total} if examples else {}), "gradient_norm": norm}


def _tokens(rows: Sequence[Encoded]) -> int:
    return sum(len(row.ids) - row.prompt_length for row in rows)


def _positions(rows: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
    """Row and place of every answer token, row after row."""
    owners = torch.cat([torch.full((len(row.ids) - row.prompt_length,), i) for i, row in enumerate(rows)])
    return owners, torch.cat([torch.arange(row.prompt_length, len(row.ids)) for row in rows])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train the policy of a run with several processes.")
    parser.add_argument("run", type=Path, help="a run folder whose prompts are kept")
    parser.add_argument("--examples", type=Path, metavar="F.jsonl", help="public answers for PPO-ptx")
    asked = parser.parse_args(arguments)
    with contextlib.redirect_stdout(sys.stderr):  # DeepSpeed logs to standard output
        accelerator = accelerator_of_this_machine()
        run = RunFolder.open(asked.run.resolve())
        base = load_base(run.study.model.base, run.study.model.dtype)
        parents = load_models(run, base)
        with accelerator.main_process_first():  # the others read the scale that the first one fixes
            errand = plan(run, base, read_prompts(run.prompts_file), parents, examples=encoded_examples(base, run.study, asked.examples))
        state, main_process = errand.resumed(), accelerator.is_main_process
        accelerator.wait_for_everyone()
        moments = errand.path.with_suffix(".moments")
        result = train_together(accelerator, errand.task, state, moments=moments, save=errand.save if main_process else lambda _: None)
        version = errand.register(result) if main_process else None
        accelerator.wait_for_everyone()
        if main_process:
            shutil.rmtree(moments, ignore_errors=True)
    if version is not None:
        sys.stdout.write(json.dumps({"policy": version.name, "digest": version.digest, **version.figures}) + "\n")


if __name__ == "__main__":
    main()
