"""Placement `sum`: three hospitals each add a share of the noise, a summing exchange shows the coordinator the sum alone.

At m = m_min and c = 0 the sum is central DP-SGD on the union of their patients: the same integers, and noise of exactly σC.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from client.federate.credentials import smallest_sum
from client.hospital.policy import HospitalPolicy
from client.hospital.site import Site
from client.train.dp_sgd import private_step
from client.train.engines import FastEngine, Task
from client.train.examples import SftData, poisson_sample
from client.train.noise import SeededNoise
from client.train.objectives import CompletionLoss
from client.train.round_work import RoundWork
from client.train.update import ADAPTER, run_round
from common.bases import load_base
from common.config import AdapterConfig, PrivacyConfig, RewardConfig, SecureConfig, SimulationConfig, Stage, StudyConfig, TrainingConfig
from common.errors import ConfigError, TooFewSurvivors
from common.models import SharedBase
from common.privacy.accounting import epsilon
from common.privacy.ledger import State
from common.privacy.mechanism import Mechanism, Placement, Unit
from common.privacy.schedule import noise_share
from common.secure.exchange import PlainExchange, PlainSite, Summed, require_fit
from common.secure.fixedpoint import grid_step, to_words
from common.secure.masked.site import MaskedSite
from server.federate.aggregate import mean_direction
from tests.helpers.masked import Hospitals, drive
from tests.helpers.sites import PATIENTS, make_site

NAMES = ("alder", "birch", "cedar")
RATE, SIGMA = 0.25, 1.5


def study_of(*, min_survivors: int = 3, colluders: int = 0, **sft: Any) -> StudyConfig:
    privacy = PrivacyConfig(placement=Placement.SUM, sampling_rate=RATE, noise_multiplier=SIGMA, tolerated_colluders=colluders)
    training = TrainingConfig(min_survivors=min_survivors, adapter=AdapterConfig(rank=8, alpha=16.0), **sft)
    return StudyConfig(
        secure=SecureConfig(group_size=256),
        privacy=privacy,
        sft=training,
        reward=RewardConfig(min_survivors=min_survivors),
        simulation=SimulationConfig(hospitals=200),
    )


def work_of(base: SharedBase, study: StudyConfig, sites: int, **changes: Any) -> RoundWork:
    start = base.spec(study.sft.adapter).initial()
    fields = {"study": study, "stage": Stage.SFT, "member": None, "round": 0, "attempt": 0, "adapter": start}
    return RoundWork(**{**fields, "noise_multiplier": SIGMA, "expected_units": RATE * PATIENTS, "sites": sites, **changes})


@pytest.fixture(scope="module")
def base() -> SharedBase:
    return load_base("tiny", "float32")


@pytest.fixture
def hospitals(tmp_path: Path) -> list[Site]:
    policy = HospitalPolicy(allowed_placements=(Placement.SITE, Placement.SUM), max_epsilon=10.0)
    for name in NAMES:
        make_site(tmp_path / name, policy=policy)
    return [Site.open(tmp_path / name) for name in NAMES]


class Adding:
    """An exchange that shows the coordinator the sum alone, in memory: words of Z₂³² added up."""

    name, hides_updates = "adding", True

    def __init__(self) -> None:
        self.total: Any = None
        self.survivors: list[str] = []

    def add(self, site: str, words: Any, sites: int) -> None:
        update = to_words(words, sites)
        self.total = update if self.total is None else self.total + update  # modulo 2³², as masked words add
        self.survivors.append(site)

    def result(self) -> Summed:
        return Summed(self.total.view(np.int32).astype(np.int64), tuple(sorted(self.survivors)))


def test_the_sum_at_the_smallest_surviving_set_is_central_dp_sgd_on_the_union(hospitals: list[Site], base: SharedBase) -> None:
    study, exchange, noise = study_of(), Adding(), 0
    work, drawn = work_of(base, study, len(NAMES)), []
    share = noise_share(study, Stage.SFT, sites=len(NAMES))
    task: Task[Any] = Task(base, ADAPTER, work.adapter.spec.trained(0), CompletionLoss())
    step = Mechanism(SIGMA, RATE, 1.0, RATE * PATIENTS, Unit.PATIENT, placement=Placement.SUM)
    around: Any = {"grid": grid_step(1.0), "sites": len(NAMES), "token_budget": 4000}
    for site in hospitals:
        source = SeededNoise(7, site.name)
        exchange.add(site.name, run_round(work, site, base, noise=source).words, len(NAMES))
        (charge,) = site.ledger.charges()
        assert (charge.mechanism, charge.state) == (step, State.COMMITTED), "the ledger charges the noise of the sum, σ, for each site"
        key = source.step_key(charge.entry, Placement.SUM)
        drawn += poisson_sample(SftData(site.vault, site.gate, base, study.model, Unit.PATIENT), rate=RATE, rows_per_unit=2, key=key)
        noise = noise + private_step(task, FastEngine(), [], step, key=key, noise_share=share, **around).words.astype(np.int64)
    assert len(drawn) > 3
    summed = exchange.result()
    base.put(ADAPTER, work.adapter)
    central = private_step(task, FastEngine(), drawn, step, key=bytes(32), noise_share=0.0, **around).words.astype(np.int64)
    assert np.array_equal(summed.words, central + noise), "the sum of the sites' clipped integers is not the union's"
    # And the noise is the central Gaussian: of standard deviation σC, whatever the number of sites.
    z = noise * grid_step(1.0) / SIGMA
    assert len(z) > 5000
    assert kstest(z, "norm").pvalue > 1e-3, f"standard deviation {z.std():.3f}·σC"
    assert z.std() == pytest.approx(1.0, rel=0.03)
    # The server divides by the union's L, as central DP-SGD does.
    direction = mean_direction(summed, grid_step(1.0), dict.fromkeys(NAMES, RATE * PATIENTS))
    assert np.allclose(direction, summed.words * grid_step(1.0) / (RATE * PATIENTS * 3))


@given(st.integers(3, 40), st.data())
def test_what_survives_has_at_least_the_noise_that_was_charged(smallest: int, data: st.DataObject) -> None:
    colluders = data.draw(st.integers(0, smallest - 1), label="c")
    survivors = data.draw(st.integers(smallest, 60), label="m")
    subtracted = data.draw(st.integers(0, colluders), label="colluders in it")
    share = noise_share(study_of(min_survivors=smallest, colluders=colluders), Stage.SFT, sites=survivors)
    assert (survivors - subtracted) * share**2 >= 1 - 1e-12
    if (survivors, colluders) == (smallest, 0):
        assert survivors * share**2 == pytest.approx(1.0)


def test_a_twin_whose_shares_are_sized_for_the_whole_cohort_loses_noise_with_a_dropout() -> None:
    """Five of eight survive: shares of 1/√8 leave σ·√(5/8), and ε is above what was charged. Ours are sized for five."""
    steps = 20
    charged = epsilon([Mechanism(SIGMA, RATE, 1.0, 5.0, Unit.PATIENT, steps)], 1e-6)
    for share, safe in ((1 / math.sqrt(8), False), (noise_share(study_of(min_survivors=5), Stage.SFT, sites=8), True)):
        real = epsilon([Mechanism(round(SIGMA * math.sqrt(5) * share, 9), RATE, 1.0, 5.0, Unit.PATIENT, steps)], 1e-6)
        assert (real <= charged) is safe, f"share {share:.3f}: {real:.2f} against {charged:.2f} charged"


def test_a_repeated_round_is_a_new_step_and_charged(hospitals: list[Site], base: SharedBase) -> None:
    site, study = hospitals[0], study_of()
    first, second = (run_round(work_of(base, study, 3, attempt=n), site, base, noise=SeededNoise(7, site.name)) for n in (0, 1))
    assert not np.array_equal(first.words, second.words)
    assert [charge.entry.attempt for charge in site.ledger.charges()] == [0, 1]
    assert not (site.folder / "outbox").exists() or not list((site.folder / "outbox").iterdir()), "a share must not lie on the disk"


def test_an_exchange_that_shows_each_update_is_refused() -> None:
    for exchange in (PlainExchange(), PlainSite()):
        with pytest.raises(ConfigError, match="only a share of the noise"):
            require_fit(exchange.name, exchange.hides_updates, Placement.SUM)
    require_fit(MaskedSite.name, MaskedSite.hides_updates, Placement.SUM)


@pytest.mark.parametrize("ours", [False, True], ids=["twin", "ours"])
def test_a_coordinator_that_opens_the_sum_of_too_few_shares_is_refused(ours: bool) -> None:
    """Seven sites, shares for at least six; the coordinator loses two and goes on with the five that the masks need.

    The twin only asks for as many as the masks need: the sum is opened with five sixths of the variance that was charged.
    """
    names = [f"site-{i}" for i in range(7)]
    study = study_of(min_survivors=6)
    share = noise_share(study, Stage.SFT, sites=len(names))
    floor = smallest_sum(study, Stage.SFT) if ours else 3
    hospitals = Hospitals(tuple(names), min_sites=floor)
    lost = lambda phase, site, data: None if phase == "update" and site in names[:2] else data  # noqa: E731  # a fault in one line
    if ours:
        with pytest.raises(TooFewSurvivors):
            drive(hospitals, hospitals.coordinator(), reply=lost)
        assert all("6 of them must" in str(error) for error in hospitals.refused.values())
        assert len(hospitals.refused) >= 5
    else:
        summed, _ = drive(hospitals, hospitals.coordinator(), reply=lost)
        assert len(summed.survivors) * share**2 == pytest.approx(5 / 6), "the noise of the opened sum, in σ²"
