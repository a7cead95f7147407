"""A coordinator and hospitals as they stand in the world: real processes, real TLS, real files, on free ports of this machine."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from client.deploy.bundles import approve, read_bundle
from client.hospital.identity import make_card, make_keys, pin_roster
from server.deploy import desk
from server.deploy.bundle import build, unpack
from server.deploy.folder import Deployment, Settings
from server.deploy.proxy import require_nginx
from tests.helpers.sites import make_site

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
STUDY = {
    "study_id": "deployed",
    "model": {"base": "tiny", "dtype": "float32"},
    "privacy": {"sampling_rate": 0.25},
    "sft": {"rounds": 2, "min_survivors": 3, "round_timeout_seconds": 600.0, "adapter": {"rank": 2, "alpha": 4.0}},
    "reward": {"members": 1, "rounds": 1, "min_survivors": 3, "round_timeout_seconds": 600.0},
    "ppo": {"variance_penalty": 0.0},
    "simulation": {"hospitals": 4},
}


def need_nginx() -> None:
    """Skip where the proxy's program is not installed."""
    try:
        require_nginx()
    except Exception as error:  # its words are the reason of the skip
        pytest.skip(str(error))


def built_bundle(deployment: Deployment) -> Path:
    """DIR/wardround.fab and DIR/app, as `wardround-coordinator bundle` leaves them."""
    data = build(ROOT)
    unpack(data, deployment.app)
    path = deployment.path / "wardround.fab"
    path.write_bytes(data)
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(extra or {})}


def call(program: str, *arguments: object, code: int = 0, prefix: tuple[str, ...] = ()) -> dict:
    """Run one command with --json to its end; its object, or {"error": …} when `code` is not 0."""
    done = subprocess.run(
        [*prefix, BIN / program, *map(str, arguments), "--json"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=2400,
    )
    assert done.returncode == code, (done.returncode, done.stdout[-1000:], done.stderr[-3000:])
    return json.loads(done.stdout) if done.stdout else {"error": done.stderr}


def wait_for(what: Callable[[], bool], seconds: float, name: str) -> float:
    """Poll until `what` holds; returns the seconds it took."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < seconds, f"{name}: not within {seconds} s"
        time.sleep(0.25)
    return time.monotonic() - began


@dataclass
class Background:
    """A command that stays: `up`, `join`, `launch`."""

    process: subprocess.Popen
    log: Path

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def family(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.process.pid)
            return [parent, *parent.children(recursive=True)]
        return []

    def kill(self) -> None:
        """SIGKILL to it and all it started, at once: a power cut."""
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(30)

    def stop(self) -> int:
        """SIGTERM, as systemd sends it; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(90)
        except subprocess.TimeoutExpired:
            self.kill()
            return -9


@dataclass
class World:
    """One deployment with its sites, below `folder`."""

    folder: Path
    port: int = field(default_factory=free_port)
    host: str = "localhost"
    backgrounds: list[Background] = field(default_factory=list)
    prefix: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def desk(self) -> Path:
        return self.folder / "desk"

    def site(self, name: str) -> Path:
        return self.folder / "sites" / name

    def found(self, *names: str, listen: str = "127.0.0.1") -> None:
        """The coordinator's folder with its bundle, and sites that it admitted, that pinned its roster and approved its bundle."""
        now = datetime.now(UTC)
        settings = Settings(consortium="north", host=self.host, port=self.port, superlink_port=free_port(), listen=listen)
        deployment = desk.found(self.desk, settings, now=now)
        self.words = desk.open_invitation(deployment).fingerprint
        self.bundle = read_bundle(built_bundle(deployment))
        for name in names:
            make_site(self.site(name))
            make_keys(self.site(name))
            desk.admit(deployment, make_card(self.site(name), name), now=now)
            if name == names[0]:
                (self.folder / "old.json").write_bytes(deployment.roster_file.read_bytes())
        for name in names:
            self.prepare(name)

    def prepare(self, name: str) -> None:
        pin_roster(self.site(name), name, (self.desk / "roster.json").read_bytes(), now=datetime.now(UTC))
        approve(self.site(name), self.bundle)

    def background(
        self, name: str, program: str, *arguments: object, extra: Mapping[str, str] | None = None, where: str = ""
    ) -> Background:
        log = self.folder / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*self.prefix.get(where, ()), BIN / program, *map(str, arguments)], env=environment(extra), stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        self.backgrounds.append(Background(process, log))
        return self.backgrounds[-1]

    def module(self, name: str, module: str, *arguments: object, where: str = "") -> Background:
        """`python -m module` in the background."""
        return self.background(name, "python", "-m", module, *arguments, where=where)

    def call(self, where: str, program: str, *arguments: object) -> dict:
        """`call`, on the machine of `where`."""
        return call(program, *arguments, prefix=self.prefix.get(where, ()))

    def up(self) -> Background:
        up = self.background("up", "wardround-coordinator", "up", "--deployment", self.desk, where="coordinator")
        before = up.text().count("is open to the sites")
        wait_for(lambda: up.text().count("is open to the sites") > before or up.process.poll() is not None, 180, "the coordinator opens")
        assert up.process.poll() is None, up.text()[-2000:]
        return up

    def join(self, name: str, *arguments: object, extra: Mapping[str, str] | None = None) -> Background:
        return self.background(
            f"join-{name}", "wardround-site", "join", "--site", self.site(name), "--invitation", self.desk / "invitation.json", "--words", self.words,
            *arguments, extra=extra, where=name,
        )  # fmt: skip

    def node_log(self, name: str) -> str:
        path = self.site(name) / "logs" / "supernode.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_joined(self, *names: str, seconds: float = 240) -> None:
        for name in names:
            wait_for(lambda name=name: "SuperNode ID" in self.node_log(name), seconds, f"{name} joins")

    def online(self) -> set[str]:
        status = call("wardround-coordinator", "status", self.folder / "run", "--deployment", self.desk)
        return {site for site, node in status["nodes"].items() if node["state"] == "online"}

    def left_over(self) -> list[psutil.Process]:
        """Processes that know this folder and still run."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and str(self.folder) in " ".join(process.cmdline()) + process.environ().get(
                    "FLWR_HOME", ""
                ):
                    found.append(process)
        return found

    def close(self) -> None:
        for background in reversed(self.backgrounds):
            background.kill()
        # A site that was killed leaves its grandchildren to systemd; here it is us.
        for process in self.left_over():
            with contextlib.suppress(psutil.Error):
                process.kill()


@contextlib.contextmanager
def world(folder: Path, **options: object) -> Iterator[World]:
    need_nginx()
    made = World(folder, **options)
    try:
        yield made
    finally:
        made.close()


def write_study(folder: Path, **changes: Mapping[str, object]) -> Path:
    """STUDY with changed sections, as a TOML file."""
    import tomli_w

    tree = {key: {**value, **changes.get(key, {})} if isinstance(value, dict) else value for key, value in STUDY.items()}
    path = folder / "study.toml"
    path.write_text(tomli_w.dumps(tree))
    return path
