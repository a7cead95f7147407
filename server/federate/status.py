"""Where a run stands, read from its folder alone: lines that are done, the one that runs, who was late, what travelled."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from safetensors import SafetensorError, safe_open

from common.errors import StorageError
from common.journal import JSON
from server.run_folder import RunFolder, federated_lines, parse_line

WAITING, RUNNING, DONE = "waiting", "running", "done"


@dataclass(frozen=True, slots=True)
class LineStatus:
    """One line of the study. `late` counts, for each site, the rounds it missed, whatever the reason."""

    line: str
    state: str
    rounds_done: int
    rounds: int
    version: int | None
    late: Mapping[str, int]
    bytes_up: int
    bytes_down: int
    seconds: float


def status(run: RunFolder) -> list[LineStatus]:
    """Every federated line, in order. Raises StorageError or JournalBroken when something on the disk does not hold."""
    return [_line(run, line) for line in federated_lines(run.study)]


def next_line(run: RunFolder) -> str | None:
    """The first federated line without a version, or None when all are done."""
    return next((line for line in federated_lines(run.study) if run.registry.find(line) is None), None)


def _line(run: RunFolder, line: str) -> LineStatus:
    version, rows = run.registry.find(line), run.metrics.rows(line)
    rounds = run.study.stage(parse_line(line)[0]).rounds
    done = rounds if version else _rounds_done(run, line)
    late: dict[str, int] = {}
    for row in rows:
        missing = row.get("missing")
        for site in missing if isinstance(missing, Mapping) else ():
            late[site] = late.get(site, 0) + 1
    return LineStatus(
        line=line,
        state=DONE if version else RUNNING if done or rows else WAITING,
        rounds_done=done,
        rounds=rounds,
        version=version.number if version else None,
        late=dict(sorted(late.items())),
        bytes_up=int(_total(rows, "bytes_up")),
        bytes_down=int(_total(rows, "bytes_down")),
        seconds=_total(rows, "seconds"),
    )


def _rounds_done(run: RunFolder, line: str) -> int:
    path = run.checkpoint(line)
    if not path.exists():
        return 0
    try:
        with safe_open(path, framework="numpy") as file:
            return int(json.loads((file.metadata() or {})["state"])["next_round"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        raise StorageError(f"{path}: the checkpoint cannot be read; remove it to start `{line}` again") from None


def _total(rows: Sequence[Mapping[str, JSON]], key: str) -> float:
    return sum(value for row in rows if isinstance(value := row.get(key), int | float))
