"""The state of a federated stage after a round, in one file that is either the old one or the new one.

A stage resumes from here with the same bits: the adapter, the optimizer's moments and the records of the rounds that are done.
The file is `server/state_file.py`'s.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from common.adapters import Adapter, AdapterSpec
from server.federate.aggregate import Moments, OptimizerState
from server.state_file import Arrays, load_state_file, save_state_file


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
    groups = {
        "adapter": state.adapter.tensors,
        "first": {name: moments.first for name, moments in state.moments.items()},
        "second": {name: moments.second for name, moments in state.moments.items()},
    }
    header = {
        "next_round": state.next_round,
        "attempt": state.attempt,
        "agreed": list(state.agreed),
        "steps": {name: moments.steps for name, moments in state.moments.items()},
        "records": [asdict(record) for record in state.records],
    }
    save_state_file(path, state.binding, header, groups)


def load_state(path: Path, spec: AdapterSpec, binding: str) -> RoundState | None:
    """The checkpoint at `path`, or None when there is none. Raises ConfigError when it belongs to another study or start, StorageError when damaged."""

    def build(header: dict[str, Any], groups: Mapping[str, Arrays]) -> RoundState:
        adapter = Adapter(spec, {tensor.name: groups["adapter"][tensor.name] for tensor in spec.tensors})
        first, second = groups["first"], groups["second"]
        moments = {name: Moments(steps, first[name], second[name]) for name, steps in header["steps"].items()}
        records = tuple(RoundRecord(**{**record, "survivors": tuple(record["survivors"])}) for record in header["records"])
        return RoundState(binding, header["next_round"], header["attempt"], adapter, moments, records, tuple(header["agreed"]))

    of_another = "study, base model or starting adapter"
    return load_state_file(path, binding, build, of_another=of_another, remedy="remove it to start the stage again")
