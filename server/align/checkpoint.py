"""The state of a PPO run after a step, in one file that is either the old one or the new one.

Every step starts from such a state, read or just made, so a resumed run is the same run bit for bit.

Protects against: a kill at any moment (atomic write), and a checkpoint of another study, model or reward taken for this one.
Does not protect against: a checkpoint changed by hand; what is released is checked by the registry's signature, not here.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from common.errors import ConfigError, StorageError
from common.storage import write_atomic
from server.align.rewards import RunningScale

Arrays = Mapping[str, NDArray[np.float32]]


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
    arrays = {f"{group}/{name}": np.ascontiguousarray(array) for group in _GROUPS for name, array in getattr(state, group).items()}
    header = {
        "binding": state.binding,
        "steps": state.steps,
        "updates": state.updates,
        "kept_step": state.kept_step,
        "coefficient": state.coefficient,
        "records": [asdict(record) for record in state.records],
        "stopped": state.stopped,
        "running": asdict(state.running),
        "best_step": state.best_step,
    }
    write_atomic(path, save(arrays, metadata={"state": json.dumps(header, sort_keys=True)}))


def load_state(path: Path, binding: str) -> PolicyState | None:
    """The checkpoint at `path`, or None when there is none. Raises ConfigError when it belongs to another run, StorageError when damaged."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})["state"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # safe_open is no mapping
        if header["binding"] != binding:
            raise ConfigError(f"{path}: this checkpoint belongs to another study, model, reward or set of prompts; use a new run folder")
        for group in _GROUPS:
            header[group] = {name.removeprefix(f"{group}/"): array for name, array in arrays.items() if name.startswith(f"{group}/")}
        header["running"] = RunningScale(**header["running"])
        header["records"] = tuple(StepRecord(**record) for record in header["records"])
        return PolicyState(**header)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise StorageError(f"{path}: the checkpoint cannot be read ({type(error).__name__}); remove it to start PPO again") from None
