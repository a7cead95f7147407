"""The whole path with the noise in shares, for patients and for the site as the unit: same gates, same account, another statement."""

import html
import math
import re
from pathlib import Path

import pytest

from client.hospital.site import Site
from common.config import Stage, load_study
from common.privacy.ledger import State
from common.privacy.mechanism import Mechanism, Placement, Unit
from common.privacy.schedule import noise_multiplier, noise_share
from server.evaluate.summary import load_summary
from simulations.study import run_study

SMOKE = Path(__file__).resolve().parents[2] / "configs" / "smoke.toml"
SMALLER = ["simulation.patients=3", "simulation.declared_units=3", "simulation.declared_preference_units=3", "simulation.pairs=4"]
IN_SHARES = {
    Unit.PATIENT: ["privacy.placement=sum"],
    Unit.SITE: ["privacy.placement=sum", "privacy.unit=site", "privacy.preference_unit=site", "sft.local_steps=2"],
}
SAID = {
    Unit.PATIENT: ("shares that reach σ·C in the sum", "their contributions meet in one sum", "One patient at one site"),
    Unit.SITE: ("shares that reach σ·C in the sum", "any one hospital contributed anything", "What a round moved at a site is cut"),
}


@pytest.mark.slow
@pytest.mark.parametrize("unit", list(IN_SHARES))
def test_a_study_with_noise_in_shares_runs_to_its_report(tmp_path: Path, unit: Unit) -> None:
    config = load_study(SMOKE, [*SMALLER, *IN_SHARES[unit]])
    run_study(config, tmp_path / "run")
    summary = load_summary(tmp_path / "run")
    assert all(gate.held for gate in summary.gates.values()), summary.gates
    assert summary.unit == unit
    assert all(0.98 * config.privacy.epsilon <= e <= config.privacy.epsilon for e in summary.epsilon.values())
    sigma = noise_multiplier(config, Stage.SFT)
    units = 1 if unit is Unit.SITE else 3
    step = Mechanism(sigma, config.privacy.sampling_rate, 1.0, config.privacy.sampling_rate * units, unit, placement=Placement.SUM)
    for folder in sorted((tmp_path / "run" / "sites").iterdir()):
        with Site.open(folder) as site:
            charges = site.ledger.charges()
        assert {(c.mechanism, c.state) for c in charges} == {(step, State.COMMITTED)}, "each site is charged the noise of the sum"
        assert len(charges) == config.sft.rounds + config.reward.rounds, "local steps inside a site's release are no steps of their own"
        assert not list((folder / "outbox").glob("*.update")), "a share of the noise must not lie on the disk"
    # Every site of a cohort must stay, or the others' shares still reach σ.
    assert noise_share(config, Stage.SFT, sites=6) == pytest.approx(1 / math.sqrt(config.sft.min_survivors))
    page = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", "", (tmp_path / "run" / "report.html").read_text(encoding="utf-8"))))
    assert [said for said in SAID[unit] if said not in page] == []
    assert bool(summary.privacy.several_sites) is (unit is Unit.PATIENT)
