"""What every stage of a simulated study, and every trial on a finished one, sees."""

from dataclasses import dataclass
from pathlib import Path

from common.adapters import Adapter
from common.bases import shared_base
from common.config import StudyConfig
from common.models import SharedBase
from common.progress import Progress
from server.registry import Version
from server.run_folder import RunFolder
from simulations.machine.workers import Workers
from simulations.sources.source import Source


@dataclass(frozen=True, slots=True)
class World:
    """The run folder, where its texts come from, who is told how far it is, and who shares the work."""

    run: RunFolder
    source: Source
    progress: Progress
    workers: Workers

    @property
    def study(self) -> StudyConfig:
        return self.run.study

    @property
    def base(self) -> SharedBase:
        """The one copy in memory, shared by the hospitals and the coordinator of this process; the first use loads it."""
        return shared_base(self.study.model.base, self.study.model.dtype)

    @property
    def sites(self) -> list[Path]:
        return sorted(folder for folder in (self.run.path / "sites").iterdir() if folder.is_dir())

    def load_line(self, line: str) -> Version:
        """Put the newest version of a line on the base, under the line's name."""
        version = self.run.registry.latest(line)
        self.base.put(line, Adapter.load(version.folder))
        return version
