"""Benchmarks: one contract for every one that is listed, and the arithmetic of ratios and turns."""

import json
import os
import time

import pytest

from common.errors import ConfigError
from common.progress import Silent
from simulations.bench import BENCHMARKS, chosen
from simulations.bench.dp import OURS, RIVALS, PrivateStep
from simulations.bench.figures import Ratio, ratio, speedup, worst
from simulations.bench.measure import in_child, interleaved, peak_bytes
from simulations.bench.ppo import GROUPS, PpoStep, Step, Worker, _ratios
from simulations.report.tables import bench_tables


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda b: b.name)
def test_every_benchmark_has_a_name_of_its_own_and_says_what_it_compares(benchmark) -> None:
    assert chosen([benchmark.name]) == [benchmark]
    assert len(benchmark.about) > 20


def test_a_benchmark_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=f"no benchmark `speed`; the names are {', '.join(b.name for b in BENCHMARKS)}"):
        chosen(["speed"])


def test_ratios_are_taken_within_a_repetition() -> None:
    ours, theirs = [1.0, 10.0, 2.0], [2.0, 16.0, 8.0]
    assert ratio(ours, theirs, 0.9) == Ratio(0.5, 0.25, 0.625, 0.9)
    assert speedup(ours, theirs, 2.1) == Ratio(2.0, 1.6, 4.0, 2.1, at_least=True)
    assert ratio(ours, theirs, 0.5).met
    assert not speedup(ours, theirs, 2.1).met
    assert worst(ratio([1], [2], 0.9), ratio([3], [4], 0.9)).median == 0.75
    assert worst(speedup([1], [2], 1.4), speedup([3], [4], 1.4)).median == pytest.approx(4 / 3)
    with pytest.raises(ConfigError, match="at least one repetition"):
        ratio([], [], 1.0)


def test_rivals_take_turns_and_each_is_first_in_turn() -> None:
    calls: list[str] = []
    ticks = iter(range(1000))
    seconds = interleaved({n: lambda n=n: calls.append(n) for n in "abc"}, 3, Silent(), clock=lambda: float(next(ticks)))
    assert "".join(calls) == "abcbcacab"
    assert seconds == {name: [1.0, 1.0, 1.0] for name in "abc"}


def test_memory_is_the_peak_above_what_was_there() -> None:
    size = 64 << 20

    def work() -> int:
        return len(bytearray(os.urandom(1) * size))

    idle, peak = peak_bytes(work)
    assert 0.9 * size < peak - idle < 2.5 * size, f"{(peak - idle) >> 20} MiB"


def test_a_child_gives_its_result_and_its_death_is_told() -> None:
    assert in_child(divmod, 17, 5) == (3, 2)
    with pytest.raises(ConfigError, match="exit code 7"):
        in_child(os._exit, 7)


def test_the_private_step_is_compared_with_every_rival_by_the_contracts_keys() -> None:
    outcome = PrivateStep("tiny", batches=(1, 2), row_tokens=32).run(2, Silent())
    tree = json.loads(json.dumps(outcome.as_json()))
    assert set(tree) == {"name", "machine", "rows", "ratios"}
    assert [(row["batch"], row["rival"]) for row in tree["rows"]] == [(b, r) for b in (1, 2) for r in RIVALS]
    assert {"time_vs_nonprivate", "memory_vs_nonprivate", "speedup_vs_opacus_hooks", "speedup_vs_opacus_ghost"} <= set(tree["ratios"])
    assert all(set(r) == {"median", "low", "high", "target"} and r["low"] <= r["median"] <= r["high"] for r in tree["ratios"].values())
    both = [tree["ratios"][f"time_vs_nonprivate_batch_{n}"]["median"] for n in (1, 2)]
    assert tree["ratios"]["time_vs_nonprivate"]["median"] == max(both)
    assert OURS in RIVALS
    assert len(bench_tables(outcome)[1].rows) == len(outcome.ratios)


def test_cpu_time_does_not_count_sleep() -> None:
    (seconds,) = interleaved({"sleeps": lambda: time.sleep(0.05)}, 1, Silent()).values()
    assert seconds[0] < 0.04


@pytest.mark.slow
def test_the_ppo_comparison_runs_every_layout(tmp_path) -> None:
    """On `smollm2` with two short answers: TRL 1.12 is fetched by pip once, so it needs a package index the first time."""
    outcome = PpoStep(prompts=2, new_tokens=4).run(1, Silent())
    assert [row["layout"] for row in outcome.rows] == [*dict.fromkeys((*GROUPS[1], *GROUPS[0])), "floor"]
    keys = {"cpu_vs_trl_four_models", "memory_vs_trl_four_models", "cpu_vs_trl_lora", "memory_vs_trl_lora"}
    assert keys <= outcome.ratios.keys()
    assert all(row["cpu_seconds"] > outcome.rows[-1]["cpu_seconds"] for row in outcome.rows[:-1]), "nobody beats the floor"


def test_the_ratios_of_ppo_are_against_the_best_lora_layout() -> None:
    def steps(cpu: float, memory: float) -> list[Step]:
        return [Step(cpu * scale, {}, memory, 8) for scale in (1.0, 2.0, 3.0)]

    cost = {"ours": (2, 10), "ours_own_value": (3, 15), "trl_four_models": (8, 40), "trl_lora": (6, 30), "trl_lora_bf16": (7, 20)}
    each = {layout: steps(*of) for layout, of in cost.items()}
    found = _ratios(each, each)
    assert found["cpu_vs_trl_four_models"].median == pytest.approx(0.25)
    assert found["cpu_vs_trl_lora"].median == pytest.approx(2 / 6)
    assert found["memory_vs_trl_lora"].median == pytest.approx(0.5), "another layout is the smallest"
    assert found["cpu_vs_trl_lora_own_value"].median == pytest.approx(0.5)


def test_a_worker_that_dies_says_why(tmp_path) -> None:
    with (
        pytest.raises(ConfigError, match=r"the process of layout `trl_lora` ended with code 1: .*before 1\.12\.0"),
        Worker("trl_lora", {"layout": "trl_lora"}, tmp_path),
    ):
        pass
