"""The text of a systemd unit and of a container file: the same sandbox for both wings.

Protects against: a fault in a network program that would read homes, change the system or gain rights (systemd.exec(5)).
Does not protect against: what the program may do anyway: reach the network, and read and write its own folder.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

SANDBOX = """\
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictSUIDSGID=yes
RestrictRealtime=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
LockPersonality=yes
SystemCallArchitectures=native
CapabilityBoundingSet=
UMask=0077
LimitCORE=0"""


def unit(
    description: str,
    *,
    command: str,
    writes: Path,
    restart: str,
    after: str = "network-online.target",
    limits: str = "StartLimitIntervalSec=0",
) -> str:
    """A unit that runs `command` as user `wardround` and may write below `writes` alone."""
    return f"""\
[Unit]
Description={description}
After={after}
Wants=network-online.target
{limits}

[Service]
Type=exec
User=wardround
Group=wardround
ExecStart={command}
WorkingDirectory={writes}
ReadWritePaths={writes}
{restart}
KillMode=mixed
TimeoutStopSec=60
{SANDBOX}

[Install]
WantedBy=multi-user.target
"""


def containerfile(*, packages: str, command: Sequence[str], port: int | None) -> str:
    """An image from the wheelhouse, without a network while it is built except for the system's own packages; /data is the folder of keys.

    The wheels are those of this Python, so the image has the same.
    """
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    install = f" && apt-get install -y --no-install-recommends {packages}" if packages else ""
    expose = f"EXPOSE {port}\n" if port else ""
    return f"""\
# Build beside the wheelhouse that `make wheelhouse` wrote:  podman build -f Containerfile -t wardround .
# Run with the folder, which user 10001 owns, as /data:      podman run --init -v DIR:/data wardround
# A vault's key that lies elsewhere is mounted at its own path as well.
FROM docker.io/library/python:{python}-slim-bookworm
RUN apt-get update{install} && rm -rf /var/lib/apt/lists/* \\
 && useradd --system --uid 10001 --home-dir /data wardround && install -d -o wardround -m 0700 /data
RUN --mount=type=bind,source=wheelhouse,target=/wheelhouse \\
 cd /wheelhouse && sha256sum --check --strict --quiet SHA256SUMS \\
 && python -m venv /opt/wardround \\
 && /opt/wardround/bin/pip install --no-index --no-cache-dir --no-deps --find-links /wheelhouse --require-hashes -r requirements.txt
ENV PATH=/opt/wardround/bin:$PATH
USER wardround
VOLUME /data
{expose}ENTRYPOINT {json.dumps(list(command))}
"""
