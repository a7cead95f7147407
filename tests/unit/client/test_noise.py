"""The step's random draws: reproducible from the key, uniform, independent, and Gaussian to the tails."""

import math

import numpy as np
import pytest
from scipy import stats

from client.train.noise import SeededNoise, Stream, SystemNoise, rounded_gaussian
from common.privacy.ledger import Entry
from common.privacy.mechanism import Placement

KEY = bytes(range(32))


def entry(**changes: int | str) -> Entry:
    fields: dict[str, int | str] = {"study": "s", "stage": "sft", "round": 1, "attempt": 0, "step": 0, "inputs_digest": "a" * 64} | changes
    return Entry(**fields)  # type: ignore[arg-type]  # a mixed dictionary of str and int


def test_the_same_key_and_purpose_give_the_same_draws_and_others_do_not() -> None:
    first = Stream(KEY, "noise").words(8)
    assert np.array_equal(first, Stream(KEY, "noise").words(8))
    assert not np.array_equal(first, Stream(KEY, "units").words(8))
    assert not np.array_equal(first, Stream(bytes(32), "noise").words(8))


def test_a_stream_is_one_sequence_however_it_is_read() -> None:
    stream = Stream(KEY, "noise")
    assert np.array_equal(np.concatenate([stream.words(3), stream.words(5)]), Stream(KEY, "noise").words(8))


def test_known_answer() -> None:
    """AES-256-CTR under HMAC-SHA256(key, label + purpose), computed with OpenSSL's command line."""
    assert Stream(KEY, "noise").words(1).tobytes().hex() == "4c7306edefa3c514"


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_short_key_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Stream(bytes(length), "noise")


def test_noise_is_gaussian_to_the_tails() -> None:
    draws = Stream(KEY, "noise").gaussian(200_001)
    assert len(draws) == 200_001
    assert stats.kstest(draws, "norm").pvalue > 1e-3
    for bound in (2.0, 3.0, 4.0):
        expected = 2 * stats.norm.sf(bound) * len(draws)
        found = int((np.abs(draws) > bound).sum())
        assert abs(found - expected) <= 5 * math.sqrt(expected) + 1, f"beyond {bound}: {found}, expected {expected:.1f}"
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.01


def test_rounded_noise_has_the_deviation_asked_for() -> None:
    draws = rounded_gaussian(Stream(KEY, "noise"), 65536 * 0.73, 100_000)
    assert draws.dtype == np.int64
    assert abs(draws.std() / (65536 * 0.73) - 1) < 0.01
    assert abs(draws.mean()) < 5 * 65536 * 0.73 / math.sqrt(100_000)


def test_bernoulli_and_choose_at_their_edges() -> None:
    stream = Stream(KEY, "units")
    assert stream.bernoulli(1.0, 50).all()
    assert not stream.bernoulli(0.0, 50).any()
    assert list(stream.choose(3, 5)) == [0, 1, 2]
    assert list(stream.choose(0, 5)) == []
    chosen = stream.choose(100, 7)
    assert len(set(chosen)) == 7
    assert list(chosen) == sorted(chosen)


def test_every_row_is_chosen_equally_often() -> None:
    counts = np.zeros(6)
    for i in range(6000):
        counts[Stream(KEY, f"rows/{i}").choose(6, 2)] += 1
    assert stats.chisquare(counts).pvalue > 1e-3, counts


def test_system_keys_never_repeat() -> None:
    source = SystemNoise()
    assert not source.simulated
    assert len({source.step_key(entry(), Placement.SITE) for _ in range(50)}) == 50


def test_seeded_keys_name_the_step_and_say_that_they_are_simulated() -> None:
    source = SeededNoise(7, "north")
    assert source.simulated
    key = source.step_key(entry(), Placement.SITE)
    assert key == SeededNoise(7, "north").step_key(entry(inputs_digest="b" * 64), Placement.SITE)
    others = [
        source.step_key(entry(**{name: value}), Placement.SITE)
        for name, value in (("round", 2), ("step", 1), ("stage", "reward-0"), ("study", "t"))
    ]
    others += [SeededNoise(8, "north").step_key(entry(), Placement.SITE), SeededNoise(7, "south").step_key(entry(), Placement.SITE)]
    assert len({key, *others}) == 7
    assert key == source.step_key(entry(attempt=1), Placement.SITE)
    assert key != source.step_key(entry(attempt=1), Placement.SUM)
