"""Where a pretraining stands after a step, in a file of `server/state_file.py`: a resumed run is the same run bit for bit."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from server.state_file import Arrays, load_state_file, save_state_file

_GROUPS = ("trained", "first", "second")


@dataclass(frozen=True, slots=True)
class PretrainingStep:
    """Loss and share of pairs in the right order, of one step's pairs before the step moved anything."""

    loss: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class PretrainingState:
    """`binding` names what the run was started from; `trained`, and Adam's moments `first` and `second`, are by the tensor's name."""

    binding: str
    steps: tuple[PretrainingStep, ...]
    trained: Arrays
    first: Arrays
    second: Arrays

    @classmethod
    def of(
        cls, binding: str, steps: tuple[PretrainingStep, ...], parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
    ) -> "PretrainingState":
        def moments(name: str) -> Arrays:
            return {key: optimizer.state[p][name].numpy(force=True).copy() for key, p in parameters.items()}

        trained = {key: p.numpy(force=True).copy() for key, p in parameters.items()}
        return cls(binding, steps, trained, moments("exp_avg"), moments("exp_avg_sq"))

    def into(self, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
        """Make parameters and optimizer what they were."""
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(torch.from_numpy(self.trained[name]))
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(len(self.steps))),
                    "exp_avg": torch.from_numpy(self.first[name]).to(parameter.device),
                    "exp_avg_sq": torch.from_numpy(self.second[name]).to(parameter.device),
                }

    def save(self, path: Path) -> None:
        """Raises StorageError; then the old file still stands."""
        header = {"steps": [asdict(step) for step in self.steps]}
        save_state_file(path, self.binding, header, {group: getattr(self, group) for group in _GROUPS})

    @classmethod
    def load(cls, path: Path, binding: str) -> "PretrainingState | None":
        """The state at `path`, or None when there is none. Raises ConfigError when it belongs to another run, StorageError when damaged."""

        def build(header: dict[str, Any], groups: Mapping[str, Arrays]) -> "PretrainingState":
            steps = tuple(PretrainingStep(**step) for step in header["steps"])
            return cls(binding, steps, *(groups[group] for group in _GROUPS))

        of_another = "pretraining, with other pairs, settings or base model"
        return load_state_file(path, binding, build, of_another=of_another, remedy="remove it to begin again")
