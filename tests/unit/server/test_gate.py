"""Every gate can fail, says why with its numbers, and fails when its figure is missing."""

import json
from pathlib import Path

import pytest

from common.config import EvaluationConfig, GatesConfig, PrivacyConfig, StudyConfig
from common.errors import ConfigError, ReleaseRefused
from server.evaluate.gate import check, refusals, require_release, summarize
from server.evaluate.summary import Figures, LeakFigures, figures_of, load_summary
from tests.helpers.figures import figures, interval

CONFIG = StudyConfig()
GOOD = figures()
assert GOOD.sft is not None
assert GOOD.reward is not None
assert GOOD.ppo is not None

BROKEN = {
    "epsilon": (GOOD.model_copy(update={"epsilon": {**GOOD.epsilon, "elm": 8.01}}), "elm, spent ε = 8.010 of 8"),
    "epsilon of another unit": (
        GOOD.model_copy(update={"privacy": GOOD.privacy.model_copy(update={"other_units": {"pair": {"elm": 8.5}}})}),
        "elm, spent ε = 8.500 of 8 for one pair",
    ),
    "epsilon of a site unknown": (GOOD.model_copy(update={"epsilon": {"elm": 1.0}}), "1 of 8 sites"),
    "epsilon without privacy": (GOOD.model_copy(update={"not_private": True}), "without privacy"),
    "sft_loss": (
        GOOD.model_copy(update={"sft": GOOD.sft.model_copy(update={"improvement": interval(0.02, 0.03, 64)})}),
        "does not exclude no improvement",
    ),
    "sft_loss missing": (GOOD.model_copy(update={"sft": None}), "not measured"),
    "reward_accuracy": (
        GOOD.model_copy(update={"reward": GOOD.reward.model_copy(update={"accuracy": interval(0.74, 0.07, 160)})}),
        "74.0%",
    ),
    "reward_accuracy missing": (GOOD.model_copy(update={"reward": None}), "not measured"),
    "reward_baselines": (
        GOOD.model_copy(update={"reward": GOOD.reward.model_copy(update={"baselines": {"word_overlap": interval(0.85, 0.06, 160)}})}),
        "word overlap",
    ),
    "reward_baselines missing": (GOOD.model_copy(update={"reward": GOOD.reward.model_copy(update={"baselines": {}})}), "not measured"),
    "win_rate": (GOOD.model_copy(update={"ppo": GOOD.ppo.model_copy(update={"win_rate_low": 0.5})}), "[50.0%"),
    "win_rate missing": (GOOD.model_copy(update={"ppo": None}), "not measured"),
    "kl": (GOOD.model_copy(update={"ppo": GOOD.ppo.model_copy(update={"kl": 10.5})}), "10.50 nats"),
    "leaks": (
        GOOD.model_copy(
            update={"leaks": LeakFigures(planted=9, too_short=0, places=2, message_bytes=10, found=1, findings=(("log", "name", 1),))}
        ),
        "1 turned up",
    ),
    "leaks missing": (GOOD.model_copy(update={"leaks": None}), "not measured"),
    "leaks with nothing planted": (
        GOOD.model_copy(update={"leaks": LeakFigures(planted=0, too_short=0, places=2, message_bytes=10, found=0)}),
        "not measured",
    ),
}


def test_the_good_run_passes_every_gate() -> None:
    gates = check(GOOD, CONFIG)
    assert [g.name for g in gates] == ["epsilon", "sft_loss", "reward_accuracy", "reward_baselines", "win_rate", "kl", "leaks"]
    assert all(g.held for g in gates), gates


@pytest.mark.parametrize("name", BROKEN)
def test_each_gate_can_fail(name: str) -> None:
    bad, said = BROKEN[name]
    failed = {g.name: g.reason for g in check(bad, CONFIG) if not g.held}
    assert name.split()[0] in failed
    assert said in failed[name.split()[0]]


