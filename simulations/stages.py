"""The stages of a run and which of them are done: what `--resume` stands on.

A stage is done when its marker is on the disk. The marker holds what later stages need of it, as JSON; everything larger lies
in the vaults and the registry. A stage that was cut short is run again and picks up from its own checkpoints.

Protects against: a kill at any moment, and a folder of another study taken for this one.
Does not protect against: files of a finished stage that were changed by hand (registry and ledgers check themselves).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.config import StudyConfig, load_study
from common.errors import ConfigError, StorageError
from common.storage import is_empty, storage_errors, write_atomic
from server.run_folder import CONFIG_FILE, RunFolder
from simulations.machine.measure import Meter, give_memory_back

READABLE = 0o644


@dataclass(frozen=True, slots=True)
class Done:
    """What is known of a finished stage."""

    result: Mapping[str, Any]
    seconds: float
    cpu_seconds: float
    peak_rss_mb: float


class Stages:
    """The markers below `folder`, in the order in which the stages were run."""

    def __init__(self, folder: Path, meter: Meter) -> None:
        with storage_errors(folder, "create"):
            folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._meter = folder, meter
        self.done: dict[str, Done] = {}

    def run(self, name: str, work: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """The result of stage `name`: from its marker when it is done, otherwise by doing it.

        The result comes back as JSON gives it in both cases, so that a resumed run computes with the same values.
        """
        marker = self._folder / f"{name}.json"
        if not marker.exists():
            before = self._meter.reading()
            result = work()
            give_memory_back()
            after = self._meter.reading()
            row = {
                "result": result,
                "seconds": after.seconds - before.seconds,
                "cpu_seconds": after.cpu_seconds - before.cpu_seconds,
                "peak_rss_mb": after.peak_rss_mb,
            }
            write_atomic(marker, json.dumps(row, indent=1) + "\n", mode=READABLE)
        try:
            self.done[name] = Done(**json.loads(marker.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise StorageError(
                f"{marker}: cannot be read ({type(error).__name__}); remove it and run with --resume to do the stage again"
            ) from None
        return self.done[name].result


def open_run(run: Path, config: StudyConfig, *, resume: bool) -> RunFolder:
    """A new run folder for `config`, or, with `resume`, the one that stands there.

    Raises ConfigError when the folder holds something and `resume` is off, or when it holds a run of another configuration.
    """
    path = run / CONFIG_FILE
    if not path.exists():
        if not is_empty(run):
            raise ConfigError(f"{run}: this folder is not empty and holds no run; choose another with --out")
        return RunFolder.create(run, config)
    if not resume:
        raise ConfigError(f"{run}: there is a run in this folder; continue it with --resume, or choose another folder with --out")
    found = load_study(path)
    if found != config:
        raise ConfigError(
            f"{run}: this run was started with another configuration ({_difference(found, config)}); use the same, or another --out"
        )
    return RunFolder.create(run, config)


def _difference(found: StudyConfig, asked: StudyConfig) -> str:
    """The first key in which two studies differ, with both values."""

    def walk(a: Any, b: Any, prefix: str) -> str | None:
        for key in a:
            if isinstance(a[key], dict) and isinstance(b[key], dict):
                inner = walk(a[key], b[key], f"{prefix}{key}.")
                if inner:
                    return inner
            elif a[key] != b[key]:
                return f"`{prefix}{key}` was {a[key]} and is {b[key]} now"
        return None

    return walk(found.model_dump(mode="json"), asked.model_dump(mode="json"), "") or "written by another version of Wardround"
