"""The TLS proxy in front of the SuperLink: nginx that lets the calls of a site through, and nothing else.

Protects against: whoever holds the coordinator's certificate and reaches its port. The SuperLink's control, runtime and documentation
endpoints share one port with the sites' own and have no login; here they all answer 403, whatever the path is made to look like.
Does not protect against: a registered site that calls its own endpoints with bad intent (the SuperLink's node authentication and our
protocol are for that), or a flood of connections that a firewall must stop.
"""

import shutil
import subprocess
from pathlib import Path

from common.errors import ConfigError
from common.storage import write_atomic
from server.deploy.folder import Deployment

FLEET_CALLS = (
    "activate-node", "deactivate-node", "send-node-heartbeat", "pull-messages", "push-messages", "get-run", "get-fab",
    "push-object", "pull-object", "confirm-message-received",
)  # fmt: skip
"""What a SuperNode calls. Registering itself is not among them: the coordinator's desk registers nodes from the roster."""

MAX_REQUEST_MEGABYTES = 16
"""Flower cuts arrays into objects of 5 MB."""

_TEMPLATE = """\
# Written by `wardround-coordinator up`; edit coordinator.toml, not this file.
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    server_tokens off;
    default_type application/octet-stream;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/upstream;
    fastcgi_temp_path {folder}/unused;
    uwsgi_temp_path {folder}/unused;
    scgi_temp_path {folder}/unused;
    # A message goes straight on: nothing of it is laid down on this disk.
    proxy_request_buffering off;
    proxy_buffering off;
    proxy_max_temp_file_size 0;
    client_max_body_size {megabytes}m;
    client_header_timeout 20s;
    client_body_timeout 120s;
    keepalive_timeout 75s;
    proxy_read_timeout 120s;
    ssl_protocols TLSv1.3;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_session_tickets off;

    upstream superlink {{ server {superlink}; keepalive 32; }}

    server {{
        listen {listen}:{port} ssl;
        server_name {host};
        # The request line as it came, before anything decodes or shortens it: no encoded path can stand for another one.
        if ($request_uri !~ "^/v1/fleet/({calls})$") {{ return 403; }}
        location / {{
            limit_except POST {{ deny all; }}
            proxy_pass https://superlink;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host {superlink};
            proxy_ssl_protocols TLSv1.3;
            proxy_ssl_verify on;
            proxy_ssl_trusted_certificate {authority};
            proxy_ssl_name localhost;
            # Sending a site's message twice is for the site to decide.
            proxy_next_upstream off;
        }}
    }}
}}
"""


def write_config(deployment: Deployment) -> Path:
    """proxy/nginx.conf for the settings as they are now."""
    settings, path = deployment.settings, deployment.proxy / "nginx.conf"
    text = _TEMPLATE.format(
        folder=deployment.proxy, megabytes=MAX_REQUEST_MEGABYTES, certificate=deployment.tls / "server.crt",
        key=deployment.keys / "server.key", superlink=deployment.superlink_address, listen=settings.listen, port=settings.port,
        host=settings.host, authority=deployment.ca_certificate, calls="|".join(FLEET_CALLS),
    )  # fmt: skip
    write_atomic(path, text, mode=0o644)
    return path


def require_nginx() -> str:
    """The path of nginx. Raises ConfigError when it is not installed."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise ConfigError("nginx is not installed; on Debian and Ubuntu: apt-get install nginx-light")
    return found


def command(deployment: Deployment) -> list[str]:
    return [require_nginx(), "-p", str(deployment.proxy), "-c", str(deployment.proxy / "nginx.conf"), "-g", "daemon off;"]


def check_config(deployment: Deployment) -> None:
    """Raises ConfigError with nginx's own words when it does not accept its configuration."""
    done = subprocess.run([*command(deployment), "-t", "-q"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"{deployment.proxy / 'nginx.conf'}: nginx does not accept it: {done.stderr.strip()[-500:]}")
