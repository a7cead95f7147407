"""A study's private steps as mechanisms: which σ, how many steps, and what the whole schedule will cost before it starts."""

import math

from common.config import Stage, StudyConfig
from common.errors import ConfigError, TrainingRefused
from common.privacy.accounting import calibrate
from common.privacy.mechanism import Mechanism, Placement, Unit


def round_steps(study: StudyConfig, stage: Stage) -> int:
    """Private steps of one round at one site. With the unit `site` the steps inside are nobody's business: the round is one release."""
    return 1 if study.private and study.unit(stage) is Unit.SITE else study.stage(stage).local_steps


def stage_steps(study: StudyConfig, stage: Stage) -> int:
    """Private steps that one site takes in a stage. A site trains one member of the reward ensemble, so members do not multiply it."""
    return study.stage(stage).rounds * round_steps(study, stage)


def declared_units(study: StudyConfig, stage: Stage) -> int:
    """N_s of a stage, as the study's simulation and forecast take it; a site is one of itself."""
    if study.unit(stage) is Unit.SITE:
        return 1
    return study.simulation.declared_units if stage is Stage.SFT else study.simulation.declared_preference_units


def stages_of(study: StudyConfig, unit: Unit) -> tuple[Stage, ...]:
    """The stages whose account is kept in `unit`: these compose, others do not."""
    return tuple(stage for stage in Stage if study.unit(stage) is unit)


def noise_multiplier(study: StudyConfig, stage: Stage) -> float:
    """σ of a stage: the study's own figure, else calibrated so that all stages of the same unit together cost `privacy.epsilon`.

    The same figure at every site. Raises ConfigError when the study trains without privacy.
    """
    if not study.private:
        raise ConfigError('`privacy.engine = "none"` trains without privacy: there is no noise to calibrate')
    privacy = study.privacy
    if privacy.noise_multiplier is not None:
        return privacy.noise_multiplier
    steps = sum(stage_steps(study, other) for other in stages_of(study, study.unit(stage)))
    return calibrate(privacy.epsilon, privacy.delta, privacy.sampling_rate, steps)


def noise_share(study: StudyConfig, stage: Stage, *, sites: int) -> float:
    """This site's part of the standard deviation σC: 1, or under placement `sum` 1/√(m_min − c), so that every surviving sum reaches σ.

    m_min is the smallest number of survivors that the stage accepts, c the sites assumed to subtract their own noise. Raises TrainingRefused for
    a cohort of fewer `sites` than m_min: its sum could not reach σ, however many survive.
    """
    if study.privacy.placement is Placement.SITE:
        return 1.0
    smallest = study.stage(stage).min_survivors
    if sites < smallest:
        raise TrainingRefused(
            f"the cohort has {sites} sites and the noise is shared by at least {smallest} survivors: their sum would have too little of it; lower "
            "`min_survivors` or deal larger cohorts"
        )
    return 1 / math.sqrt(smallest - study.privacy.tolerated_colluders)


def step_mechanism(study: StudyConfig, stage: Stage, *, expected_units: float, sigma: float | None = None) -> Mechanism:
    """One private step of a stage at a site with L = `expected_units`; `sigma` overrides the calibrated σ."""
    privacy = study.privacy
    return Mechanism(
        noise_multiplier=noise_multiplier(study, stage) if sigma is None else sigma,
        sampling_rate=privacy.sampling_rate,
        clip_norm=privacy.clip_norm,
        expected_units=expected_units,
        unit=study.unit(stage),
        placement=privacy.placement,
    )


def whole_schedule(study: StudyConfig, unit: Unit, *, expected_units: float) -> list[Mechanism]:
    """Everything the study will do to one `unit` at one site, for an ε that is known before the first note is read."""
    return [
        step_mechanism(study, stage, expected_units=expected_units).times(stage_steps(study, stage)) for stage in stages_of(study, unit)
    ]
