"""Refusals and laws of the intervals that the golden figures do not cover."""

import numpy as np
import pytest

from common.errors import ShapeError
from server.evaluate.intervals import bootstrap_mean, clopper_pearson, paired_difference, wilson


def test_nothing_observed_is_refused() -> None:
    for successes, n in ((0, 0), (3, 2), (-1, 4)):
        with pytest.raises(ShapeError, match="not a proportion"):
            wilson(successes, n)
        with pytest.raises(ShapeError, match="not a proportion"):
            clopper_pearson(successes, n)
    with pytest.raises(ShapeError, match="finite"):
        bootstrap_mean([], np.random.default_rng(0))
    with pytest.raises(ShapeError, match="1 not finite"):
        bootstrap_mean([1.0, float("nan")], np.random.default_rng(0))
    with pytest.raises(ShapeError, match="same items"):
        paired_difference([1.0, 2.0], [1.0], np.random.default_rng(0))
    with pytest.raises(ShapeError, match="cluster"):
        bootstrap_mean([1.0, 2.0], np.random.default_rng(0), clusters=["a"])


def test_the_bootstrap_is_the_generator_it_was_given() -> None:
    values = np.random.default_rng(1).normal(size=40)
    one, two = (bootstrap_mean(values, np.random.default_rng(7)) for _ in range(2))
    assert one == two
    assert one != bootstrap_mean(values, np.random.default_rng(8))


def test_bootstrap_agrees_with_the_normal_theory() -> None:
    """Mean of 400 standard normals: half width 1.96/√400 = 0.098."""
    values = np.random.default_rng(2).normal(size=400)
    found = bootstrap_mean(values, np.random.default_rng(3), resamples=4000)
    assert found.low == pytest.approx(values.mean() - 0.098, abs=0.015)
    assert found.high == pytest.approx(values.mean() + 0.098, abs=0.015)


def test_copies_of_an_observation_do_not_narrow_a_clustered_interval() -> None:
    values = np.random.default_rng(4).normal(size=50)
    alone = bootstrap_mean(values, np.random.default_rng(5))
    names = [f"q{i}" for i in range(50)] * 4
    clustered = bootstrap_mean(np.tile(values, 4), np.random.default_rng(5), clusters=names)
    naive = bootstrap_mean(np.tile(values, 4), np.random.default_rng(5))
    assert clustered.high - clustered.low == pytest.approx(alone.high - alone.low, rel=0.1)
    assert naive.high - naive.low < 0.65 * (alone.high - alone.low)


def test_pairing_removes_what_both_measurements_share() -> None:
    rng = np.random.default_rng(6)
    difficulty = rng.normal(scale=10, size=64)
    after = difficulty - 0.1 + rng.normal(scale=0.05, size=64)
    found = paired_difference(after, difficulty, np.random.default_rng(0))
    assert found.excludes(0)
    assert found.value == pytest.approx(-0.1, abs=0.03)
