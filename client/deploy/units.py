"""A systemd unit and a container file for a site."""

import sys
from pathlib import Path

from common.storage import storage_errors, write_atomic
from common.units import containerfile, unit

SITE_UNIT, CONTAINER_FILE = "wardround-site.service", "Containerfile"


def write_units(folder: Path) -> list[Path]:
    """FOLDER/units: the SuperNode under systemd's supervision, and a container file. Returns their paths."""
    command = Path(sys.executable).parent / "wardround-site"
    # Never too early for the coordinator, which takes a node for present until its heartbeat has lapsed, and without a limit of starts.
    text = unit(
        "Wardround site: stays connected to the coordinator",
        command=f"{command} join --site {folder}",
        writes=folder,
        restart="Restart=always\nRestartSec=15",
    )
    place = folder / "units"
    with storage_errors(place, "create the folder"):
        place.mkdir(exist_ok=True)
    write_atomic(place / SITE_UNIT, text, mode=0o644)
    write_atomic(
        place / CONTAINER_FILE, containerfile(packages="", command=["wardround-site", "join", "--site", "/data"], port=None), mode=0o644
    )
    return [place / SITE_UNIT, place / CONTAINER_FILE]
