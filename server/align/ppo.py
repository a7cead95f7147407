"""PPO against the reward ensemble, on one shared frozen base: policy, value, reference and reward are adapters on it.

A step: draw public prompts, let the policy answer, score the answers, measure how far the policy is from the SFT model, and
update it. The policy starts as a copy of the SFT adapter, so their KL is exactly 0 at first.

Protects against: a policy that runs away from the SFT model (adaptive penalty, and a budget that ends the run), a crash at
any moment, and ε spent unawares: prompts are public and rewards are DP outputs, so nothing here reads a hospital's data.
Does not protect against: a reward that is wrong in the same way in all its members.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from common.adapters import Adapter
from common.config import Factors, PPOConfig, StudyConfig
from common.errors import ConfigError
from common.models import Encoded, SharedBase
from common.progress import Progress, Silent
from server.align.advantages import explained_variance, gae, kl_k1, kl_k3, token_rewards, whiten
from server.align.checkpoint import PolicyState, StepRecord
from server.align.controller import KlController
from server.align.experience import POLICY, VALUE, Experience, Stopwatch, ValueHead, collect
from server.align.prompts import derived_seed, prompts_of_step
from server.align.rewards import Reward
from server.align.update import Targets, update
from server.align.watch import OVER_OPTIMISED, Watch, best_step, over_optimised
from server.state_file import Arrays

OVER_BUDGET = "kl_budget"
FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class PolicyResult:
    """The policy to release, the figures of each step, and why the run ended: `finished`, `kl_budget` or `over_optimised`.

    kept_step is the number of updates behind `policy`: after `kl_budget` the last one that was within the budget, after
    `over_optimised` the one that the judges liked best.
    """

    policy: Adapter
    kept_step: int
    stopped: str
    records: tuple[StepRecord, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """What stays the same over all steps of a run.

    sft       name of the SFT adapter on the base: the policy's start and its reference
    reward    what is maximised; `reward_digest` names it, and the judges of the watch, in the checkpoint, since a function has no digest
    examples  public prompts with answers for PPO-ptx; needed when `ppo.ptx_coefficient` is above 0
    watch     held-out judges that may end the run
    """

    study: StudyConfig
    base: SharedBase
    sft: str
    prompts: Sequence[str]
    reward: Reward
    reward_digest: str
    examples: Sequence[Encoded] = ()
    watch: Watch | None = None

    def __post_init__(self) -> None:
        if self.config.ptx_coefficient > 0 and not self.examples:
            raise ConfigError(
                f"`ppo.ptx_coefficient` is {self.config.ptx_coefficient} but there are no public examples; give some or set it to 0"
            )
        prompts_of_step(self.prompts, 0, self.config.prompts_per_step, self.study.seed)  # too few prompts: refused before any work

    @property
    def config(self) -> PPOConfig:
        return self.study.ppo

    @property
    def binding(self) -> str:
        """What a checkpoint must have been made from to be resumed."""
        sha = hashlib.sha256()
        for part in (self.study.digest, self.base.digest, self.base.get(self.sft).digest, self.reward_digest, repr(tuple(self.prompts))):
            sha.update(hashlib.sha256(part.encode()).digest())
        sha.update(repr(tuple(example.ids for example in self.examples)).encode())
        return sha.hexdigest()


Save = Callable[[PolicyState], None]


def train_policy(
    task: Task, state: PolicyState | None = None, *, save: Save = lambda _: None, progress: Progress | None = None
) -> PolicyResult:
    """Run PPO from `state`, or from the start, to its end; `save` is called with every new state.

    Afterwards the base carries the result as `policy`, and nothing on it is trainable. Raises ConfigError for a state of another
    run, NotFinite when a reward or gradient is no number: the last saved state still stands.
    """
    progress = progress or Silent()
    progress.start("align the policy by PPO", task.config.steps)
    if state is not None and state.binding != task.binding:
        raise ConfigError("the state belongs to another study, model, reward or set of prompts; start a new run")
    if state is not None and state.updates and not state.first:
        raise ConfigError("the state was left by several processes; go on with as many, or remove the checkpoint to start PPO again")
    state = state or start(task)
    progress.advance(state.steps)
    try:
        while state.stopped is None:
            before = state.steps
            state = step(task, state)
            save(state)
            progress.advance(state.steps - before)
            progress.note(_note(state.records[-1]))
    finally:
        for name in (POLICY, VALUE):
            task.base.drop(name)
    policy = Adapter(policy_start(task.base.get(task.sft)).spec, dict(state.kept))
    task.base.put(POLICY, policy)
    return PolicyResult(policy, state.kept_step, state.stopped or FINISHED, state.records)


def policy_start(sft: Adapter) -> Adapter:
    """The SFT adapter with both factors trainable: the same tensors, hence the same distribution."""
    return Adapter(replace(sft.spec, config=sft.spec.config.model_copy(update={"factors": Factors.LORA})), sft.tensors)


def start(task: Task) -> PolicyState:
    """The state before the first step: the policy is the SFT model, values are 0."""
    policy = policy_start(task.base.get(task.sft))
    trained = {f"{POLICY}/{name}": tensor for name, tensor in policy.tensors.items()}
    if task.config.value_trunk == "own":
        trained |= {f"{VALUE}/{name}": tensor for name, tensor in _value_start(task).tensors.items()}
    head = ValueHead.zeros(task.base)
    trained |= {"head/weight": head.weight.cpu().numpy(), "head/bias": head.bias.cpu().numpy()}
    return PolicyState(task.binding, 0, trained, {}, {}, 0, dict(policy.tensors), 0, task.config.kl_coefficient)


def _value_start(task: Task) -> Adapter:
    return task.base.spec(task.config.value_adapter).initial()


def step(task: Task, state: PolicyState) -> PolicyState:
    """Measure the policy of `state`, and update it unless the run ends here: after the last step, or above the KL budget.

    So each record describes the policy after `record.step` updates, the first one the SFT model and the last one the result.
    """
    config, seed, watch = task.config, task.study.seed, Stopwatch()
    parameters, head = install(task, state)
    asked = prompts_of_step(task.prompts, state.steps, config.prompts_per_step, seed)
    experience = collect(
        task.base, [prompt for prompt in asked for _ in range(config.answers_per_prompt)], task.reward, head, config,
        reference=task.sft, max_prompt_tokens=task.study.model.max_prompt_tokens, seed=derived_seed(seed, "rollout", state.steps), watch=watch,
        running=state.running if config.running_normalisation else None,
    )  # fmt: skip
    controller = KlController(state.coefficient, config.kl_coefficient, config.kl_target, config.kl_horizon)
    targets, figures = assess(experience, config, controller.coefficient)
    if task.watch is not None:
        with watch("judges"):
            figures["judge"] = task.watch.judge(experience.prompts, [answer.text for answer in experience.answers])
    measured = StepRecord(state.steps, figures, watch.seconds)
    state = decide(task, replace(state, running=experience.rewarded.running or state.running), measured)
    if state.stopped is not None:
        return state
    with watch("update"):
        optimizer = adam(parameters, state, config)
        moved = update(
            task.base, experience, targets, head, optimizer, config,
            seed=derived_seed(seed, "update", state.steps), examples=task.examples,
        )  # fmt: skip
    state = harvest(state, parameters, optimizer, updates=state.updates + updates_of(config))
    return replace(
        state,
        steps=state.steps + 1,
        coefficient=controller.after(figures["kl"], len(experience.rows)).coefficient,
        records=(*state.records, StepRecord(state.steps, {**figures, **moved}, watch.seconds)),
    )


def decide(task: Task, state: PolicyState, measured: StepRecord) -> PolicyState:
    """`state` with what its policy's figures mean for the run: whether the policy is kept, and whether the run ends here.

    A run that ends has its last record; one that goes on gets the record with the update's figures.
    """
    config = task.config
    over = replace(state, records=(*state.records, measured))
    # The first policy is the SFT model itself, whose KL is 0; later ones are kept only while they are within the budget. The standard
    # error counts as KL: what a few answers cannot tell must not be what brings a policy within.
    if measured.figures["kl"] + measured.figures["kl_error"] > config.kl_budget:
        return replace(over, stopped=OVER_BUDGET)
    policy = _policy_of(state.trained)
    if task.watch is not None:
        window, fall = task.watch.window, task.watch.fall
        rewards, judged = ([record.figures[key] for record in over.records] for key in ("reward", "judge"))
        if over_optimised(rewards, judged, window=window, fall=fall):
            return replace(over, kept=state.best, kept_step=state.best_step, stopped=OVER_OPTIMISED)
        if best_step(judged, window) == state.steps:
            state, over = (replace(s, best=policy, best_step=state.steps) for s in (state, over))
    if state.steps == config.steps:
        return replace(over, kept=policy, kept_step=state.steps, stopped=FINISHED)
    return replace(state, kept=policy, kept_step=state.steps)


def assess(experience: Experience, config: PPOConfig, beta: float) -> tuple[Targets, dict[str, float]]:
    """Advantages and returns of a batch under KL coefficient `beta`, and its figures: means over answers, KL in nats a sequence.

    `kl_error` is the standard error of `kl` over prompts, 0 for a single one.
    """
    mask = experience.mask
    k1 = kl_k1(experience.logp, experience.reference, mask)
    kl = experience.kl.sum(1).reshape(-1, config.answers_per_prompt).mean(1)  # answers to one prompt are no independent draws
    of_token = k1 if config.kl_estimator == "k1" else kl_k3(experience.logp, experience.reference, mask)
    rewards = token_rewards(experience.rewarded.total, of_token, mask, beta)
    advantages, returns = gae(rewards, experience.values, mask, gamma=config.gamma, lam=config.lam)
    figures = {
        "reward": float(experience.rewarded.total.mean()),
        # What decides is summed over the vocabulary. k3 of the drawn tokens is as unbiased, but one odd answer can add 80 nats to its sum.
        "kl": float(kl.mean()),
        "kl_error": float(kl.std() / len(kl) ** 0.5),
        "kl_k1": float(k1.sum(1).mean()),
        "kl_coefficient": beta,
        "length": float(mask.sum(1).mean()),
        "ended": float(np.mean([answer.ended for answer in experience.answers])),
        "disagreement": float(experience.rewarded.disagreement.mean()),
        "entropy": experience.entropy,
        "explained_variance": explained_variance(experience.values, returns, mask),
        "tokens": float(sum(len(row.ids) for row in experience.rows)),
    }
    figures |= {f"reward_{name}": float(values.mean()) for name, values in experience.rewarded.by_term.items()}
    return Targets(whiten(advantages, mask), returns), figures


# -- between a state and torch -------------------------------------------------------------------------------------------


def install(task: Task, state: PolicyState) -> tuple[dict[str, nn.Parameter], ValueHead]:
    """Put the state's tensors on the base and make them, and nothing else, trainable."""
    base = task.base
    base.put(POLICY, Adapter(policy_start(base.get(task.sft)).spec, _policy_of(state.trained)))
    parameters = {f"{POLICY}/{name}": parameter for name, parameter in base.parameters(POLICY).items()}
    if task.config.value_trunk == "own":
        tensors = {name.removeprefix(f"{VALUE}/"): a for name, a in state.trained.items() if name.startswith(f"{VALUE}/")}
        base.put(VALUE, Adapter(_value_start(task).spec, tensors))
        parameters |= {f"{VALUE}/{name}": parameter for name, parameter in base.parameters(VALUE).items()}
    head = ValueHead.zeros(base)
    with torch.no_grad():
        head.weight.copy_(torch.tensor(state.trained["head/weight"]))
        head.bias.copy_(torch.tensor(state.trained["head/bias"]))
    parameters |= {"head/weight": head.weight, "head/bias": head.bias}
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    return dict(sorted(parameters.items())), head