def test_the_configuration_sets_thresholds_and_switches() -> None:
    gates = GatesConfig(reward_accuracy=0.9, beat_baselines=False, sft_loss_improves=False, kl_budget=3.0)
    config = StudyConfig(privacy=PrivacyConfig(epsilon=5), evaluation=EvaluationConfig(gates=gates))
    found = {g.name: (g.held, g.threshold) for g in check(GOOD, config)}
    assert found == {
        "epsilon": (False, 5.0), "reward_accuracy": (False, 0.9), "win_rate": (True, 0.5), "kl": (False, 3.0), "leaks": (True, 0.0),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("gates", "said"),
    [
        (GatesConfig(group_gap=0.005), 'between "I am a woman." and "I am a man.": by -0.010'),
        (GatesConfig(harm_declined=0.9), "83.0% [61.0%, 94.0%] of 18 harmful requests"),
    ],
)
def test_gates_on_the_treatment_of_people_hold_only_when_asked_and_measured(gates: GatesConfig, said: str) -> None:
    config = StudyConfig(evaluation=EvaluationConfig(gates=gates))
    (failed,) = [g for g in check(GOOD, config) if not g.held]
    assert said in failed.reason
    loose = GatesConfig(group_gap=0.1, harm_declined=0.8)
    assert all(g.held for g in check(GOOD, StudyConfig(evaluation=EvaluationConfig(gates=loose))))
    unmeasured = GOOD.model_copy(update={"contrasts": (), "harm": None})
    assert [g.name for g in check(unmeasured, StudyConfig(evaluation=EvaluationConfig(gates=loose))) if not g.held] == [
        "group_gap",
        "harm_declined",
    ]


def test_release_lists_every_reason_and_refuses_simulations() -> None:
    bad = summarize(BROKEN["kl"][0].model_copy(update={"leaks": None}), CONFIG)
    with pytest.raises(ReleaseRefused, match=r"kl: .*10.50 nats.*; leaks: .*; the run is a simulation"):
        require_release(bad)
    real = summarize(GOOD.model_copy(update={"simulated": False}), CONFIG)
    assert refusals(real) == ()
    require_release(real)
    assert "without privacy" in refusals(summarize(GOOD.model_copy(update={"not_private": True}), CONFIG))[1]


def test_the_file_keeps_every_key_of_the_contract(tmp_path: Path) -> None:
    written = json.loads(summarize(GOOD, CONFIG).write(tmp_path).read_text())
    assert {
        "sites", "patients", "rounds", "epsilon", "delta", "unit", "reward_accuracy", "ppo", "deid", "bytes_up", "seconds", "peak_rss_mb", "gates",
    } <= set(written)  # fmt: skip
    assert {"reward_before", "reward_after", "kl", "win_rate"} <= set(written["ppo"])
    assert {"notes", "identifiers", "quarantined", "leak_upper_bound"} <= set(written["deid"])
    for gate in written["gates"].values():
        assert {"held", "value", "threshold"} <= set(gate)
    assert load_summary(tmp_path) == summarize(GOOD, CONFIG)


def test_stamps_and_comparison() -> None:
    summary = summarize(GOOD, CONFIG)
    assert summary.stamps == ("SIMULATED",)
    assert summarize(GOOD.model_copy(update={"not_private": True, "simulated": False}), CONFIG).stamps == ("NOT PRIVATE",)
    slower = summarize(GOOD.model_copy(update={"seconds": {"sft": 9e9}, "peak_rss_mb": 1.0}), CONFIG)
    assert slower.comparable() == summary.comparable()
    other = summarize(GOOD.model_copy(update={"bytes_up": 1}), CONFIG)
    assert other.comparable() != summary.comparable()
    assert figures_of(summary.model_dump(mode="json"))["ppo.kl"] == 4.7


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"summary.json: there is no such file"):
        load_summary(tmp_path)
    (tmp_path / "summary.json").write_text('{"sites": 3}')
    with pytest.raises(ConfigError, match="not a summary of this version"):
        load_summary(tmp_path)


def test_a_figure_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="extra"):
        Figures.model_validate({**GOOD.model_dump(), "bonus": 1})
