"""Handing one stage to Flower: `flwr run` with this run folder, and the reason in plain words when it fails.

Telemetry, the update check and the installation of dependencies are switched off for everything that is started here.
"""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

from common.errors import ConfigError, RunAborted, RunLost, RunStopped, StorageError, WardroundError
from common.secure.context import SITE_NAME
from common.storage import storage_errors, write_atomic
from server.run_folder import RunFolder

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}


def submit(
    run: RunFolder, line: str, superlink: str, bundle: Path, virtual_sites: Path | None = None, environment: Mapping[str, str] | None = None
) -> None:
    """Train `line` through the SuperLink of that name and wait for its end; Flower's log goes to standard error.

    virtual_sites   a folder of site folders: Flower's simulation engine then runs each of them on this machine
    environment     of the `flwr` command; this process's own, made quiet, when left out
    Raises ConfigError when `bundle` is no folder of Wardround's app, RunStopped when the desk paused or aborted the run, and
    WardroundError with the ServerApp's own words when it fails.
    """
    require_app(bundle)
    config = {"run-dir": str(run.path), "stage": line}
    command = [str(Path(sys.executable).parent / "flwr"), "run", str(bundle), superlink, "--stream"]
    if virtual_sites is not None:
        config["sites-dir"] = str(virtual_sites.resolve())
        with storage_errors(virtual_sites, "read the folder of sites"):
            sites = sum(1 for folder in virtual_sites.iterdir() if folder.is_dir())
        command += ["--federation-config", f"num-supernodes={sites} client-resources-num-cpus=1"]
    command += ["--run-config", " ".join(f"{key}={json.dumps(value)}" for key, value in config.items())]
    failure = failure_file(run, line)
    failure.unlink(missing_ok=True)
    try:
        done = subprocess.run(command, env=dict(environment or {**os.environ, **QUIET}), stdout=sys.stderr, check=False)
    except FileNotFoundError:
        raise StorageError(f"{command[0]}: the command `flwr` is missing; install Wardround's dependencies with `make setup`") from None
    if run.registry.find(line) is None:
        raise _failure(failure, line, superlink, done.returncode)


def failure_file(run: RunFolder, line: str) -> Path:
    """Where the ServerApp, a process of its own, leaves the reason for its end."""
    return run.path / "federation" / f"{line if SITE_NAME.fullmatch(line) else 'unknown'}.failed.json"


def leave_reason(run: RunFolder, line: str, error: WardroundError) -> None:
    write_atomic(failure_file(run, line), json.dumps({"code": error.code, "reason": str(error)}) + "\n", mode=0o644)


def _failure(path: Path, line: str, superlink: str, code: int) -> WardroundError:
    try:
        left = json.loads(path.read_text(encoding="utf-8"))
        kind = {RunStopped.code: RunStopped, RunAborted.code: RunAborted}.get(left["code"], WardroundError)
        return kind(f"{line}: {left['reason']}")
    except (OSError, ValueError, KeyError, TypeError):
        return RunLost(
            f"{line}: Flower ended with code {code} before the coordinator's app could say why; read its log above, "
            f"check the SuperLink `{superlink}` in Flower's config.toml, and resume"
        )


def require_app(bundle: Path) -> None:
    try:
        tree = tomllib.loads((bundle / "pyproject.toml").read_text(encoding="utf-8"))
        serverapp = tree["tool"]["flwr"]["app"]["components"]["serverapp"]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError):
        serverapp = None
    if serverapp != "server.app:app":
        raise ConfigError(f"{bundle}: no app of Wardround here; give --app the folder that holds its pyproject.toml")
