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
    """The lines of one run, read again when the file has grown. Figures only: the file may be published with the report."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[tuple[str, int], Mapping[str, JSON]] = {}
        self._size = 0
        self._refresh()

    def record(self, stage: str, step: int, figures: Mapping[str, JSON]) -> None:
        """Append one line unless (stage, step) stands already. Raises StorageError on a full disk and ConfigError on NaN or infinity."""
        self._refresh()
        if (stage, step) in self._known:
            return
        row: dict[str, JSON] = {"stage": stage, "step": step, **figures}
        try:
            line = json.dumps(row, allow_nan=False).encode() + b"\n"
        except ValueError:
            raise ConfigError(f"step {step} of {stage} has a figure that is not finite; nothing was recorded") from None
        with storage_errors(self.path, "record metrics"):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                write_all(descriptor, line)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, self._size)
                raise
            finally:
                os.close(descriptor)
        self._refresh()

    def _refresh(self) -> None:
        """Take in lines that were added since; cut a last one that a kill left without its line feed. Raises StorageError for a damaged one."""
        with storage_errors(self.path, "read the metrics"):
            size = self.path.stat().st_size if self.path.exists() else 0
            if size == self._size:
                return
            whole, feed, torn = self.path.read_bytes().rpartition(b"\n")
            if torn:
                os.truncate(self.path, len(whole) + len(feed))
        self._known, self._size = {}, len(whole) + len(feed)
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                row = json.loads(line)
                self._known[row["stage"], row["step"]] = row
            except (ValueError, KeyError, TypeError):
                raise StorageError(f"{self.path}, line {number}: not a line of metrics; restore the file or remove that line") from None

    def rows(self, stage: str | None = None) -> list[Mapping[str, JSON]]:
        """The lines of one stage, or of all, in the order they were recorded."""
        self._refresh()
        return [row for (name, _), row in self._known.items() if stage is None or name == stage]
