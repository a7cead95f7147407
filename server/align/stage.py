"""The alignment stage of a run: SFT adapter and reward members out of the registry, PPO, and the policy into it.

A stage whose policy is registered is done and is not run again; one that was killed goes on from its last step.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from common.adapters import Adapter
from common.config import Stage, StudyConfig
from common.errors import StorageError
from common.journal import JSON
from common.models import Encoded, SharedBase
from common.progress import Progress, Silent
from common.secure.context import line_name
from common.storage import storage_errors, write_atomic
from server.align.checkpoint import PolicyState, StepRecord, load_state, save_state
from server.align.constitution import AI_REWARD
from server.align.experience import POLICY
from server.align.judges import judge_lines
from server.align.members import AdapterMember, Member, QuestionLikelihood
from server.align.ppo import PolicyResult, Task, train_policy
from server.align.prompts import derived_seed
from server.align.rewards import Ensemble, Reward, Scale
from server.align.rollout import Answer, sample, stop_ids
from server.align.terms import Weighted, penalties
from server.align.watch import Watch
from server.metrics import Metrics
from server.registry import Version
from server.run_folder import RunFolder

PPO = "ppo"
REFERENCE_ANSWERS = 64
"""Answers of the SFT model on which the members' scales and the reference length are fixed: enough for a deviation to ± 9 %."""


def align(
    run: RunFolder,
    base: SharedBase,
    prompts: Sequence[str],
    *,
    terms: Sequence[Weighted] = (),
    examples: Sequence[Encoded] = (),
    progress: Progress | None = None,
) -> Version:
    """Train the policy on public `prompts` and return its signed version. Returns at once when it is registered.

    terms     further reward terms, such as rules; they belong to the code, so a changed term needs a new run folder
    examples  public answers for PPO-ptx

    Afterwards the base carries `sft`, the reward members and `policy`. Raises ModelUnavailable when a stage before this one is not
    done, ConfigError, NotFinite, StorageError; after each of them the stage can be resumed.
    """
    parents = load_models(run, base)
    done = run.registry.find(POLICY)
    if done is not None and done.parents == tuple(parent.name for parent in parents):
        base.put(POLICY, Adapter.load(done.folder))
        return done
    errand = plan(run, base, prompts, parents, terms=terms, examples=examples, progress=progress)
    result = train_policy(errand.task, errand.resumed(), save=errand.save, progress=progress)
    return errand.register(result)


@dataclass(frozen=True, slots=True)
class Errand:
    """A PPO run in a run folder: what is trained, from which versions, and where it is kept while it runs.

    stage is the name of its rows in metrics.jsonl: a policy on later reward models has rows of its own, `ppo`, `ppo-2`, …
    """

    run: RunFolder
    task: Task
    parents: Sequence[Version]
    stage: str

    @property
    def path(self) -> Path:
        return self.run.checkpoint(POLICY)

    def resumed(self) -> PolicyState | None:
        """The state that an earlier try left, or None; its figures are in the metrics afterwards."""
        state = load_state(self.path, self.task.binding)
        if state is not None:
            _record(self.run.metrics, self.stage, state.records)
        return state

    def save(self, state: PolicyState) -> None:
        save_state(self.path, state)
        _record(self.run.metrics, self.stage, state.records)

    def register(self, result: PolicyResult) -> Version:
        """Sign the policy into the registry and forget the checkpoint."""
        study, base = self.run.study, self.task.base
        figures: dict[str, JSON] = {
            "study_digest": study.digest,
            "base": base.name,
            "base_digest": base.digest,
            "adapter_digest": result.policy.digest,
            "steps": result.kept_step,
            "stopped": result.stopped,
            "kl": result.records[result.kept_step].figures["kl"],
            "reward": result.records[result.kept_step].figures["reward"],
            "members": study.reward.members,
        }
        version = self.run.registry.put(POLICY, result.policy.save, parents=self.parents, figures=figures)
        self.path.unlink(missing_ok=True)
        return version


def plan(
    run: RunFolder,
    base: SharedBase,
    prompts: Sequence[str],
    parents: Sequence[Version],
    *,
    terms: Sequence[Weighted] = (),
    examples: Sequence[Encoded] = (),
    progress: Progress | None = None,
) -> Errand:
    """What `align` trains: reward and watch on their fixed scales, bound to the versions on the base, `parents`."""
    reward, watch = prepare(run, base, prompts, terms=terms, progress=progress)
    task = Task(run.study, base, Stage.SFT.value, prompts, reward, _digest_of(parents, terms, reward), examples, watch)
    earlier = len(run.registry.versions(POLICY))
    return Errand(run, task, parents, f"{PPO}-{earlier + 1}" if earlier else PPO)


def load_models(run: RunFolder, base: SharedBase) -> list[Version]:
    """Put `sft`, every reward member and every judge on the base; returns their versions. Raises ModelUnavailable when one is missing."""
    lines = _lines(run.study)
    versions = [run.registry.latest(line) for line in lines]
    for line, version in zip(lines, versions, strict=True):
        base.put(line, Adapter.load(version.folder))
    return versions


def _lines(study: StudyConfig) -> tuple[str, ...]:
    """The registry lines that PPO stands on."""
    return (Stage.SFT.value, *_member_lines(study), *judge_lines(study))


def _member_lines(study: StudyConfig) -> tuple[str, ...]:
    cohorts = (line_name(Stage.REWARD, member) for member in range(study.reward.members))
    return (*cohorts, AI_REWARD) if study.reward.constitution else tuple(cohorts)


