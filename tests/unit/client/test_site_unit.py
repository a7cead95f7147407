"""The site as the unit: whatever it holds, the sum moves by at most C; several local steps are one release."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client.hospital.policy import HospitalPolicy, Request
from client.hospital.site import Site
from client.train.dp_sgd import unit_gradients
from client.train.engines import FastEngine, UnitRows
from client.train.noise import SeededNoise
from client.train.objectives import CompletionLoss
from client.train.round_work import RoundWork
from client.train.site_unit import site_step
from client.train.update import run_round
from common.bases import load_base
from common.config import AdapterConfig, PrivacyConfig, Stage, StudyConfig, TrainingConfig
from common.errors import PolicyRefused
from common.models import SharedBase
from common.privacy.mechanism import Mechanism, Placement, Unit
from common.privacy.schedule import stage_steps, whole_schedule
from tests.helpers.gradients import Given, Width
from tests.helpers.sites import make_site
from tests.unit.client.test_dp_sgd import real_task

GRID, SIGMA = 2.0**-16, 2.0
STEP = Mechanism(SIGMA, 1.0, 1.0, 1.0, Unit.SITE, placement=Placement.SUM)


def step(rows: list[Any], mechanism: Mechanism = STEP, *, task: Any = None, engine: Any = None, move: Any = None, **changes: Any) -> Any:
    settings = {"key": bytes(32), "local_steps": 1, "rows_per_step": 4, "grid": GRID, "sites": 5, "token_budget": 1000, "noise_share": 0.0}
    return site_step(task or Width(64), engine or Given(), rows, mechanism, move or (lambda g: None), **{**settings, **changes})  # type: ignore[arg-type]


def test_a_site_adds_at_most_the_clip_norm_whatever_it_holds() -> None:
    for rows in ([torch.full((64,), 1e6)], [torch.full((64,), 3.0)] * 1000, [torch.full((64,), 1e-3)]):
        for local_steps in (1, 7):
            words = step(rows, local_steps=local_steps).words.astype(np.int64)
            assert int((words**2).sum()) <= 2**32, f"{len(rows)} rows, {local_steps} local steps"


def test_its_round_is_the_clipped_sum_of_its_local_steps_from_where_each_leads() -> None:
    task = real_task(CompletionLoss())
    rows = CompletionLoss().made_up((12, 15, 9), lambda n: tuple(range(5, 5 + n)))
    moved: list[torch.Tensor] = []

    def move(gradient: torch.Tensor) -> None:
        moved.append(gradient.clone())
        adapter = task.base.get("local")
        task.base.put("local", adapter.with_vector((adapter.vector(0) - 0.1 * gradient.numpy()).astype(np.float32), 0))

    words = step(rows, task=task, engine=FastEngine(), move=move, local_steps=3, rows_per_step=3).words
    (last,) = unit_gradients(task, FastEngine(), [UnitRows(tuple(rows))], 1000)
    total = moved[0].double() + moved[1].double() + last[0].double()
    assert len(moved) == 2
    assert not torch.equal(moved[0], moved[1])
    expected = -total / max(1.0, float(total.norm())) if float(total.norm()) > 1 else -total
    assert np.abs(words * GRID - expected.numpy()).max() < 2e-4


def test_a_round_sat_out_is_noise_alone_and_looks_the_same() -> None:
    rare = Mechanism(SIGMA, 1e-9, 1.0, 1e-9, Unit.SITE, placement=Placement.SUM)
    out = step([torch.full((64,), 5.0)], rare, noise_share=0.5)
    empty = step([], noise_share=0.5)
    assert out.units_drawn == empty.units_drawn == 0
    assert np.array_equal(out.words, empty.words)
    assert out.words.any()
    bad = step([torch.full((64,), float("nan"))], noise_share=0.5)
    assert (bad.units_drawn, bad.units_dropped) == (1, 1)
    assert np.array_equal(bad.words, out.words)


def test_a_round_sat_out_takes_the_work_of_one_taken_part_in() -> None:
    """Twin: a site that trained only when its coin said so would show the coin by how soon it answers, and q would amplify nothing."""

    class Counting(Given):
        calls = 0

        def gradients(self, *asked: Any) -> torch.Tensor:
            self.calls += 1
            return super().gradients(*asked)

    rare, moved = Mechanism(SIGMA, 1e-9, 1.0, 1e-9, Unit.SITE, placement=Placement.SUM), []
    for mechanism, drawn in ((STEP, 1), (rare, 0)):
        engine = Counting()
        done = step([torch.full((64,), 5.0)], mechanism, engine=engine, move=moved.append, local_steps=3)
        assert (done.units_drawn, engine.calls, len(moved)) == (drawn, 3, 2)
        moved.clear()


@pytest.fixture(scope="module")
def base() -> SharedBase:
    return load_base("tiny", "float32")


def study_of(**sft: Any) -> StudyConfig:
    privacy = PrivacyConfig(placement=Placement.SUM, unit=Unit.SITE, sampling_rate=1.0, noise_multiplier=SIGMA)
    return StudyConfig(privacy=privacy, sft=TrainingConfig(rounds=3, adapter=AdapterConfig(rank=2, alpha=4.0), **sft))


def test_a_round_of_several_local_steps_is_charged_once_to_the_account_of_sites(tmp_path: Path, base: SharedBase) -> None:
    policy = HospitalPolicy(allowed_placements=(Placement.SUM,), allowed_units=(Unit.SITE,), max_epsilon=10.0)
    make_site(tmp_path / "north", policy=policy)
    study = study_of(local_steps=4)
    with Site.open(tmp_path / "north") as site:
        start = base.spec(study.sft.adapter).initial()
        run_round(RoundWork(study, Stage.SFT, None, 0, 0, start, SIGMA, 1.0, 5), site, base, noise=SeededNoise(1, "north"))
        assert [(m.unit, m.steps, m.sampling_rate) for m in site.ledger.spent(Unit.SITE)] == [(Unit.SITE, 1, 1.0)]
    assert stage_steps(study, Stage.SFT) == 3
    assert [m.steps for m in whole_schedule(study, Unit.SITE, expected_units=1.0)] == [3]


def test_it_needs_noise_in_shares_and_the_hospitals_permission() -> None:
    with pytest.raises(ValueError, match="nothing but noise"):
        StudyConfig(privacy=PrivacyConfig(unit=Unit.SITE))
    with pytest.raises(PolicyRefused, match="unit of protection is site"):
        HospitalPolicy(allowed_placements=(Placement.SUM,)).admit(Request.of(study_of(), Stage.SFT, sites=5))
    with pytest.raises(ValueError, match="noise shares only add up"):
        StudyConfig(privacy=PrivacyConfig(placement=Placement.SUM), sft=TrainingConfig(local_steps=2))