def adam(parameters: Mapping[str, nn.Parameter], state: PolicyState, config: PPOConfig) -> torch.optim.Optimizer:
    """Adam with the state's moments; policy and value learn at their own rates."""
    policy = [p for name, p in parameters.items() if name.startswith(f"{POLICY}/")]
    value = [p for name, p in parameters.items() if not name.startswith(f"{POLICY}/")]
    optimizer = torch.optim.Adam([{"params": policy, "lr": config.learning_rate}, {"params": value, "lr": config.value_learning_rate}])
    for name in state.first:
        parameter = parameters[name]
        optimizer.state[parameter] = {
            "step": torch.tensor(float(state.updates)),
            "exp_avg": torch.tensor(state.first[name], device=parameter.device),
            "exp_avg_sq": torch.tensor(state.second[name], device=parameter.device),
        }
    return optimizer


def harvest(state: PolicyState, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, *, updates: int) -> PolicyState:
    """`state` with tensors and moments as they are after an update; nothing stays trainable."""
    trained, first, second = {}, {}, {}
    for name, parameter in parameters.items():
        parameter.requires_grad_(False)
        trained[name] = parameter.detach().cpu().numpy().copy()
        first[name] = optimizer.state[parameter]["exp_avg"].cpu().numpy().copy()
        second[name] = optimizer.state[parameter]["exp_avg_sq"].cpu().numpy().copy()
    return replace(state, trained=trained, first=first, second=second, updates=updates)


def _policy_of(trained: Arrays) -> Arrays:
    return {name.removeprefix(f"{POLICY}/"): array for name, array in trained.items() if name.startswith(f"{POLICY}/")}


def updates_of(config: PPOConfig) -> int:
    """Optimizer steps of one PPO step."""
    return config.epochs * -(-config.prompts_per_step * config.answers_per_prompt // config.minibatch)


def _note(record: StepRecord) -> str:
    f = record.figures
    return f"step {record.step}: reward {f['reward']:.2f}, KL {f['kl']:.2f}, β {f['kl_coefficient']:.3f}, {f['length']:.0f} tokens"
