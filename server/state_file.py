"""Where a run stands, in one file: named groups of arrays and a JSON header, bound to what the run was started from.

Protects against: a kill at any moment (the file is the old one or the new one), and the state of another run taken for this one's.
Does not protect against: a file changed by hand; what is released is checked by the registry's signature, not here.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from common.errors import ConfigError, StorageError
from common.storage import write_atomic

Arrays = Mapping[str, NDArray[np.float32]]
State = TypeVar("State")


def save_state_file(path: Path, binding: str, header: Mapping[str, Any], groups: Mapping[str, Arrays]) -> None:
    """Write the state atomically. Raises StorageError; then the old one still stands."""
    arrays = {f"{group}/{name}": np.ascontiguousarray(array) for group, named in groups.items() for name, array in named.items()}
    write_atomic(path, save(arrays, metadata={"state": json.dumps({**header, "binding": binding}, sort_keys=True)}))


def load_state_file(
    path: Path,
    binding: str,
    build: Callable[[dict[str, Any], Mapping[str, Arrays]], State],
    *,
    of_another: str,
    remedy: str,
) -> State | None:
    """What `build` makes of the header and the groups at `path`, or None when there is none; a group without arrays is empty.

    Raises ConfigError when the state was saved under another binding ("belongs to another …"), StorageError with the remedy when it
    cannot be read.
    """
    if not path.exists():
        return None
    groups: defaultdict[str, dict[str, NDArray[np.float32]]] = defaultdict(dict)
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {})["state"])
            for key in file.keys():  # noqa: SIM118  # safe_open is no mapping
                group, _, name = key.partition("/")
                groups[group][name] = file.get_tensor(key)
        if header.pop("binding") != binding:
            raise ConfigError(f"{path}: this state belongs to another {of_another}; use a new run folder, or remove it")
        return build(header, groups)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise StorageError(f"{path}: the state cannot be read ({type(error).__name__}); {remedy}") from None
