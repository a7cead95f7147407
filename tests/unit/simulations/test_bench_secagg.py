"""The comparison of aggregations, small: the same sums by all three, the ratios of the contract, and what travels."""

from pathlib import Path

import pytest

from common.progress import Silent
from simulations.bench import chosen
from simulations.bench.secagg import SecureAggregation
from simulations.bench.secagg_rivals import OurRound


def test_the_bench_reports_the_ratios_of_the_contract() -> None:
    outcome = SecureAggregation(sites=4, words=4_000, memory_sites=(3, 4)).run(2, Silent())
    ratios = outcome.as_json()["ratios"]
    assert {"bytes_vs_plain", "speedup_vs_flower_secaggplus", "coordinator_memory_4_vs_3_sites"} <= set(ratios)
    assert outcome.ratios["bytes_vs_plain"].median > 1, "keys and shares travel too"
    errors = {row["rival"]: row["largest_error"] for row in outcome.rows if "largest_error" in row}
    assert errors["masked"] == errors["plain"] == 0, "integers add up exactly"
    assert 0 <= errors["secaggplus"] < 1e-5
    assert [benchmark.name for benchmark in chosen(["secagg"])] == ["secagg"]


@pytest.mark.parametrize("sites", [3, 6])
def test_overhead_is_a_few_kilobytes_a_site(tmp_path: Path, sites: int) -> None:
    masked, plain = OurRound("masked", sites, 8_000, tmp_path / "m"), OurRound("plain", sites, 8_000, tmp_path / "p")
    masked.run()
    plain.run()
    assert 0 < (masked.bytes_up - plain.bytes_up) / sites < 1_500 + 250 * sites
