"""ε against numbers that our accountant did not compute: another accountant, published tables, and a closed formula."""

import math
import re
from pathlib import Path

import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from common.errors import ConfigError
from common.privacy.accounting import CERTIFICATE_DISCRETIZATION, epsilon
from common.privacy.crosscheck import PRV_ERROR, epsilon_prv, epsilon_rdp
from common.privacy.mechanism import Mechanism, Unit


def steps(sigma: float, rate: float, count: int) -> Mechanism:
    return Mechanism(sigma, rate, 1.0, 9.0, Unit.PATIENT, count)


# (σ, q, steps), δ, ε by the PRV accountant of Opacus 1.6.0 (which adds its error of 0.01), ε by Google's RDP accountant 0.6.0
TABLE = [
    ([(1.0, 0.01, 1000)], 1e-6, 2.1346, 2.4367),
    ([(2.0, 0.1, 300)], 1e-6, 4.7230, 5.0821),
    ([(0.4, 0.02, 500)], 1e-6, 38.8688, 43.7943),
    ([(8.0, 0.01, 200)], 1e-6, 0.0735, 0.0705),
    ([(1.0, 0.01, 1)], 1e-6, 0.3740, 1.2121),
    ([(1.0, 0.02, 500)], 1e-6, 3.2238, 3.6026),
    ([(0.5, 1e-4, 100)], 1e-5, 0.1894, 2.3120),
    ([(0.73, 0.1, 18)], 1e-6, 7.8929, 9.0761),
    ([(1.02, 0.1, 18)], 1e-6, 3.9834, 4.5896),
    ([(0.73, 0.1, 8), (1.02, 0.1, 10), (1.2, 0.02, 100)], 1e-6, 6.6232, 7.6679),
]


@pytest.mark.parametrize(("runs", "delta", "prv", "rdp"), TABLE)
def test_agrees_with_two_other_accountants(runs: list[tuple[float, float, int]], delta: float, prv: float, rdp: float) -> None:
    ours = epsilon([steps(*run) for run in runs], delta)
    assert abs(ours - (prv - PRV_ERROR)) <= PRV_ERROR + 0.005, f"PLD {ours:.4f}, PRV {prv:.4f}"
    assert ours <= rdp + 1e-6, f"PLD {ours:.4f} above RDP {rdp:.4f}"


@pytest.mark.parametrize("index", [0, 3, 7, 9])
def test_the_table_is_what_the_other_accountants_say_today(index: int) -> None:
    runs, delta, prv, rdp = TABLE[index]
    mechanisms = [steps(*run) for run in runs]
    assert epsilon_prv(mechanisms, delta) == pytest.approx(prv, abs=1e-3)
    assert epsilon_rdp(mechanisms, delta) == pytest.approx(rdp, abs=1e-3)


# TensorFlow Privacy, tutorials/README.md (2019, moments accountant with the older conversion, so an upper bound): 60 000 images, batch 256.
@pytest.mark.parametrize(("sigma", "epochs", "published"), [(1.3, 15, 1.19), (1.1, 60, 3.01), (0.7, 45, 7.10)])
def test_lies_below_the_published_mnist_table_but_not_far(sigma: float, epochs: int, published: float) -> None:
    ours = epsilon([steps(sigma, 256 / 60000, epochs * 60000 // 256)], 1e-5)
    assert 0.7 * published <= ours <= published, f"ours {ours:.3f}, published {published}"


@pytest.mark.parametrize(("sigma", "count", "delta"), [(1.0, 1, 1e-5), (4.0, 10, 1e-6), (0.8, 3, 1e-8)])
def test_without_sampling_equals_the_exact_formula(sigma: float, count: int, delta: float) -> None:
    """Balle and Wang 2018, theorem 8, with sensitivity √T and noise σ: δ(ε) = Φ(a/2 − ε/a) − e^ε Φ(−a/2 − ε/a), a = √T/σ."""
    a = math.sqrt(count) / sigma
    exact = brentq(lambda e: norm.cdf(a / 2 - e / a) - math.exp(e) * norm.cdf(-a / 2 - e / a) - delta, 0, 100)
    ours = epsilon([steps(sigma, 1.0, count)], delta)
    # Pessimistic on a grid of 1e-3: each composition may add up to one grid width.
    assert exact - 1e-6 <= ours <= exact + 1e-3 * count + 1e-3, f"ours {ours:.5f}, exact {exact:.5f}"


def test_the_certificate_is_a_little_tighter_than_the_gate() -> None:
    run = [steps(0.73, 0.1, 18)]
    gate, certificate = epsilon(run, 1e-6), epsilon(run, 1e-6, discretization=CERTIFICATE_DISCRETIZATION)
    assert 0 <= gate - certificate <= 0.01, f"{gate:.5f} {certificate:.5f}"


def test_units_are_not_one_currency() -> None:
    with pytest.raises(ConfigError, match="pair, patient cannot be composed"):
        epsilon([steps(1.0, 0.1, 1), Mechanism(1.0, 0.1, 1.0, 9.0, Unit.PAIR)], 1e-6)


def test_delta_is_a_probability() -> None:
    with pytest.raises(ConfigError, match="delta is 1"):
        epsilon([steps(1.0, 0.1, 1)], 1)


def test_the_gaussian_dp_accountant_appears_nowhere() -> None:
    """It reported 0.019 for a true 0.179 (σ = .5, q = 1e-4, 100 steps, δ = 1e-5; the table above has the right figure)."""
    root = Path(__file__).parents[2]
    files = [path for package in ("common", "client", "server", "simulations") for path in (root / package).rglob("*.py")]
    assert len(files) > 100
    assert not [path for path in files if re.search(r"\bgdp\b|GaussianAccountant|GDPAccountant", path.read_text(encoding="utf-8"))]
