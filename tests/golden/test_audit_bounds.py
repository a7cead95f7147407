"""Lower bounds on ε against closed formulas and counts that others computed."""

import math

import pytest
from scipy.stats import binom

from common.errors import ConfigError
from common.privacy.audit import many_runs_epsilon, one_run_epsilon


@pytest.mark.parametrize("guesses", [10, 100, 1000])
def test_all_guesses_right_and_no_delta_is_a_closed_formula(guesses: int) -> None:
    """(e^ε/(1 + e^ε))^r = .05: the ε that r right guesses in a row refute."""
    root = 0.05 ** (1 / guesses)
    assert one_run_epsilon(guesses, guesses, guesses, 0.0) == pytest.approx(math.log(root / (1 - root)), abs=1e-3)


def test_the_bound_is_where_the_binomial_tail_reaches_five_per_cent() -> None:
    epsilon = one_run_epsilon(1000, 100, 75, 0.0)
    assert binom.sf(74, 100, 1 / (1 + math.exp(-epsilon))) == pytest.approx(0.05, abs=1e-3)
    assert epsilon == pytest.approx(0.6967, abs=0.02)


def test_delta_only_lowers_it_and_guesses_at_random_prove_nothing() -> None:
    exact, loose, looser = (one_run_epsilon(1000, 200, 180, delta) for delta in (0.0, 1e-5, 1e-3))
    assert exact >= loose > looser
    assert exact - loose < 0.2
    assert one_run_epsilon(1000, 200, 100, 1e-5) == 0.0
    assert one_run_epsilon(1000, 200, 0, 1e-5) == 0.0


def test_many_runs_with_no_false_alarm() -> None:
    """One-sided 97.5 % limits of Clopper and Pearson: 0 of n has the upper limit 1 − .025^(1/n), n of n the lower limit .025^(1/n)."""
    n = 1000
    limit = 0.025 ** (1 / n)
    assert many_runs_epsilon(n, n, 0, n, 0.0) == pytest.approx(math.log(limit / (1 - limit)), abs=1e-6)
    assert many_runs_epsilon(500, 1000, 500, 1000, 0.0) == 0.0
    assert many_runs_epsilon(0, 1000, 0, 1000, 1e-3) == 0.0
    assert many_runs_epsilon(n, n, n, n, 0.0) == 0.0


def test_counts_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigError, match="no counts of an audit"):
        one_run_epsilon(10, 11, 5, 0.0)
    with pytest.raises(ConfigError, match="no counts of an audit"):
        many_runs_epsilon(5, 4, 0, 4, 0.0)
