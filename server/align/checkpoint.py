"""The state of a PPO run after a step, in one file that is either the old one or the new one.

Every step starts from such a state, read or just made, so a resumed run is the same run bit for bit.
The file is `server/state_file.py`'s.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from server.align.rewards import RunningScale
from server.state_file import Arrays, load_state_file, save_state_file


@dataclass(frozen=True, slots=True)
class StepRecord:
    """The figures of the policy after `step` updates, and CPU seconds by phase. Numbers only."""

    step: int
    figures: Mapping[str, float]
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class PolicyState:
    """Where a run stands.

    binding      what the run was started from; another one does not resume it
    steps        updates done
    trained      policy, value adapter and value head, by name
    first, second  Adam's moments of the same tensors, empty before the first update
    updates      optimizer steps behind the moments
    kept         the policy's tensors when it was last measured within the KL budget, and kept_step when that was
    coefficient  β of the KL penalty
    stopped      why the run is over, or None
    running      the running scale of the reward, when the study normalises by one
    best         the policy's tensors when the judges were most pleased, and best_step when that was; empty without a watch
    """

    binding: str
    steps: int
    trained: Arrays
    first: Arrays
    second: Arrays
    updates: int
    kept: Arrays
    kept_step: int
    coefficient: float
    records: tuple[StepRecord, ...] = ()
    stopped: str | None = None
    running: RunningScale = field(default_factory=RunningScale)
    best: Arrays = field(default_factory=dict)
    best_step: int = 0


_GROUPS = ("trained", "first", "second", "kept", "best")


def save_state(path: Path, state: PolicyState) -> None:
    """Write the checkpoint atomically. Raises StorageError; then the old one still stands."""
    header = {
        "steps": state.steps,
        "updates": state.updates,
        "kept_step": state.kept_step,
        "coefficient": state.coefficient,
        "records": [asdict(record) for record in state.records],
        "stopped": state.stopped,
        "running": asdict(state.running),
        "best_step": state.best_step,
    }
    save_state_file(path, state.binding, header, {group: getattr(state, group) for group in _GROUPS})


def load_state(path: Path, binding: str) -> PolicyState | None:
    """The checkpoint at `path`, or None when there is none. Raises ConfigError when it belongs to another run, StorageError when damaged."""

    def build(header: dict[str, Any], groups: Mapping[str, Arrays]) -> PolicyState:
        header["running"] = RunningScale(**header["running"])
        header["records"] = tuple(StepRecord(**record) for record in header["records"])
        header |= {group: groups[group] for group in _GROUPS}
        return PolicyState(binding, **header)

    of_another = "study, model, reward or set of prompts"
    return load_state_file(path, binding, build, of_another=of_another, remedy="remove it to start PPO again")
