"""A second study on the same sites: it trains the reward alone, under a name and noise of its own, and its account holds the first one's steps."""

from pathlib import Path

import pytest

from common.adapters import Adapter
from common.errors import ConfigError, JournalBroken
from server.evaluate.asked import asked_of_sites
from server.federate.status import next_line
from server.run_folder import RunFolder, federated_lines
from server.succession import take_over
from tests.unit.server.test_federated_stages import SITES, config, introduced, train


@pytest.fixture
def first(tmp_path: Path) -> RunFolder:
    run = introduced(RunFolder.create(tmp_path / "first", config()))
    for line in federated_lines(run.study):
        train(run, line)
    return RunFolder.open(run.path)


def test_the_reward_is_trained_again_and_nothing_that_was_asked_is_forgotten(first: RunFolder, tmp_path: Path) -> None:
    second = introduced(RunFolder.create(tmp_path / "second", config(study_id="toy-2")))
    (sft,) = take_over(second, first)
    assert take_over(second, first) == [sft], "a launch that was killed may be repeated"
    assert Adapter.load(sft.folder).digest == first.registry.latest("sft").figures["adapter_digest"]
    assert str(sft.figures["taken_over_from"]).startswith("toy: sft/1, ")
    assert next_line(second) == "reward-0"
    for line in ("reward-0", "reward-1"):
        train(second, line)
    second = RunFolder.open(second.path)
    second.registry.verify()
    assert second.registry.latest("reward-0").parents == ("sft/1",)
    before, after = asked_of_sites(first), asked_of_sites(second)
    assert set(after) == set(SITES)
    for site in SITES:
        assert len(before[site]) == 4
        assert len(after[site]) == 6, "two rounds more, of the one reward member that the site trains"
        assert [step.line for step in after[site]].count("sft") == 2


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, "both studies are called `toy`"),
        ({"study_id": "toy-2", "model": {"base": "tiny", "dtype": "bfloat16"}}, "`model` is not that of study `toy`"),
        ({"study_id": "toy-2", "sft": {"rounds": 2, "adapter": {"rank": 3}}}, r"`sft\.adapter` is not that of study `toy`"),
    ],
)
def test_a_study_that_does_not_fit_is_named(first: RunFolder, tmp_path: Path, changes: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        take_over(RunFolder.create(tmp_path / "other", config(**changes)), first)


def test_a_version_changed_after_it_was_signed_is_not_taken_over(first: RunFolder, tmp_path: Path) -> None:
    file = first.registry.latest("sft").folder / "adapter_config.json"
    file.write_text(file.read_text() + " ")
    with pytest.raises(JournalBroken):
        take_over(RunFolder.create(tmp_path / "second", config(study_id="toy-2")), first)
