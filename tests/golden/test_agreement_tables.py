"""κ, α and their errors against worked examples that were published with their answers."""

import math

import numpy as np
import pytest

from client.feedback.agreement import cohen, fleiss, krippendorff, percent, table

# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", sections A to E.
MEG = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
OWEN = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
BEN = "aabbdcccedda"
GERRY = "babbbcccedd" + "d"
FOUR_OBSERVERS = ("123321412...", "1233224125.3", ".3332342251.", "12332441251.")

# Fleiss 1971, table 1: six psychiatrists' diagnoses of thirty patients (depression, personality disorder, schizophrenia, neurosis, other).
DIAGNOSES = """
00060 03003 01401 00006 03030 20400 00402 20310 20040 00006 10050 11040 03300 10050 02031
00501 30012 51000 02040 10203 00006 01050 02013 20040 10041 05010 40002 02040 10500 00006
"""

# Two dermatologists on 88 patients, four grades; κ and its error as printed by SAS's PROC FREQ in its manual.
SKIN = [[10, 4, 1, 0], [5, 10, 12, 2], [2, 4, 12, 5], [0, 2, 6, 13]]


def pairs(first: str | list[int], second: str | list[int]) -> np.ndarray:
    names = sorted({*first, *second})
    return table([[names.index(a), names.index(b)] for a, b in zip(first, second, strict=True)], len(names))


def four() -> np.ndarray:
    return table([[int(row[unit]) - 1 for row in FOUR_OBSERVERS if row[unit] != "."] for unit in range(12)], 5)


def diagnoses() -> np.ndarray:
    return np.array([[int(digit) for digit in row] for row in DIAGNOSES.split()], dtype=float)


def test_alpha_of_two_observers_and_two_values() -> None:
    assert krippendorff(pairs(MEG, OWEN)) == pytest.approx(0.095, abs=5e-4)


def test_alpha_of_two_observers_and_many_values() -> None:
    assert krippendorff(pairs(BEN, GERRY)) == pytest.approx(0.692, abs=5e-4)


@pytest.mark.parametrize(("metric", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849), ("ratio", 0.797)])
def test_alpha_of_four_observers_with_missing_values(metric: str, alpha: float) -> None:
    assert krippendorff(four(), metric, [1, 2, 3, 4, 5]) == pytest.approx(alpha, abs=5e-4)


def test_fleiss_1971() -> None:
    counts = diagnoses()
    assert counts.sum(0).tolist() == [26, 26, 30, 55, 43]
    assert percent(counts) == pytest.approx(0.556, abs=1e-3)
    kappa, error = fleiss(counts)
    assert kappa == pytest.approx(0.430, abs=5e-4)
    # Fleiss, Nee and Landis 1979 corrected the error of 1971 to the one that gives z = 17.65
    assert kappa is not None
    assert error is not None
    assert kappa / error == pytest.approx(17.65, abs=0.02)


def test_cohen_with_the_interval_of_the_manual() -> None:
    rows = [(i, j) for i, line in enumerate(SKIN) for j, n in enumerate(line) for _ in range(n)]
    kappa, error = cohen([i for i, _ in rows], [j for _, j in rows], 4)
    assert kappa is not None
    assert error is not None
    assert (kappa, error) == (pytest.approx(0.3449, abs=5e-5), pytest.approx(0.0724, abs=5e-5))
    assert (kappa - 1.96 * error, kappa + 1.96 * error) == (pytest.approx(0.2030, abs=2e-4), pytest.approx(0.4868, abs=2e-4))


def test_agreement_with_an_implementation_that_we_did_not_write() -> None:
    independent = pytest.importorskip("krippendorff", reason="the package krippendorff is not installed")
    counts = four()
    for metric in ("nominal", "ordinal", "interval", "ratio"):
        theirs = independent.alpha(value_counts=counts.astype(int), value_domain=[1, 2, 3, 4, 5], level_of_measurement=metric)
        assert krippendorff(counts, metric, [1, 2, 3, 4, 5]) == pytest.approx(theirs, abs=1e-12)
    assert not math.isnan(theirs)
