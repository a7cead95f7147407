"""A run on disk, as the coordinator sees it: what was asked, the registry, the figures, and where a federated stage stands.

RUN/config.toml            the study, resolved        RUN/metrics.jsonl   one line a round or PPO step
RUN/registry/              signed versions            RUN/federation/     the enrolment and a checkpoint a running stage
RUN/prompts.jsonl          the public prompts of PPO
RUN/roster.json            the signed roster of the sites, which the masked exchange stands on
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import tomli_w

from common.config import Stage, StudyConfig, load_study
from common.errors import ConfigError, StorageError
from common.privacy.mechanism import Unit
from common.secure.context import line_name
from common.secure.roster import Roster, open_roster
from common.storage import held_alone, storage_errors, write_atomic
from server.federate.cohort import Enrolment
from server.metrics import Metrics
from server.registry import Registry

CONFIG_FILE, ROSTER_FILE = "config.toml", "roster.json"
PATIENCE_SECONDS = 5.0
"""How long a run waits for the lock of another process: helpers of one that was killed notice within a second."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """One study in one folder. `create` and `open` are the only ways to get one."""

    path: Path
    study: StudyConfig
    registry: Registry
    metrics: Metrics = field(repr=False)

    @classmethod
    def create(cls, path: Path, study: StudyConfig) -> "RunFolder":
        """Lay the folder out for `study`, or open it when it holds the same study. Raises ConfigError when it holds another."""
        with storage_errors(path, "create the run folder"):
            path.mkdir(parents=True, exist_ok=True)
        config = path / CONFIG_FILE
        if not config.exists():
            write_atomic(config, tomli_w.dumps(study.model_dump(mode="json", exclude_none=True)), mode=0o644)
        stored = load_study(config)
        if stored != study:
            raise ConfigError(
                f"{config}: this folder holds study `{stored.study_id}` with other figures; choose another folder or resume it as it is"
            )
        Registry.create(path / "registry", study.study_id)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Raises ConfigError or StorageError naming the file that is missing or wrong."""
        if not (path / CONFIG_FILE).exists():
            raise StorageError(
                f"{path}: not a run folder, {CONFIG_FILE} is missing; `wardround simulate` or `wardround-coordinator launch` makes one"
            )
        study = load_study(path / CONFIG_FILE)
        registry = Registry.open(path / "registry")
        if registry.study_id != study.study_id:
            raise ConfigError(f"{path}: the registry belongs to study `{registry.study_id}` and config.toml describes `{study.study_id}`")
        with storage_errors(path, "prepare the run folder"):
            (path / "federation").mkdir(exist_ok=True)
        return cls(path, study, registry, Metrics(path / "metrics.jsonl"))

    @property
    def prompts_file(self) -> Path:
        return self.path / "prompts.jsonl"

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Work on the run inside: a second process would write the same checkpoints and metrics. Raises StorageError when one is at it."""
        with held_alone(
            self.path / ".lock", "another process works on this run; wait for it, or stop it and resume", patience_seconds=PATIENCE_SECONDS
        ):
            yield

    @property
    def pretraining_state(self) -> Path:
        """Where the public preference model stands while it is trained."""
        return self.path / "federation" / "pretraining-state"

    def checkpoint(self, line: str) -> Path:
        return self.path / "federation" / f"{line}.safetensors"

    # -- the roster ----------------------------------------------------------------------------------------------------

    def roster(self) -> Roster | None:
        """The roster of this run, or None. Raises RosterRefused when the file is not what the coordinator signed."""
        path = self.path / ROSTER_FILE
        if not path.exists():
            return None
        with storage_errors(path, "read the roster"):
            return open_roster(path.read_bytes())

    def put_roster(self, data: bytes) -> Roster:
        """Keep a signed roster, in the place of an older version if there is one. Raises RosterRefused for one that cannot follow it."""
        roster, former = open_roster(data), self.roster()
        if former is not None and roster != former:
            roster.changes_since(former)
        write_atomic(self.path / ROSTER_FILE, data, mode=0o644)
        return roster

    # -- the enrolment -------------------------------------------------------------------------------------------------

    def enrolment(self) -> Enrolment | None:
        """The sites pinned when the study began, or None before that."""
        path = self.path / "federation" / "enrolment.json"
        if not path.exists():
            return None
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
            declared = {site: {Unit(unit): int(n) for unit, n in units.items()} for site, units in tree["sites"].items()}
            digest = tree["study_digest"]
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            raise StorageError(
                f"{path}: the enrolment cannot be read; restore it from a backup, its figures may not change in a study"
            ) from None
        if digest != self.study.digest:
            raise ConfigError(f"{path}: the sites were enrolled in a study with other figures; use a new run folder for a changed study")
        return Enrolment(declared)

    def enrol(self, enrolment: Enrolment) -> None:
        """Pin the sites of the study. Raises StorageError on a full disk; then nobody is enrolled."""
        sites = {site: {unit.value: n for unit, n in units.items()} for site, units in enrolment.declared.items()}
        tree = {"study_digest": self.study.digest, "sites": sites}
        write_atomic(self.path / "federation" / "enrolment.json", json.dumps(tree, indent=2, sort_keys=True) + "\n", mode=0o644)


def parse_line(line: str) -> tuple[Stage, int | None]:
    """`sft` → (SFT, None), `reward-1` → (REWARD, 1). Raises ConfigError for anything else."""
    name, _, number = line.partition("-")
    if line == Stage.SFT.value:
        return Stage.SFT, None
    if name == Stage.REWARD.value and number.isdecimal() and line == line_name(Stage.REWARD, int(number)):
        return Stage.REWARD, int(number)
    raise ConfigError(f"`{line}` is not a federated stage; use `sft` or `reward-0`, `reward-1`, …")


def federated_lines(study: StudyConfig) -> tuple[str, ...]:
    """The registry lines that the federation trains, in order."""
    return (Stage.SFT.value, *(line_name(Stage.REWARD, member) for member in range(study.reward.members)))
