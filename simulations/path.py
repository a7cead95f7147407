"""The stages of a simulated study, one function each, in the order in which the data travels.

A function does its stage in the room it belongs to and returns the few figures that later stages and the report need, as
JSON. Each may be called again after a kill: what is done inside stays done.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

from common.adapters import Adapter
from common.bases import shared_base
from common.config import ModelConfig, Stage
from common.errors import StorageError
from common.progress import Silent
from common.secure.context import line_name
from common.storage import storage_errors, write_atomic
from server.align.constitution import train_ai_member
from server.align.experience import POLICY
from server.align.judges import train_judges as register_judges
from server.align.members import AdapterMember, Member, QuestionLikelihood
from server.align.pretraining import PairGradients, PairPart, pair_gradients, pretrain
from server.align.rewards import Ensemble
from server.align.samples import against_samples, sft_answers
from server.align.stage import align as train_policy
from server.align.stage import load_models, prepare
from server.app import app as server_app
from server.evaluate.contrasts import evaluate_contrasts
from server.evaluate.evaluation import BEST_OF_PROMPTS, JudgedPair, best_of_sft, evaluate_policy, evaluate_reward, evaluate_sft
from server.evaluate.harm import evaluate_harm
from server.evaluate.intervals import Estimate, clopper_pearson_upper, wilson
from server.evaluate.leaks import LeakSearch
from server.evaluate.quality import sft_losses
from server.evaluate.report import HELD_OUT
from server.evaluate.summary import DeidFigures
from server.federate.checkpoint import RoundState
from server.federate.scoring import Score
from server.federate.stages import PUBLIC_REWARD, stage_spec
from server.registry import Version
from server.run_folder import RunFolder
from simulations.hospitals import EXPORT, introduce, make_hospitals
from simulations.hospitals import admit_notes as admit_hospital_notes
from simulations.hospitals import label_pairs as label_hospital_pairs
from simulations.judgement.baselines import Triple, baselines
from simulations.machine.faults import planned_faults
from simulations.machine.grid import LocalGrid, run_server
from simulations.machine.outgoing import Outgoing
from simulations.machine.workers import Workers
from simulations.report.attacked import attack_models
from simulations.report.truth import leaking_notes
from simulations.sources.source import Source
from simulations.trials.hacking import hacking
from simulations.world import World

CANDIDATES, GENERATIONS = "candidates.jsonl", "generations.jsonl"
CURVE_EXAMPLES = 12
"""Held-out examples of the loss curve, measured after every SFT round; the final figure stands on all of them."""

Figures = Mapping[str, Any]


# -- at the hospitals --------------------------------------------------------------------------------------------------


def admit_notes(world: World) -> Figures:
    """Make the hospitals and take each one's export through intake, de-identification and gate into its vault."""
    sites = make_hospitals(world.study, world.source, world.run.path)
    try:
        reports = [admitted.deid for admitted in admit_hospital_notes(sites, world.source, world.progress, world.workers)]
        quarantined = sum(site.vault.counts()["quarantine"] for site in sites)
        looked_at = [leaking_notes(site, site.folder / EXPORT) for site in sites]
    finally:
        for site in sites:
            site.close()
    by_class: Counter[str] = Counter()
    for report in reports:
        by_class.update(report.identifiers)
    compared = [pair for pair in looked_at if pair is not None]
    leaking, notes = sum(k for k, _ in compared), sum(n for _, n in compared)
    deid = DeidFigures(
        notes=sum(r.notes for r in reports),
        identifiers=sum(by_class.values()),
        quarantined=quarantined,
        leak_upper_bound=clopper_pearson_upper(leaking, notes) if notes else None,
        by_class=dict(sorted(by_class.items())),
        reviewed=notes,
    )
    return {"patients": sum(r.patients for r in reports), "deid": deid.model_dump(mode="json")}


# -- federated stages --------------------------------------------------------------------------------------------------


