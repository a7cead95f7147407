"""systemd units and a container file for the coordinator, written from its settings.

A unit's sandbox is the second wall: even a fault in the SuperLink reads and writes nothing but DIR.
"""

import sys
from pathlib import Path

from common.storage import write_atomic
from common.units import containerfile, unit
from server.deploy.folder import Deployment

COORDINATOR_UNIT, STUDY_UNIT, CONTAINER_FILE = "wardround-coordinator.service", "wardround-study@.service", "Containerfile"


def write_units(deployment: Deployment) -> list[Path]:
    """units/: the coordinator itself; a study that resumes by itself after a crash; a container file. Returns their paths."""
    command = Path(sys.executable).parent / "wardround-coordinator"
    serve = unit(
        "Wardround coordinator: SuperLink, SuperExec and the TLS proxy",
        command=f"{command} up --deployment {deployment.path}",
        writes=deployment.path,
        restart="Restart=always\nRestartSec=15",
    )
    # A pause or the end of the study is exit code 0 and is not restarted; a refusal is tried again, at most a few times an hour.
    study = unit(
        "Wardround study %I: resumed until its lines are done",
        command=f"{command} resume %I --deployment {deployment.path} --app {deployment.path / 'app'}",
        writes=deployment.path,
        restart="Restart=on-failure\nRestartSec=60",
        after="wardround-coordinator.service",
        limits="StartLimitIntervalSec=3600\nStartLimitBurst=10",
    )
    texts = {
        COORDINATOR_UNIT: serve,
        STUDY_UNIT: study,
        CONTAINER_FILE: containerfile(
            packages="nginx-light", command=["wardround-coordinator", "up", "--deployment", "/data"], port=deployment.settings.port
        ),
    }
    for name, text in texts.items():
        write_atomic(deployment.units / name, text, mode=0o644)
    return [deployment.units / name for name in texts]
