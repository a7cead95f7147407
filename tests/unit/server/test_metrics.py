"""metrics.jsonl: each step once, whatever is recorded again, and whole lines only."""

from pathlib import Path

import pytest

from common.errors import ConfigError, StorageError
from server.metrics import Metrics


def test_a_step_is_recorded_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics, other = Metrics(path), Metrics(path)
    metrics.record("sft", 0, {"loss": 1.5})
    other.record("sft", 0, {"loss": 9.0})
    other.record("sft", 1, {"loss": 1.25})
    metrics.record("ppo", 0, {"kl": 0.5})
    assert [row["loss"] for row in Metrics(path).rows("sft")] == [1.5, 1.25]
    assert len(path.read_text().splitlines()) == len(metrics.rows()) == 3


def test_a_torn_line_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    Metrics(path).record("sft", 0, {"loss": 1.5})
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"stage": "sft", "st')
    Metrics(path).record("sft", 1, {"loss": 1.0})
    assert path.read_bytes().startswith(whole)
    assert len(Metrics(path).rows()) == 2


def test_damage_and_bad_figures_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with pytest.raises(ConfigError, match="step 3 of ppo has a figure that is not finite"):
        Metrics(path).record("ppo", 3, {"kl": float("nan")})
    assert not path.exists()
    path.write_text('{"stage": "sft"}\n')
    with pytest.raises(StorageError, match=r"metrics\.jsonl, line 1: not a line of metrics"):
        Metrics(path)