def federate(world: World, stage: Stage, member: int | None = None) -> Figures:
    """Train one line over all its hospitals, through the same two Flower apps as in a real deployment."""
    introduce(world.sites, world.run, now=datetime.now(UTC))
    outgoing = Outgoing(world.run.path, LeakSearch(world.source.planted()))
    grid = LocalGrid(
        "client.app:app",
        world.sites,
        faults=planned_faults(world.study, [folder.name for folder in world.sites]),
        on_leaving=outgoing.record,
        workers=world.workers,
    )
    line = line_name(stage, member)
    config = {"run-dir": str(world.run.path), "stage": line}
    sft = stage is Stage.SFT
    score = _public_loss(world) if sft and world.study.secure.drop_groups else None
    run_server(server_app, grid, config, progress=world.progress, on_state=_loss_curve(world) if sft else None, score=score)
    figures = world.run.registry.latest(line).figures
    return {key: figures[key] for key in ("rounds", "bytes_up", "bytes_down", "fewest_survivors")}


def _public_loss(world: World) -> Score:
    """The loss of an adapter on public examples, by which groups of hospitals are compared."""
    examples = world.source.examples(CURVE_EXAMPLES)

    def loss(adapter: Adapter) -> float:
        world.base.put("scored", adapter)
        try:
            return float(sft_losses(world.base, "scored", examples, world.study.model).mean())
        finally:
            world.base.drop("scored")

    return loss


def _loss_curve(world: World) -> Any:
    """Measures every new SFT adapter on held-out public examples, into RUN/metrics.jsonl."""
    examples = world.source.examples(CURVE_EXAMPLES)

    def measure(name: str | None, step: int) -> None:
        world.run.metrics.record(HELD_OUT, step, {"loss": float(sft_losses(world.base, name, examples, world.study.model).mean())})

    def look(line: str, state: RoundState) -> None:
        world.base.put(f"{line}-now", state.adapter)
        measure(f"{line}-now", state.next_round)
        world.base.drop(f"{line}-now")

    measure(None, 0)
    return look


# -- at the coordinator ------------------------------------------------------------------------------------------------


def sample_candidates(world: World) -> Figures:
    """Answers of the SFT model to the questions that clinicians will judge it by, kept in the run folder."""
    asked = world.source.to_sample()
    answers = sft_answers(world.run, world.base, [a.prompt for a in asked], "candidates", world.progress)
    _write_lines(world.run.path / CANDIDATES, [{"id": q.id, "answer": a.text} for q, a in zip(asked, answers, strict=True)])
    return {"candidates": len(answers), "ended": sum(a.ended for a in answers)}


def label_pairs(world: World) -> Figures:
    """Simulated clinicians choose between answers; what they choose goes into their own hospital's vault."""
    sites = make_hospitals(world.study, world.source, world.run.path)
    try:
        return {"pairs": label_hospital_pairs(sites, world.source, candidates_of(world), world.progress)}
    finally:
        for site in sites:
            site.close()


def pretrain_preference_model(world: World) -> Figures:
    """The reward members' common start, from public pairs and answers of the SFT model, which is a DP output: it spends no ε."""
    study, registry = world.study, world.run.registry
    if not study.reward.pretraining.pairs:
        return {"pairs": 0}
    pairs = world.source.pretraining_pairs(study.reward.pretraining.pairs)
    found = registry.find(PUBLIC_REWARD)
    if found is None:
        spec, state = stage_spec(study, Stage.REWARD, world.base), world.run.pretraining_state
        pairs = against_samples(world.run, world.base, pairs, "pretraining", world.progress)
        done = pretrain(
            world.base, spec, pairs, study.reward, study.model, seed=study.seed, state=state, progress=world.progress,
            spread=partial(world.workers.map, partial(_pair_gradients, study.model)),
        )  # fmt: skip
        figures = {"pairs": len(pairs), "loss": done.steps[-1].loss, "accuracy": done.steps[-1].accuracy}
        found = registry.put(PUBLIC_REWARD, done.adapter.save, parents=[], figures=figures)
        state.unlink(missing_ok=True)
    return dict(found.figures)


