"""Units, rows and the draw: Poisson over units, k rows of each, behind the gate."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from client.records import CleanNote, Dialogue, Preference
from client.sealed.vault import Vault
from client.train.engines import UnitRows
from client.train.examples import PreferenceData, SftData, poisson_sample
from common.bases import load_base
from common.config import ModelConfig
from common.errors import ConfigError, GateRefused, TrainingRefused
from common.models import SharedBase
from common.privacy.mechanism import Unit

MODEL = ModelConfig(base="tiny", max_prompt_tokens=40, max_answer_tokens=24)


@pytest.fixture(scope="module")
def base() -> SharedBase:
    return load_base("tiny", "float32")


def note(patient: int, number: int, dialogues: int = 1) -> CleanNote:
    talks = tuple(Dialogue(f"what of note {number} item {i}", f"answer {number} {i}") for i in range(dialogues))
    return CleanNote(f"n{patient}-{number}", f"p{patient}", "text", dialogues=talks)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    vault = Vault.create(tmp_path, simulated_seed=1)
    vault.put_notes([note(p, n, 1 + (p == 2)) for p in range(4) for n in range(1 + p)])
    vote = {"chosen": "good advice", "rejected": "bad advice"}
    vault.put_preferences(
        [
            Preference("q1", "prompt one", annotator_id="a", patient_id="p1", **vote),
            Preference("q1", "prompt one", annotator_id="b", patient_id="p1", weight=0.5, **vote),
            Preference("q2", "prompt two", annotator_id="a", patient_id="p1", **vote),
            Preference("q3", "prompt three", annotator_id="b", **vote),
        ]
    )
    return vault


def open_gate(digest: bytes) -> None:
    assert len(digest) == 32


def closed_gate(digest: bytes) -> None:
    raise GateRefused("no token")


def test_a_patient_is_a_unit_with_all_their_dialogues(vault: Vault, base: SharedBase) -> None:
    data = SftData(vault, open_gate, base, MODEL, Unit.PATIENT)
    assert [len(data.rows(unit)) for unit in data.units()] == [1, 2, 6, 4]
    assert all(row.prompt_length < len(row.ids) <= 64 for unit in data.units() for row in data.rows(unit))
    assert data.digest() == vault.digest().hex()


def test_a_record_is_a_unit_of_one_note(vault: Vault, base: SharedBase) -> None:
    data = SftData(vault, open_gate, base, MODEL, Unit.RECORD)
    assert [len(data.rows(unit)) for unit in data.units()] == [1, 1, 1, 2, 2, 2, 1, 1, 1, 1]


@pytest.mark.parametrize(("unit", "sizes"), [(Unit.PATIENT, [1, 3]), (Unit.PAIR, [1, 1, 2]), (Unit.ANNOTATOR, [2, 2])])
def test_preferences_by_unit(vault: Vault, base: SharedBase, unit: Unit, sizes: list[int]) -> None:
    data = PreferenceData(vault, open_gate, base, MODEL, unit)
    assert sorted(len(data.rows(u)) for u in data.units()) == sizes
    assert {row.weight for u in data.units() for row in data.rows(u)} == ({1.0} if unit is Unit.ANNOTATOR else {0.5, 1.0})


def test_new_data_changes_the_digest(vault: Vault, base: SharedBase) -> None:
    notes, votes = (
        SftData(vault, open_gate, base, MODEL, Unit.PATIENT).digest(),
        PreferenceData(vault, open_gate, base, MODEL, Unit.PAIR).digest(),
    )
    vault.put_preferences([Preference("q3", "prompt three", "good advice", "worse advice", annotator_id="b")])
    assert SftData(vault, open_gate, base, MODEL, Unit.PATIENT).digest() == notes
    assert PreferenceData(vault, open_gate, base, MODEL, Unit.PAIR).digest() != votes
    vault.put_note(note(9, 0))
    assert SftData(vault, open_gate, base, MODEL, Unit.PATIENT).digest() != notes


def test_without_a_token_nothing_is_given_out(vault: Vault, base: SharedBase) -> None:
    with pytest.raises(GateRefused):
        SftData(vault, closed_gate, base, MODEL, Unit.PATIENT)
    with pytest.raises(GateRefused):
        PreferenceData(vault, closed_gate, base, MODEL, Unit.PATIENT)


def test_a_unit_that_the_rows_do_not_have_is_refused(vault: Vault, base: SharedBase) -> None:
    with pytest.raises(ConfigError, match="use `patient`, `record` or `site`"):
        SftData(vault, open_gate, base, MODEL, Unit.PAIR)
    with pytest.raises(ConfigError, match="use `patient`, `pair`, `annotator` or `site`"):
        PreferenceData(vault, open_gate, base, MODEL, Unit.RECORD)


class Numbers:
    """Units 0 … n−1; unit u has `rows_of(u)` rows, each a pair (u, i)."""

    def __init__(self, count: int, rows: int = 1) -> None:
        self.count, self.each = count, rows

    def digest(self) -> str:
        return "0" * 64

    def units(self) -> list[int]:
        return list(range(self.count))

    def rows(self, unit: int) -> list[tuple[int, int]]:
        return [(unit, i) for i in range(self.each)]


def _key(step: int) -> bytes:
    return step.to_bytes(32, "big")


def inclusion_pvalue(batches: list[list[int]], units: int, rate: float) -> float:
    """Under Poisson sampling the size of a batch is binomial and a unit's appearances over the steps are too; the smaller p-value of both.

    A shuffler draws every unit equally often and makes batches of one size: both spreads are far too small.
    """
    steps = len(batches)
    appearances = np.bincount([u for batch in batches for u in batch], minlength=units)
    sizes = np.array([len(batch) for batch in batches])
    spread = [(sizes, units, steps), (appearances, steps, units)]
    pvalues = []
    for counts, trials, samples in spread:
        statistic = float(((counts - trials * rate) ** 2).sum() / (trials * rate * (1 - rate)))
        pvalues += [stats.chi2.cdf(statistic, samples), stats.chi2.sf(statistic, samples)]
    return 2 * min(pvalues)


def test_the_draw_is_poisson_and_a_shuffling_twin_is_told_apart() -> None:
    units, rate, steps = 90, 0.1, 200
    ours = [[u.rows[0][0] for u in poisson_sample(Numbers(units), rate=rate, rows_per_unit=1, key=_key(s))] for s in range(steps)]
    assert inclusion_pvalue(ours, units, rate) > 1e-3
    random = np.random.Generator(np.random.PCG64(0))
    shuffled = [list(order[i : i + 9]) for _ in range(steps // 10) for order in [random.permutation(units)] for i in range(0, units, 9)]
    assert inclusion_pvalue(shuffled, units, rate) < 1e-6


def test_two_units_meet_as_often_as_chance_has_it() -> None:
    pairs = [{u.rows[0][0] for u in poisson_sample(Numbers(2), rate=0.3, rows_per_unit=1, key=_key(s))} for s in range(4000)]
    both, expected = sum(len(p) == 2 for p in pairs), 4000 * 0.09
    assert abs(both - expected) < 4 * np.sqrt(expected)


def test_at_most_k_rows_of_a_unit_and_others_each_time() -> None:
    data = Numbers(3, rows=1000)
    batches = [poisson_sample(data, rate=1.0, rows_per_unit=2, key=_key(s)) for s in range(20)]
    assert all(len(unit.rows) == 2 for batch in batches for unit in batch)
    assert len({unit.rows for batch in batches for unit in batch}) > 50


def test_whose_rows_are_chosen_depends_on_nobody_else() -> None:
    few = poisson_sample(Numbers(3, rows=50), rate=1.0, rows_per_unit=2, key=_key(1))
    many = poisson_sample(Numbers(9, rows=50), rate=1.0, rows_per_unit=2, key=_key(1))
    assert few == many[:3]


def test_the_same_key_draws_the_same_batch() -> None:
    data = Numbers(200, rows=3)
    one, two = (poisson_sample(data, rate=0.2, rows_per_unit=2, key=_key(5)) for _ in range(2))
    assert one == two
    assert one != poisson_sample(data, rate=0.2, rows_per_unit=2, key=_key(6))


def test_a_rate_of_one_takes_everybody_and_an_empty_vault_gives_an_empty_batch() -> None:
    assert len(poisson_sample(Numbers(40), rate=1.0, rows_per_unit=1, key=_key(0))) == 40
    assert poisson_sample(Numbers(0), rate=0.5, rows_per_unit=1, key=_key(0)) == []
    assert repr(UnitRows((1, 2))) == "UnitRows(2 rows)"


def votes(vault: Vault) -> None:
    vault.put_preferences(
        [
            Preference("t1", "tied", "one", "two", "a", tie=True),
            Preference("t1", "tied", "one", "two", "b", weight=0.0),
            Preference("t2", "safe", "one", "two", "b", aspect="safety"),
        ]
    )


@pytest.mark.parametrize(("unit", "ties", "rows"), [(Unit.PAIR, False, 4), (Unit.PAIR, True, 5), (Unit.ANNOTATOR, True, 6)])
def test_ties_and_outweighed_votes_count_where_they_should(vault: Vault, base: SharedBase, unit: Unit, ties: bool, rows: int) -> None:
    votes(vault)
    data = PreferenceData(vault, open_gate, base, MODEL, unit, ties=ties)
    found = [row for u in data.units() for row in data.rows(u)]
    assert (len(found), sum(row.tie for row in found)) == (rows, int(ties))


def test_one_annotators_votes_do_not_weigh_anothers(vault: Vault, base: SharedBase) -> None:
    """With the annotator as unit a row must not move when another annotator's votes, and with them the pair's weight, change."""
    alone = PreferenceData(vault, open_gate, base, MODEL, Unit.ANNOTATOR)
    assert [row.weight for u in alone.units() for row in alone.rows(u)] == [1.0] * 4
    weighted = PreferenceData(vault, open_gate, base, MODEL, Unit.PAIR)
    assert 0.5 in [row.weight for u in weighted.units() for row in weighted.rows(u)]


def test_an_aspect_is_learned_apart(vault: Vault, base: SharedBase) -> None:
    votes(vault)
    data = PreferenceData(vault, open_gate, base, MODEL, Unit.PAIR, aspect="safety")
    assert [len(data.rows(u)) for u in data.units()] == [1]


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_a_weight_out_of_bounds_is_refused(vault: Vault, base: SharedBase, weight: float) -> None:
    vault.put_preferences([Preference("q9", "p", "a", "b", "x", weight=weight)])
    with pytest.raises(TrainingRefused, match="weights lie in"):
        PreferenceData(vault, open_gate, base, MODEL, Unit.PAIR)
