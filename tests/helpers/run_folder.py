"""A run folder as `wardround simulate` leaves it, made from plausible figures in a moment."""

import json
import math
from pathlib import Path

import tomli_w

from common.config import StudyConfig
from server.evaluate.gate import summarize
from server.evaluate.summary import Figures
from tests.helpers.figures import figures


def write_run(run: Path, *, of: Figures | None = None, config: StudyConfig | None = None) -> Path:
    """Write summary.json, config.toml and metrics.jsonl below `run`."""
    run.mkdir(parents=True, exist_ok=True)
    config = config or StudyConfig(study_id="demo", seed=7)
    summarize(of or figures(), config).write(run)
    (run / "config.toml").write_text(tomli_w.dumps(config.model_dump(mode="json", exclude_none=True)))
    rows: list[dict[str, object]] = [{"stage": "sft-held-out", "step": r, "loss": 2.514 + 0.398 * math.exp(-r / 3)} for r in range(9)]
    rows += [{"stage": f"reward-{m}", "step": r, "survivors": 4} for m in range(2) for r in range(1, 11)]
    rows += [
        {"stage": "ppo", "step": t, "reward": -0.12 + 0.075 * t + 0.05 * math.sin(9 * t), "kl": 0.35 * t, "length": 27 + math.sin(t), "disagreement": 0.3 + 0.01 * t}
        for t in range(1, 15)
    ]  # fmt: skip
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run
