"""The labelling page on a socket of this machine's loopback interface, and on no other: there is no option for one.

Protects against: a page that a whole network can reach because of a wrong word in a configuration; a server that writes request lines.
Does not protect against: other users of this machine, who can reach the port and stand before the sign-in.
"""

import contextlib
import socket as sockets

import uvicorn

from client.feedback.desk import Desk
from client.feedback.web import create_app
from common.errors import ConfigError

LOOPBACK = "127.0.0.1"


def listening(port: int) -> sockets.socket:
    """A socket bound to loopback. Raises ConfigError when the port is taken."""
    socket = sockets.socket(sockets.AF_INET, sockets.SOCK_STREAM)
    socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
    try:
        socket.bind((LOOPBACK, port))
        socket.listen(256)
    except OSError as error:
        socket.close()
        raise ConfigError(f"port {port} cannot be used ({error.strerror}); is the page open already? Choose another with --port") from None
    return socket


def serve(desk: Desk, socket: sockets.socket) -> None:
    """Until Ctrl+C, or the process is told to end. One process: the desk is in its memory, the vault on its disk."""
    config = uvicorn.Config(
        create_app(desk), log_level="critical", access_log=False, server_header=False, date_header=False, proxy_headers=False, ws="none",
        lifespan="off", timeout_graceful_shutdown=5,
    )  # fmt: skip
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn closes the page, and then hands the signal on
        uvicorn.Server(config).run(sockets=[socket])