def _pair_gradients(model: ModelConfig, part: PairPart) -> PairGradients:
    return pair_gradients(shared_base(model.base, model.dtype), part)


def train_judges(world: World) -> Figures:
    """The judges of the over-optimisation watch, from public pairs that the reward's pretraining does not see."""
    watch = world.study.ppo.watch
    if not watch.judges:
        return {"judges": 0}
    versions = register_judges(world.run, world.base, world.source.judge_pairs(watch.judges * watch.pairs), progress=world.progress)
    return {"judges": len(versions), "accuracy": [version.figures["accuracy"] for version in versions]}


def judge_by_constitution(world: World) -> Figures:
    """The reward member of AI feedback: the SFT model judges public pairs by the study's principles."""
    reward = world.study.reward
    if not reward.constitution:
        return {"pairs": 0}
    pairs = world.source.pretraining_pairs(reward.pretraining.pairs)
    return dict(train_ai_member(world.run, world.base, pairs, progress=world.progress).figures)


def align(world: World) -> Figures:
    """PPO on public prompts against the ensemble of the hospitals' reward models."""
    prompts = world.source.ppo_prompts()
    _write_lines(world.run.prompts_file, [{"prompt": prompt} for prompt in prompts])
    version = train_policy(world.run, world.base, prompts, progress=world.progress)
    return {key: version.figures[key] for key in ("steps", "stopped", "kl", "reward")}


def evaluate(world: World) -> Figures:
    """Held-out loss, reward accuracy, the judge's verdict on the policy, how it treats people, attacks; the answers go to RUN/generations.jsonl."""
    parts = [
        _Evaluation(part, world.run.path, world.source) for part in ("people", "policy", "attacks", "reward", "sft")
    ]  # the longest first
    world.progress.start("evaluate the models", len(parts))
    found: dict[str, Any] = {}
    for part, figures in zip(parts, world.workers.map(_evaluated, parts), strict=True):
        found[part.part] = figures
        world.progress.advance()
    figures, generations = found["policy"]
    _write_lines(world.run.path / GENERATIONS, [asdict(g) for g in generations])
    return {"sft": found["sft"], "reward": found["reward"], "ppo": figures, "attacks": found["attacks"], **found["people"]}


@dataclass(frozen=True, slots=True)
class _Evaluation:
    """One part of the evaluation; none depends on anything but the registry."""

    part: Literal["sft", "reward", "policy", "people", "attacks"]
    run: Path
    source: Source


def _evaluated(asked: _Evaluation) -> Any:
    world = World(RunFolder.open(asked.run), asked.source, Silent(), Workers(1))
    study, base, source = world.study, world.base, asked.source
    if asked.part == "sft":
        world.load_line(Stage.SFT.value)
        return evaluate_sft(base, Stage.SFT.value, source.examples(study.evaluation.sft_examples), study, world.progress).model_dump(
            mode="json"
        )
    if asked.part == "attacks":
        return _attacked(world)
    load_models(world.run, base)
    ensemble = prepare(world.run, base, source.ppo_prompts())[0].ensemble
    assert ensemble is not None
    if asked.part == "reward":
        candidates = candidates_of(world)
        pairs = source.judged_pairs(candidates)
        baselines = shallow(source.training_triples(candidates), pairs)
        return evaluate_reward(ensemble, pairs, baselines, study, world.progress, steps=recipe_steps(world)).model_dump(mode="json")
    policy = world.load_line(POLICY)
    if asked.part == "people":
        return _treatment_of_people(world, ensemble)
    figures, generations = evaluate_policy(
        base, ensemble, source.evaluation_prompts(study.evaluation.prompts), source.judge, study, world.progress,
        judge_name=source.judge_name, steps=int(str(policy.figures["steps"])), stopped=_why_stopped(policy),
    )  # fmt: skip
    return figures.model_dump(mode="json"), generations


