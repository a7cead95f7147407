"""Where a pretraining stands after a step, in one file that is either the old one or the new one: a resumed run is the same run bit for bit.

Protects against: a kill at any moment, and a file of other pairs, model or settings taken for this run's.
Does not protect against: a file changed by hand.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import nn

from common.errors import ConfigError, StorageError
from common.storage import write_atomic

Arrays = Mapping[str, NDArray[np.float32]]
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
        arrays = {f"{group}/{name}": np.ascontiguousarray(array) for group in _GROUPS for name, array in getattr(self, group).items()}
        header = {"binding": self.binding, "steps": [asdict(step) for step in self.steps]}
        write_atomic(path, save(arrays, metadata={"state": json.dumps(header, sort_keys=True)}))

    @classmethod
    def load(cls, path: Path, binding: str) -> "PretrainingState | None":
        """The state at `path`, or None when there is none. Raises ConfigError when it belongs to another run, StorageError when damaged."""
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                header = json.loads((file.metadata() or {})["state"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # safe_open is no mapping
            if header["binding"] != binding:
                raise ConfigError(
                    f"{path}: this pretraining was begun with other pairs, settings or base model; remove it, or use a new folder"
                )
            groups = [{n.removeprefix(f"{group}/"): a for n, a in arrays.items() if n.startswith(f"{group}/")} for group in _GROUPS]
            return cls(binding, tuple(PretrainingStep(**step) for step in header["steps"]), *groups)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise StorageError(
                f"{path}: the pretraining's state cannot be read ({type(error).__name__}); remove it to begin again"
            ) from None
