"""Laws of masks and shares: what is added is taken away for every set of survivors; t shares are enough and t − 1 say nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import ProtocolError, TooFewSurvivors
from common.secure.masked.bindings import threshold
from common.secure.masking import add_mask, subtract_mask
from common.secure.shares import PRIME, combine, share_from_bytes, share_to_bytes, split, weights_at_zero
from tests.helpers.masked import NAMES, Hospitals, counter_entropy, drive, sum_of

keys = st.binary(min_size=32, max_size=32)


@given(keys, st.integers(0, 3 * 2**14))
def test_what_one_adds_another_takes_away(key: bytes, length: int) -> None:
    words = np.arange(length, dtype=np.uint32)
    masked = words.copy()
    add_mask(masked, key)
    subtract_mask(masked, key)
    np.testing.assert_array_equal(masked, words)


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_masks_sum_to_zero_for_every_surviving_set(data: st.DataObject) -> None:
    """Any cohort, any sites lost at any phases: while t are left, the opened sum is exactly the sum of the survivors' updates."""
    names = NAMES[: data.draw(st.integers(3, 9), label="sites")]
    spare = len(names) - threshold(len(names))
    lost = dict(
        data.draw(
            st.lists(st.tuples(st.sampled_from(names), st.integers(0, 4)), max_size=spare, unique_by=lambda pair: pair[0]),
            label="lost at phase",
        )
    )
    phases = ("advertise", "share", "update", "survivors", "unmask")
    hospitals = Hospitals(names, length=data.draw(st.sampled_from([1, 7, 2**14 + 1]), label="length"))
    summed, _ = drive(
        hospitals, hospitals.coordinator(), reply=lambda at, site, reply: None if phases.index(at) >= lost.get(site, 9) else reply
    )
    survivors = tuple(name for name in names if lost.get(name, 9) > 2)
    assert summed.survivors == survivors
    assert summed.words.tolist() == sum_of(survivors, hospitals.length)


# -- shares ------------------------------------------------------------------------------------------------------------


@given(keys, st.integers(1, 12), st.data())
def test_any_t_shares_give_the_secret_back(secret: bytes, t: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(t, 14))
    shares = dict(zip(range(1, n + 1), split(secret, t, range(1, n + 1), counter_entropy(secret)), strict=True))
    chosen = data.draw(st.permutations(sorted(shares)))[: data.draw(st.integers(t, n))]
    assert combine({x: shares[x] for x in chosen}) == secret
    assert all(share_from_bytes(share_to_bytes(share)) == share for share in shares.values())


@given(keys, keys, st.integers(2, 8))
def test_fewer_than_t_shares_fit_every_secret(secret: bytes, other: bytes, t: int) -> None:
    """t − 1 shares of one secret are t − 1 shares of any other: there is a polynomial through them and through it."""
    points = range(1, t)
    shares = dict(zip(points, split(secret, t, range(1, t + 1), counter_entropy(secret)), strict=False))
    weights = weights_at_zero((*points, PRIME - 1))
    missing = (int.from_bytes(other, "big") - sum(weights[x] * shares[x] for x in points)) * pow(weights[PRIME - 1], -1, PRIME) % PRIME
    through = {**shares, PRIME - 1: missing}
    assert combine(through) == other


@pytest.mark.parametrize(
    ("secret", "t", "points", "match"),
    [
        (bytes(31), 2, (1, 2), "31 bytes cannot be shared"),
        (bytes(32), 3, (1, 2), "threshold of 3 among 2"),
        (bytes(32), 0, (1, 2), "threshold of 0"),
        (bytes(32), 2, (1, 1), "distinct and above 0"),
        (bytes(32), 2, (0, 1), "distinct and above 0"),
        (bytes(32), 1, (), "distinct and above 0"),
    ],
)
def test_sharing_refuses(secret: bytes, t: int, points: tuple[int, ...], match: str) -> None:
    with pytest.raises(ProtocolError, match=match):
        split(secret, t, points)


def test_a_share_outside_the_field_is_refused() -> None:
    for data in (share_to_bytes(PRIME - 1)[:-1], PRIME.to_bytes(33, "big"), b""):
        with pytest.raises(ProtocolError, match="no element of the field"):
            share_from_bytes(data)
    with pytest.raises(ProtocolError, match="do not belong to one secret"):
        combine({1: 2**256 + 5})


def test_the_prime_is_the_smallest_above_every_secret() -> None:
    """Fermat's test to four bases (a certificate is not needed: a composite would only weaken the sharing, and none of 2²⁵⁶ + 1 … 296 passes)."""
    passes = [k for k in range(1, 298) if all(pow(a, 2**256 + k - 1, 2**256 + k) == 1 for a in (2, 3, 5, 7))]
    assert passes == [297]
    assert PRIME == 2**256 + 297


@given(st.integers(3, 256))
def test_two_sets_of_t_sites_share_more_than_a_third_of_them(n: int) -> None:
    t = threshold(n)
    assert 2 * t - n > n / 3
    assert t <= n
    assert threshold(3) == 3
    assert threshold(4) == 3


def test_min_survivors_of_the_study_is_kept_above_t() -> None:
    hospitals = Hospitals(NAMES[:5])
    with pytest.raises(TooFewSurvivors, match=r"4 of 5 sites answered phase `update` .* and 5 are needed"):
        drive(
            hospitals,
            hospitals.coordinator(min_survivors=5),
            reply=lambda at, site, reply: None if (at, site) == ("update", "site-1") else reply,
        )