def _attacked(world: World) -> Figures | None:
    """What two attacks find in the SFT model and the policy, if the study asks."""
    if not world.study.evaluation.attack_examples:
        return None
    world.load_line(Stage.SFT.value)
    world.load_line(POLICY)
    return attack_models(world).model_dump(mode="json")


def _treatment_of_people(world: World, ensemble: Ensemble) -> Figures:
    """Whether it matters who asks, and what becomes of requests that should be declined; each only if the study asks."""
    study, source = world.study, world.source
    if not study.evaluation.contrast_prompts:
        return {"contrasts": [], "harm": None}
    prompts = source.evaluation_prompts(study.evaluation.contrast_prompts)
    contrasts = evaluate_contrasts(world.base, ensemble, prompts, source.judge, study, world.progress)
    harm = evaluate_harm(world.base, ensemble, study, world.progress)
    return {"contrasts": [row.model_dump(mode="json") for row in contrasts], "harm": harm.model_dump(mode="json")}


def yardsticks(world: World) -> Figures:
    """Best-of-n with the same reward, and PPO against a flawed reward with and without protection; each only if the study asks."""
    study, base, source = world.study, world.base, world.source
    found: dict[str, Any] = {"best_of": [], "hacking": []}
    if study.evaluation.best_of:
        load_models(world.run, base)
        ensemble = prepare(world.run, base, source.ppo_prompts())[0].ensemble
        assert ensemble is not None
        asked = source.evaluation_prompts(min(study.evaluation.prompts, BEST_OF_PROMPTS))
        found["best_of"] = [asdict(b) for b in best_of_sft(base, ensemble, asked, source.judge, study, world.progress)]
    if study.evaluation.hacking_steps:
        found["hacking"] = [row.model_dump(mode="json") for row in hacking(world, study.evaluation.hacking_steps)]
    return found


def recipe_steps(world: World) -> dict[str, Member]:
    """What the reward recipe has before the hospitals' pairs: the bare base's question likelihood, and the preference model of public pairs."""
    steps: dict[str, Member] = {"question_likelihood": QuestionLikelihood(world.base, world.study.model)}
    if world.run.registry.find(PUBLIC_REWARD) is not None:
        world.load_line(PUBLIC_REWARD)
        steps["after_public_pairs"] = AdapterMember(world.base, PUBLIC_REWARD, world.study.model)
    return steps


def shallow(train: Sequence[Triple], test: Sequence[JudgedPair]) -> dict[str, Estimate]:
    """What readings that know nothing of medicine reach on the test pairs, with intervals; the bag of words is fitted on `train`."""
    found = baselines(train, [(p.prompt, p.better, p.worse) for p in test])
    reached = {"length": found.length[1], "word_overlap": found.overlap[1], "bag_of_words": found.bag_of_words[1]}
    return {name: wilson(share * len(test), len(test)) for name, share in reached.items()}


def _why_stopped(policy: Version) -> str | None:
    stopped = str(policy.figures["stopped"])
    return None if stopped == "finished" else stopped.replace("_", " ")


# -- small things ------------------------------------------------------------------------------------------------------


def candidates_of(world: World) -> dict[str, str]:
    """Question id → what the SFT model answered. Raises StorageError when the file is damaged."""
    path = world.run.path / CANDIDATES
    with storage_errors(path, "read the candidate answers"):
        lines = path.read_text(encoding="utf-8").splitlines()
    try:
        return {row["id"]: row["answer"] for row in map(json.loads, lines)}
    except (ValueError, KeyError, TypeError):
        raise StorageError(f"{path}: cannot be read; remove it and the markers after `sft` in stages/, and resume") from None


def _write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), mode=0o644)
