"""Folds by question over the experts' pairs, part by part; what is done is read from the folder, and a kill costs the part under way.

    OUT/pretraining.safetensors          the public preference model: trained once, on no question and no answer that an expert graded
    OUT/likelihood-SOURCE-….json         the bare base's likelihood of each question given its answers
    OUT/states-SOURCE-….safetensors      what the reward's head reads of each answer
    OUT/folds.json                       the figures

A file's name binds all that it depends on: with another study, model or data new files stand beside the old ones. The hospitals' rounds on
the head alone take seconds on these states, and are run again each time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from client.train.objectives import Objective
from common.adapters import Adapter
from common.config import Engine, Factors, Stage, StudyConfig
from common.errors import ConfigError
from common.models import SharedBase
from common.privacy.accounting import epsilon
from common.privacy.schedule import noise_multiplier, stage_steps, step_mechanism
from common.progress import Progress
from common.secure.context import line_name
from common.storage import storage_errors, write_atomic
from server.align.members import Member, QuestionLikelihood
from server.align.pretraining import pretrain
from server.federate.cohort import deal
from server.federate.stages import stage_spec
from simulations.folds.adaptation import SitePairs, adapt, pairs_of
from simulations.folds.figures import FoldResult, FoldsFigures, accuracies, fold_figures, gains
from simulations.folds.pairs import BESIDE, ExpertPair, dealt, expert_pairs
from simulations.folds.readings import LIKELIHOOD, learned, shallow
from simulations.folds.recorded import READABLE, Floats, Recorded, Texts, digest, recorded
from simulations.folds.states import StateEngine, StateLoss, StatePair, States, states, together
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
    """All parts that are not done yet, then the figures. Raises ConfigError for a study that trains more than the head, or protects another unit
    than the pair."""
    if study.reward.adapter.factors is not Factors.HEAD:
        raise ConfigError(
            'folds run the hospitals\' rounds on the head alone, above layers that learned from public pairs: set `reward.adapter.factors = "head"`'
        )
    with storage_errors(folder, "keep the folds there"):
        folder.mkdir(parents=True, exist_ok=True)
    trial = Trial(study, source, base, folder, progress)
    pairs = expert_pairs(source.sets)
    parts = dealt(pairs, folds, study.seed)
    start = _public_start(trial)
    likelihood, read = _scored(trial, start, pairs)
    progress.start("the hospitals' rounds", len(parts))
    tested = []
    for number, test in enumerate(parts):
        train = [pair for other, part in enumerate(parts) if other != number for pair in part if pair.rated]
        steps = {PUBLIC: [read.member(PUBLIC, start)] * study.reward.members, **_adapted(trial, number, start, read, train)}
        margins = {**shallow(train, test), **learned(study, likelihood, steps, trial.reference, test)}
        tested.append(FoldResult(test, len(train), margins))
        progress.advance()
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


def _scored(trial: Trial, start: Adapter, pairs: Sequence[ExpertPair]) -> tuple[Recorded, States]:
    """Every answer under the bare base and under the start, source by source; the rated ones first."""
    member, model = QuestionLikelihood(trial.base, trial.study.model), trial.study.model
    of = digest(trial.base.digest, model.max_prompt_tokens, model.max_answer_tokens)
    sources = sorted({pair.source for pair in pairs}, key=lambda source: (source in BESIDE, source))
    groups = {"reference": trial.reference, **{source: _texts([pair for pair in pairs if pair.source == source]) for source in sources}}
    trial.progress.start("read the answers", 2 * len(groups))
    scores, found = dict[tuple[str, str], float](), list[States]()
    for name, texts in groups.items():
        found.append(states(trial.folder, name, trial.base, start, texts, model))
        trial.progress.advance()
        score = partial(_likelihoods, member, texts)
        scores |= recorded(trial.folder, f"likelihood-{name}", of, texts, score)[LIKELIHOOD].scores
        trial.progress.advance()
    return Recorded(LIKELIHOOD, scores), together(found)


def _likelihoods(member: Member, texts: Texts) -> dict[str, Floats]:
    return {LIKELIHOOD: member([prompt for prompt, _ in texts], [text for _, text in texts])}


def _texts(pairs: Sequence[ExpertPair]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((pair.prompt, text) for pair in pairs for text in (pair.better, pair.worse)))


def _adapted(trial: Trial, number: int, start: Adapter, read: States, train: Sequence[ExpertPair]) -> dict[str, list[Recorded]]:
    """Each arm's members after the hospitals' rounds on `train`."""
    study, places = trial.study, {text: row for row, text in enumerate(read.texts)}
    hospitals = {
        site: SitePairs([read.pair(p.prompt, p.better, p.worse, places) for p in of_site])
        for site, of_site in pairs_of(train, trial.source.sites(), study).items()
    }
    loss: Objective[StatePair] = StateLoss(study.reward.centring, study.reward.tie_margin)  # type: ignore[assignment]  # its rows are states
    found: dict[str, list[Recorded]] = {}
    for arm, as_told in _arms(study).items():
        found[arm] = []
        for member, cohort in enumerate(deal(tuple(hospitals), study.reward.members, study.seed)):
            of_cohort = {site: hospitals[site] for site in cohort}
            seed = stream("fold noise", number, study.seed)
            adapted = adapt(as_told, trial.base, start, of_cohort, loss, StateEngine(), member=member, noise_seed=seed)
            found[arm].append(read.member(f"{arm}-{line_name(Stage.REWARD, member)}", adapted))
    return found


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
