"""A coordinator that keeps to the protocol and looks hard at the numbers it gets: what one site sent, what is left after a round that failed.

Each look finds out a twin whose words travel as they are, or whose masks come back, and tells nothing of ours.
"""

import contextlib
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom, chi2

from common.errors import TooFewSurvivors
from common.secure.fixedpoint import Words, from_words, words_from_bytes, words_to_bytes
from common.secure.masked.messages import Masked
from common.secure.masked.site import PHASES, MaskedSite
from tests.helpers.masked import Hospitals, drive, sum_of, update_of
from tests.helpers.relay import SITES, VICTIM, SameKeysAgain

BYTE_CELLS = 256
DOUBT = 1e-6
"""Two-sided: a p below it, or above 1 − it, is an error of ours once in half a million runs."""


class Bare(MaskedSite):
    """Sends its words as they are."""

    def _masked(self, round_: object, before: object, update: Words, mask_keys: object) -> bytes:
        return words_to_bytes(update)


def seen_of_victim(hospitals: Hospitals, *, attempt: int = 0) -> Words:
    """The words of the victim as they reach the coordinator in one attempt, whether or not the sum is opened."""
    hospitals.context = replace(hospitals.context, attempt=attempt)
    seen: list[bytes] = []

    def look(phase: str, site: str, reply: bytes) -> bytes:
        if (phase, site) == ("update", VICTIM):
            seen.append(Masked.from_bytes(reply).words)
        return reply

    with contextlib.suppress(TooFewSurvivors):
        drive(hospitals, hospitals.coordinator(), reply=look)
    return words_from_bytes(seen[0], hospitals.length)


def p_uniform(values: np.ndarray) -> float:
    """Of the chi-square statistic of bytes in 256 cells."""
    expected = values.size / BYTE_CELLS
    counts = np.bincount(values, minlength=BYTE_CELLS)
    return float(chi2.sf(((counts - expected) ** 2 / expected).sum(), BYTE_CELLS - 1))


def least_doubtful(words: Words) -> float:
    """The p furthest from 1/2, of the four bytes of the words and of each word's first byte against the next word's."""
    as_bytes = words.view(np.uint8).reshape(-1, 4)
    found = [p_uniform(as_bytes[:, place]) for place in range(4)] + [p_uniform(as_bytes[:-1, 0] ^ as_bytes[1:, 0])]
    return max(found, key=lambda p: abs(p - 0.5))


def test_masked_words_are_uniform_and_bare_ones_are_not() -> None:
    length = 2**20
    ours, twin = (seen_of_victim(Hospitals(SITES[:3], kind, length=length)) for kind in (MaskedSite, Bare))
    assert DOUBT < least_doubtful(ours) < 1 - DOUBT
    assert least_doubtful(twin) < 1e-100


def test_two_attempts_with_the_same_update_have_nothing_in_common() -> None:
    """The difference of two attempts is uniform; with the same keys again it is the difference of the updates, here zero."""
    length = 2**18
    ours, twin = (Hospitals(SITES[:3], kind, length=length) for kind in (MaskedSite, SameKeysAgain))
    assert DOUBT < least_doubtful(seen_of_victim(ours) - seen_of_victim(ours, attempt=1)) < 1 - DOUBT
    # The pair keys bind the attempt, so even the twin's masks differ unless its transcript is the same: only then do they cancel.
    first, again = seen_of_victim(twin), seen_of_victim(Hospitals(SITES[:3], SameKeysAgain, length=length))
    assert not (first - again).any()


GAMES = 100


def guesses(kind: type[MaskedSite]) -> int:
    """How often the coordinator tells which of two updates, both known to it, the victim sent: it takes the one that is nearer mod 2³²."""
    coin = np.random.default_rng(11).integers(0, 2, GAMES)
    candidates = [update_of("one"), update_of("other")]
    right = 0
    for side in coin:
        hospitals = Hospitals(SITES[:3], kind, update=lambda site, side=side: candidates[side] if site == VICTIM else update_of(site))
        seen = seen_of_victim(hospitals)
        distances = [np.abs(from_words(seen - candidate.view(np.uint32)).astype(np.int64)).sum() for candidate in candidates]
        right += int(np.argmin(distances)) == side
    return right


def test_the_coordinator_cannot_tell_two_updates_apart() -> None:
    low, high = binom.ppf(DOUBT, GAMES, 0.5), binom.ppf(1 - DOUBT, GAMES, 0.5)
    assert guesses(Bare) == GAMES
    right = guesses(MaskedSite)
    assert low <= right <= high, f"{right} of {GAMES} guesses were right; chance gives {low:.0f} to {high:.0f}"


@pytest.mark.parametrize("phase", PHASES[3:])
def test_a_round_that_fails_late_leaves_a_uniform_sum(phase: str) -> None:
    """Too few sites sign or unmask: what the coordinator has added up until then says nothing of the sum."""
    length = 2**18

    def two_are_silent(at: str, site: str, reply: bytes) -> bytes | None:
        return None if at == phase and site in SITES[:2] else reply

    sums = []
    for kind in (MaskedSite, Bare):
        hospitals = Hospitals(SITES, kind, length=length)
        exchange = hospitals.coordinator()
        with pytest.raises(TooFewSurvivors, match=f"3 of 5 sites answered phase `{phase}`"):
            drive(hospitals, exchange, reply=two_are_silent)
        sums.append(exchange._sum.copy())
    assert DOUBT < least_doubtful(sums[0]) < 1 - DOUBT
    assert from_words(sums[1]).tolist() == sum_of(SITES, length)
