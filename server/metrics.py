"""RUN/metrics.jsonl: one line a federated round or PPO step, for plots and for people.

A line is identified by its stage and step. Recording the same one again, as a resumed run does, changes nothing.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from common.errors import ConfigError, StorageError
from common.journal import JSON
from common.storage import storage_errors, write_all


class Metrics:
    """The lines of one run. Figures only: the file may be published with the report."""

    def __init__(self, path: Path) -> None:
        """Opens or creates; cuts a last line that a kill left without its line feed. Raises StorageError for a damaged one."""
        self.path = path
        self._known: dict[tuple[str, int], Mapping[str, JSON]] = {}
        with storage_errors(path, "read the metrics"):
            data = path.read_bytes() if path.exists() else b""
        whole, feed, torn = data.rpartition(b"\n")
        if torn:
            with storage_errors(path, "cut a torn last line"):
                os.truncate(path, len(whole) + len(feed))
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                row = json.loads(line)
                self._known[row["stage"], row["step"]] = row
            except (ValueError, KeyError, TypeError):
                raise StorageError(f"{path}, line {number}: not a line of metrics; restore the file or remove that line") from None

    def record(self, stage: str, step: int, figures: Mapping[str, JSON]) -> None:
        """Append one line unless (stage, step) stands already. Raises StorageError on a full disk and ConfigError on NaN or infinity."""
        if (stage, step) in self._known:
            return
        row: dict[str, JSON] = {"stage": stage, "step": step, **figures}
        try:
            line = json.dumps(row, allow_nan=False).encode() + b"\n"
        except ValueError:
            raise ConfigError(f"step {step} of {stage} has a figure that is not finite; nothing was recorded") from None
        with storage_errors(self.path, "record metrics"):
            size = self.path.stat().st_size if self.path.exists() else 0
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                write_all(descriptor, line)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
            finally:
                os.close(descriptor)
        self._known[stage, step] = row

    def rows(self, stage: str | None = None) -> list[Mapping[str, JSON]]:
        """The lines of one stage, or of all, in the order they were recorded."""
        return [row for (name, _), row in self._known.items() if stage is None or name == stage]
