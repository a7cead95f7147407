"""The state of a federated stage after a round, in one file that is either the old one or the new one.

A stage resumes from here with the same bits: the adapter, the optimizer's moments and the records of the rounds that are done.

Protects against: a kill at any moment (atomic write), and a checkpoint of another study, line or start taken for this one.
Does not protect against: a checkpoint changed by hand; what is released is checked by the registry's signature, not here.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from common.adapters import Adapter, AdapterSpec
from common.errors import ConfigError, StorageError
from common.storage import write_atomic
from server.federate.aggregate import Moments, OptimizerState


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """The figures of one finished round. Everything here is public: counts, names of sites, codes, a norm of noised sums.

    survivors     sites whose update is in the sum
    missing       the others, each with a code: what it refused for, or `late`, `unreachable`
    bytes_up      from the sites to the coordinator, over all tries; bytes_down the other way
    update_norm   L2 norm of the mean direction Δ
    """

    line: str
    round: int
    attempt: int
    survivors: tuple[str, ...]
    missing: Mapping[str, str]
    bytes_up: int
    bytes_down: int
    update_norm: float
    seconds: float


@dataclass(frozen=True, slots=True)
class RoundState:
    """Where a stage stands: the next round, its attempt number, and everything the next round starts from.

    agreed   the survivors for which the next round's sum was about to be opened before it was cut short; empty otherwise
    """

    binding: str
    next_round: int
    attempt: int
    adapter: Adapter
    moments: OptimizerState
    records: tuple[RoundRecord, ...]
    agreed: tuple[str, ...] = ()

    def with_attempt(self, attempt: int) -> "RoundState":
        return replace(self, attempt=attempt)


def save_state(path: Path, state: RoundState) -> None:
    """Write the checkpoint atomically. Raises StorageError; then the old one still stands."""
    arrays = {f"adapter/{name}": np.ascontiguousarray(tensor) for name, tensor in state.adapter.tensors.items()}
    for name, moments in state.moments.items():
        arrays[f"first/{name}"], arrays[f"second/{name}"] = moments.first, moments.second
    header = {
        "binding": state.binding,
        "next_round": state.next_round,
        "attempt": state.attempt,
        "agreed": list(state.agreed),
        "steps": {name: moments.steps for name, moments in state.moments.items()},
        "records": [asdict(record) for record in state.records],
    }
    write_atomic(path, save(arrays, metadata={"state": json.dumps(header, sort_keys=True)}))


def load_state(path: Path, spec: AdapterSpec, binding: str) -> RoundState | None:
    """The checkpoint at `path`, or None when there is none. Raises ConfigError when it belongs to another study or start, StorageError when damaged."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})["state"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # safe_open is no mapping
        if header["binding"] != binding:
            raise ConfigError(
                f"{path}: this checkpoint belongs to another study, base model or starting adapter; use a new run folder for a changed study"
            )
        adapter = Adapter(spec, {tensor.name: arrays[f"adapter/{tensor.name}"] for tensor in spec.tensors})
        moments = {name: Moments(steps, arrays[f"first/{name}"], arrays[f"second/{name}"]) for name, steps in header["steps"].items()}
        records = tuple(RoundRecord(**{**record, "survivors": tuple(record["survivors"])}) for record in header["records"])
        return RoundState(binding, header["next_round"], header["attempt"], adapter, moments, records, tuple(header["agreed"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise StorageError(f"{path}: the checkpoint cannot be read ({type(error).__name__}); remove it to start the stage again") from None
