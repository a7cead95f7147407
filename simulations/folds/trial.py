"""Folds by question over the experts' pairs, part by part; what is done is read from the folder, and a kill costs the part under way.

    OUT/pretraining.safetensors              the public preference model: trained once, on no question and no answer that an expert graded
    OUT/likelihood-SOURCE-….json             the bare base's likelihood of each question given its answers
    OUT/fold-K-….json                        scores of the reward before and after the hospitals' rounds on the other folds' pairs
    OUT/folds.json                           the figures

A file's name binds all that it depends on: with another study, model or data new files stand beside the old ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from client.train.engines import GradientEngine, HeadEngine, Task
from client.train.objectives import PairLoss
from common.adapters import Adapter
from common.config import Engine, Stage, StudyConfig
from common.errors import ConfigError
from common.models import SharedBase
from common.privacy.accounting import epsilon
from common.privacy.schedule import noise_multiplier, stage_steps, step_mechanism
from common.progress import Progress
from common.secure.context import line_name
from common.storage import storage_errors, write_atomic
from server.align.members import AdapterMember, Member, QuestionLikelihood, score_adapters
from server.align.pretraining import pretrain
from server.federate.cohort import deal
from server.federate.stages import stage_spec
from simulations.folds.adaptation import adapt, sites_of
from simulations.folds.figures import FoldResult, FoldsFigures, accuracies, fold_figures, gains
from simulations.folds.pairs import ExpertPair, dealt, expert_pairs
from simulations.folds.readings import LIKELIHOOD, learned, shallow
from simulations.folds.recorded import READABLE, Floats, Recorded, Texts, digest, recorded
from simulations.seeding import stream
from simulations.sources.datasets import PublicSource

PUBLIC, OPEN, PRIVATE = "public_pairs", "hospitals_not_private", "hospitals_private"
REFERENCE_PAIRS = 32
FIGURES = "folds.json"


@dataclass(frozen=True, slots=True)
class Trial:
    """What every part sees."""

    study: StudyConfig
    source: PublicSource
    base: SharedBase
    folder: Path
    progress: Progress

    @property
    def reference(self) -> list[tuple[str, str]]:
        """Public answers that no member was trained on: they fix the members' scales."""
        return [(pair.prompt, text) for pair in self.source.judge_pairs(REFERENCE_PAIRS) for text in (pair.chosen, pair.rejected)]


def run_folds(study: StudyConfig, source: PublicSource, base: SharedBase, folder: Path, *, folds: int, progress: Progress) -> FoldsFigures:
    """All parts that are not done yet, then the figures. Raises ConfigError for a study without public pairs or with another unit than the pair."""
    if not study.reward.pretraining.pairs:
        raise ConfigError("folds start from the public preference model; set `reward.pretraining.pairs` above 0")
    with storage_errors(folder, "keep the folds there"):
        folder.mkdir(parents=True, exist_ok=True)
    trial = Trial(study, source, base, folder, progress)
    pairs = expert_pairs(source.sets)
    parts = dealt(pairs, folds, study.seed)
    likelihood = _likelihood(trial, pairs)
    start = _public_start(trial)
    engine = _engine(trial, start)
    tested = []
    for number, test in enumerate(parts):
        train = [pair for other, part in enumerate(parts) if other != number for pair in part if pair.rated]
        members = _fold(trial, number, start, train, test, engine)
        steps = {name: [members[key] for key in members if key.startswith(name)] for name in (PUBLIC, *_arms(study))}
        margins = {**shallow(train, test), **learned(study, likelihood, steps, trial.reference, test)}
        tested.append(FoldResult(test, len(train), margins))
    found = _figures(study, tested)
    write_atomic(folder / FIGURES, found.model_dump_json(indent=1) + "\n", mode=READABLE)
    return found


def _arms(study: StudyConfig) -> dict[str, StudyConfig]:
    """The study as it is, and without privacy."""
    bare = study.model_copy(update={"privacy": study.privacy.model_copy(update={"engine": Engine.NONE})})
    return {OPEN: bare, PRIVATE: study} if study.private else {OPEN: bare}


def _public_start(trial: Trial) -> Adapter:
    study = trial.study
    pairs = trial.source.pretraining_pairs(study.reward.pretraining.pairs)
    return pretrain(
        trial.base, stage_spec(study, Stage.REWARD, trial.base), pairs, study.reward, study.model, seed=study.seed,
        state=trial.folder / "pretraining.safetensors", progress=trial.progress,
    ).adapter  # fmt: skip