def prepare(
    run: RunFolder, base: SharedBase, prompts: Sequence[str], *, terms: Sequence[Weighted] = (), progress: Progress | None = None
) -> tuple[Reward, Watch | None]:
    """The study's reward, with its penalties, rules and `terms`, and its watch; ensemble and judges each on their fixed scale.

    Scales and reference length come from answers of the SFT model to public prompts. They are fixed once and kept in the run
    folder, so that training and evaluation speak of the same reward.
    """
    study, ppo = run.study, run.study.ppo
    ensemble = Ensemble(ensemble_members(base, study), ppo.variance_penalty, weights=ppo.member_weights, combine=ppo.combine)
    judges = tuple(AdapterMember(base, line, study.model) for line in judge_lines(study))
    path = run.path / "federation" / "reward-scale.json"
    binding = _binding(run, base, prompts)
    found = _read_fixed(path, binding)
    if found is None:
        found = _fix(study, base, ensemble, judges, prompts, progress or Silent())
        write_atomic(path, json.dumps({"binding": binding, **asdict(found)}) + "\n")
    reward = Reward(
        replace(ensemble, scales=found.scales),
        (*penalties(ppo, found.reference_tokens), *terms),
        clip=ppo.reward_clip,
        references=dict(zip(prompts, found.references, strict=True)) if found.references else None,
    )
    return reward, Watch(Ensemble(judges, scales=found.judge_scales), ppo.watch.window, ppo.watch.fall) if judges else None


def ensemble_members(base: SharedBase, study: StudyConfig) -> tuple[Member, ...]:
    """The reward adapters on the base, one a cohort, then the member of AI feedback and the zero-shot member if the study wants them."""
    trained = tuple(AdapterMember(base, line, study.model) for line in _member_lines(study))
    return (*trained, QuestionLikelihood(base, study.model)) if study.reward.question_likelihood else trained


@dataclass(frozen=True, slots=True)
class Fixed:
    """What answers of the SFT model fix once: scales of members and judges, their mean length, and with `sigmoid` a reference a prompt."""

    scales: tuple[Scale, ...]
    judge_scales: tuple[Scale, ...]
    reference_tokens: float
    references: tuple[float, ...]


def _fix(
    study: StudyConfig, base: SharedBase, ensemble: Ensemble, judges: tuple[Member, ...], prompts: Sequence[str], progress: Progress
) -> Fixed:
    def answered(asked: Sequence[str], purpose: str) -> list[Answer]:
        return sample(
            base, Stage.SFT.value, asked, max_new_tokens=study.ppo.max_new_tokens, temperature=study.ppo.temperature,
            top_p=study.ppo.top_p, seed=derived_seed(study.seed, purpose), max_prompt_tokens=study.model.max_prompt_tokens,
            stop_ids=stop_ids(base, study.ppo.stop_tokens),
        )  # fmt: skip

    draws = np.random.Generator(np.random.PCG64(derived_seed(study.seed, "reference prompts")))
    asked = [prompts[i] for i in draws.permutation(len(prompts))[:REFERENCE_ANSWERS]]
    progress.start("reference answers", 2)
    answers = answered(asked, "reference answers")
    progress.advance()
    texts = [answer.text for answer in answers]
    fixed = ensemble.fixed_on(asked, texts)
    assert fixed.scales is not None
    judge_scales = (Ensemble(judges).fixed_on(asked, texts).scales or ()) if judges else ()
    references: tuple[float, ...] = ()
    if study.ppo.shaping == "sigmoid":
        against = answered(prompts, "references")
        references = tuple(fixed.combined(fixed.score(prompts, [answer.text for answer in against])).tolist())
    progress.advance()
    return Fixed(fixed.scales, judge_scales, float(np.mean([len(answer.ids) for answer in answers])), references)


def _read_fixed(path: Path, binding: str) -> Fixed | None:
    """What an earlier try fixed for the same models and prompts, or None."""
    if not path.exists():
        return None
    with storage_errors(path, "read the reward's scale"):
        text = path.read_text(encoding="utf-8")
    try:
        tree = json.loads(text)
        if tree["binding"] != binding:
            return None
        scales, judge_scales = (tuple(Scale(**scale) for scale in tree[key]) for key in ("scales", "judge_scales"))
        return Fixed(scales, judge_scales, float(tree["reference_tokens"]), tuple(tree["references"]))
    except (ValueError, KeyError, TypeError):
        raise StorageError(f"{path}: cannot be read; remove it to fix the reward's scale again") from None


def _binding(run: RunFolder, base: SharedBase, prompts: Sequence[str]) -> str:
    parts = [run.study.digest, base.digest, *(base.get(name).digest for name in _lines(run.study)), repr(tuple(prompts))]
    return hashlib.sha256("\0".join(hashlib.sha256(part.encode()).hexdigest() for part in parts).encode()).hexdigest()


def _digest_of(parents: Sequence[Version], terms: Sequence[Weighted], reward: Reward) -> str:
    """Names the reward: its models and scales by digest and value, further terms by name and weight."""
    scales = reward.ensemble.scales if reward.ensemble is not None else None
    named = (tuple(parent.digest for parent in parents), tuple((t.name, t.weight) for t in (*reward.terms, *terms)), scales)
    return hashlib.sha256(repr(named).encode()).hexdigest()


def _record(metrics: Metrics, stage: str, records: Sequence[StepRecord]) -> None:
    for record in records:
        figures: Mapping[str, JSON] = {**record.figures, **{f"cpu_seconds_{phase}": s for phase, s in record.seconds.items()}}
        metrics.record(stage, record.step, figures)
