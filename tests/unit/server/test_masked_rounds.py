"""The federated loop over masked sums: the same adapter as without masks, groups, sites that vanish at a phase, a coordinator that dies at the end."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message

from common.config import StudyConfig
from common.errors import TooFewSurvivors
from common.secure.groups import group_count, sum_sizes
from common.secure.masked.coordinator import MaskedExchange
from server.federate.checkpoint import RoundState
from server.federate.rounds import federate
from simulations.machine.grid import Fault, LocalGrid, When, identity
from tests.helpers.federation import federation, post, site_folders, study, toy_app, toy_roster

SITES = ("ash", "birch", "cedar", "doum", "elm")


def masked(hospitals: int = 5, rounds: int = 2, **secure: object) -> StudyConfig:
    tree = study(hospitals=hospitals, rounds=rounds).model_dump(mode="json")
    return StudyConfig.model_validate({**tree, "secure": {"exchange": "masked", **secure}})


def run(
    path: Path,
    config: StudyConfig,
    sites: tuple[str, ...] = SITES,
    faults: Iterable[Fault] = (),
    grid: type[LocalGrid] = LocalGrid,
    app=None,
) -> RoundState:
    exchange = MaskedExchange(toy_roster(sites)) if config.secure.exchange == "masked" else None
    plan = federation(config, sites, **({"exchange": exchange} if exchange else {}))
    carried = grid(app or toy_app(all_sites=sites), site_folders(path, sites), faults=faults)
    with identity():
        return federate(plan, post(carried, sites), path / "state.safetensors")


def test_masks_change_nothing_but_what_the_coordinator_sees(tmp_path: Path) -> None:
    hidden, open_ = run(tmp_path / "masked", masked()), run(tmp_path / "plain", study(hospitals=5, rounds=2))
    np.testing.assert_array_equal(hidden.adapter.vector(0), open_.adapter.vector(0))
    assert [record.survivors for record in hidden.records] == [SITES, SITES]


@pytest.mark.parametrize("group_size", [3, 4, 5, 64])
def test_groups_add_up_to_the_same_adapter(tmp_path: Path, group_size: int) -> None:
    sites = tuple(f"site-{i:02d}" for i in range(11))
    config = masked(11, group_size=group_size)
    whole = run(tmp_path / "plain", study(hospitals=11, rounds=2), sites)
    dealt = run(tmp_path / "groups", config, sites)
    np.testing.assert_array_equal(dealt.adapter.vector(0), whole.adapter.vector(0))
    groups = federation(config, sites, exchange=MaskedExchange(toy_roster(sites))).groups
    assert len(groups) == group_count(11, group_size)
    assert {len(group) for group in groups} <= sum_sizes(config, federation(config, sites).stage)
    assert sorted(site for group in groups for site in group) == list(sites)


@pytest.mark.parametrize("phase", ["advertise", "share", "update", "survivors", "unmask"])
@pytest.mark.parametrize("when", list(When))
def test_a_site_may_vanish_at_any_phase(tmp_path: Path, phase: str, when: When) -> None:
    state = run(tmp_path, masked(rounds=1), faults=[Fault("birch", "sft", 0, when, phase)])
    (record,) = state.records
    sent = phase in ("survivors", "unmask")
    assert record.survivors == (SITES if sent else ("ash", "cedar", "doum", "elm"))
    assert record.missing == ({} if sent else {"birch": "unreachable"})
    assert record.attempt == 0


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the product catches it."""


class DiesWhileUnmasking(LocalGrid):
    """The sites have given their shares away, and the coordinator dies before it keeps the sum."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        ids = list(message_ids)
        last = any(self._waiting[i].metadata.group_id == "sft/0/0/unmask" for i in ids if i in self._waiting)
        answers = list(super().pull_messages(ids))
        if last:
            raise Killed
        return answers


def test_a_round_that_was_being_opened_is_repeated_over_the_same_sites(tmp_path: Path) -> None:
    """elm was lost in attempt 0 and is back in attempt 1: the sum is still that of the four, or its update would be the difference."""
    app = toy_app(all_sites=SITES)
    lost = [Fault("elm", "sft", 0, When.AFTER)]
    with pytest.raises(Killed):
        run(tmp_path, masked(rounds=1), faults=lost, grid=DiesWhileUnmasking, app=app)
    with pytest.raises(TooFewSurvivors, match="waiting for cedar"):
        run(tmp_path, masked(rounds=1), faults=[Fault("cedar", "sft", 0, When.AFTER)], app=app)
    state = run(tmp_path, masked(rounds=1), app=app)
    (record,) = state.records
    assert record.survivors == ("ash", "birch", "cedar", "doum")
    assert record.attempt == 4, "attempt 0 died, 1 to 3 waited for cedar"
    assert state.agreed == ()
    straight = run(tmp_path / "straight", masked(rounds=1), faults=lost)
    np.testing.assert_array_equal(state.adapter.vector(0), straight.adapter.vector(0))