def _likelihood(trial: Trial, pairs: Sequence[ExpertPair]) -> Recorded:
    member, model = QuestionLikelihood(trial.base, trial.study.model), trial.study.model
    of = digest(trial.base.digest, model.max_prompt_tokens, model.max_answer_tokens)
    groups = {"reference": trial.reference}
    groups |= {source: _texts([p for p in pairs if p.source == source]) for source in sorted({p.source for p in pairs})}
    trial.progress.start("likelihood of the questions", len(groups))
    scores: dict[tuple[str, str], float] = {}
    for name, texts in groups.items():
        scores |= recorded(trial.folder, f"likelihood-{name}", of, texts, partial(_scored, member, texts))[LIKELIHOOD].scores
        trial.progress.advance()
    return Recorded(LIKELIHOOD, scores)


def _scored(member: Member, texts: Texts) -> dict[str, Floats]:
    return {LIKELIHOOD: member([prompt for prompt, _ in texts], [text for _, text in texts])}


def _texts(pairs: Sequence[ExpertPair]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((pair.prompt, text) for pair in pairs for text in (pair.better, pair.worse)))


def _engine(trial: Trial, start: Adapter) -> GradientEngine | None:
    """One that remembers serves all folds: the layers under a head that is trained alone are the same in each."""
    trial.base.put(PUBLIC, start)
    task = Task(trial.base, PUBLIC, start.spec.trained(), PairLoss(trial.study.reward.centring))
    return HeadEngine() if HeadEngine.fits(task) else None


def _fold(
    trial: Trial, number: int, start: Adapter, train: Sequence[ExpertPair], test: Sequence[ExpertPair], engine: GradientEngine | None
) -> dict[str, Recorded]:
    """The start and every arm's members, scored on the fold's answers and the reference."""
    study, texts = trial.study, list(dict.fromkeys([*_texts(test), *trial.reference]))
    settings = (study.reward, study.privacy, study.model, study.simulation, study.seed)
    of = digest(trial.base.digest, start.digest, *(part.model_dump_json() if hasattr(part, "model_dump_json") else part for part in settings),
                *((p.prompt, p.better, p.worse) for p in train))  # fmt: skip

    def score() -> Mapping[str, Floats]:
        trial.progress.start(f"fold {number + 1}", len(_arms(study)) * study.reward.members + 1)
        trial.base.put(PUBLIC, start)
        names = [PUBLIC]
        hospitals = sites_of(trial.base, train, trial.source.sites(), study)
        for arm, as_told in _arms(study).items():
            for member, cohort in enumerate(deal(tuple(hospitals), study.reward.members, study.seed)):
                adapted = adapt(
                    as_told, trial.base, start, {site: hospitals[site] for site in cohort}, member=member,
                    noise_seed=stream("fold noise", number, study.seed), engine=engine,
                )  # fmt: skip
                names.append(f"{arm}-{line_name(Stage.REWARD, member)}")
                trial.base.put(names[-1], adapted)
                trial.progress.advance()
        members = [AdapterMember(trial.base, name, study.model) for name in names]
        found = score_adapters(members, [prompt for prompt, _ in texts], [text for _, text in texts])
        for name in names[1:]:
            trial.base.drop(name)
        trial.progress.advance()
        return dict(zip(names, found, strict=True))

    return recorded(trial.folder, f"fold-{number}", of, texts, score)


def _figures(study: StudyConfig, tested: Sequence[FoldResult]) -> FoldsFigures:
    private = study.private
    sigma = noise_multiplier(study, Stage.REWARD) if private else None
    spent = None
    if private:
        step = step_mechanism(study, Stage.REWARD, expected_units=study.privacy.sampling_rate * study.simulation.declared_preference_units)
        spent = epsilon([step.times(stage_steps(study, Stage.REWARD))], study.privacy.delta)
    return FoldsFigures(
        folds=tuple(map(fold_figures, tested)), pooled=accuracies(tested), untouched=accuracies(tested[1:]), gain=gains(tested),
        gain_untouched=gains(tested[1:]), unit=study.unit(Stage.REWARD), epsilon=spent, delta=study.privacy.delta if private else None,
        noise_multiplier=sigma,
    )  # fmt: skip
