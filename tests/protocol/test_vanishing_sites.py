"""Sites that vanish at any phase of the masked exchange, before they hear a question or after they answered it."""

from dataclasses import replace

import pytest

from common.errors import ProtocolError, TooFewSurvivors
from common.secure.masked.site import PHASES
from tests.helpers.masked import NAMES, Hospitals, drive, sum_of

SITES = NAMES[:5]


@pytest.mark.parametrize("gone", [1, 2])
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("heard", [False, True], ids=["before", "after"])
def test_sites_may_vanish_at_every_step_while_t_are_left(phase: str, heard: bool, gone: int) -> None:
    """Seven sites, t = 5: two may go at any phase, before they hear the question or after they answered it."""
    names = NAMES[:7]
    leaving = set(names[1 : 1 + gone])
    order = PHASES.index(phase)

    def lost(at: str, site: str, data: bytes) -> bytes | None:
        return None if site in leaving and PHASES.index(at) >= order else data

    hospitals = Hospitals(names)
    tampering = {"reply": lost} if heard else {"request": lost}
    summed, _ = drive(hospitals, hospitals.coordinator(), **tampering)
    left = tuple(site for site in names if site not in leaving or PHASES.index(phase) > PHASES.index("update"))
    assert summed.survivors == left
    assert summed.words.tolist() == sum_of(left)
    assert not hospitals.refused


@pytest.mark.parametrize("phase", PHASES)
def test_with_fewer_than_t_left_nothing_is_opened(phase: str) -> None:
    hospitals = Hospitals(SITES)
    exchange = hospitals.coordinator()
    with pytest.raises(TooFewSurvivors, match=f"3 of 5 sites answered phase `{phase}`"):
        drive(hospitals, exchange, reply=lambda at, site, data: None if at == phase and site in SITES[:2] else data)
    with pytest.raises(ProtocolError, match="after its last phase"):
        exchange.result()


def test_a_round_cut_short_at_the_end_is_repeated_over_the_same_sites_alone() -> None:
    """The survivors released shares in attempt 0, then the coordinator died: attempt 1 closes over the same set, and over no other."""
    hospitals = Hospitals(SITES)

    def late(phase: str, site: str, data: bytes) -> bytes | None:
        return None if site == "site-4" and phase == "update" else data

    with pytest.raises(TooFewSurvivors):
        drive(hospitals, hospitals.coordinator(), reply=lambda p, s, d: None if p == "unmask" and s != "site-0" else late(p, s, d))
    hospitals.context = replace(hospitals.context, attempt=1)
    with pytest.raises(TooFewSurvivors):
        drive(hospitals, hospitals.coordinator())
    assert "Repeat with site-0, site-1, site-2, site-3" in str(hospitals.refused["site-0"])
    hospitals.context = replace(hospitals.context, attempt=2)
    agreed = SITES[:4]
    summed, _ = drive(hospitals, hospitals.coordinator(agreed=agreed))
    assert (summed.survivors, summed.words.tolist()) == (agreed, sum_of(agreed))
    hospitals.context = replace(hospitals.context, attempt=3)
    with pytest.raises(TooFewSurvivors, match="waiting for site-2"):
        drive(hospitals, hospitals.coordinator(agreed=agreed), reply=lambda p, s, d: None if s == "site-2" and p == "update" else d)
