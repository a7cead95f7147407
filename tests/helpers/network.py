"""Bad networks for tests: a delaying HTTP proxy (CONNECT), a front that repeats, cuts and delays calls, and network namespaces."""

import contextlib
import random
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPException, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


class DelayingProxy:
    """An HTTP proxy that takes CONNECT and passes each chunk on after `delay_seconds`; one in a hundred waits for `stall_seconds` more, as a
    lost segment does until TCP sends it again. Order within a direction is kept, as TCP keeps it."""

    def __init__(self, delay_seconds: float, loss: float, *, stall_seconds: float = 0.25, seed: int = 7) -> None:
        self.delay, self.loss, self.stall = delay_seconds, loss, stall_seconds
        self.chunks = self.stalled = self.connections = 0
        self._random = random.Random(seed)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._server.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), client:
            request = b""
            while b"\r\n\r\n" not in request:
                request += client.recv(4096)
            host, _, port = request.split()[1].decode().rpartition(":")
            with socket.create_connection((host, int(port)), timeout=60) as upstream:
                self.connections += 1
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                up = threading.Thread(target=self._pump, args=(client, upstream), daemon=True)
                up.start()
                self._pump(upstream, client)
                up.join(60)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                lost = self._random.random() < self.loss
                self.chunks += 1
                self.stalled += lost
                time.sleep(self.delay + lost * self.stall)
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


class ChaosFront:
    """A TLS front with the coordinator's own certificate: some calls are repeated, some answers cut, some calls delayed or lost.

    It stands for a network (or a coordinator's own machine) that does its worst to whole calls; TLS alone cannot be tampered with from outside.
    """

    PLAN = (("repeated", 0.03), ("cut", 0.02), ("delayed", 0.10), ("lost", 0.01))

    def __init__(self, certificate: Path, key: Path, authority: Path, upstream: int, *, seed: int = 7) -> None:
        self.done: Counter[str] = Counter()
        self._random = random.Random(seed)
        trust = ssl.create_default_context(cafile=str(authority))
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fault = front.draw()
                front.done[fault] += 1
                if fault == "delayed":
                    time.sleep(1.5)  # later calls overtake this one
                try:
                    answers = [
                        front.forward(trust, upstream, self.path, dict(self.headers), body) for _ in range(1 + (fault == "repeated"))
                    ]
                except (OSError, HTTPException):
                    answers = [(502, {}, b"")]
                if fault == "lost":  # taken by the coordinator, and the answer never arrives
                    self.close_connection = True
                    return
                status, headers, data = answers[0]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if fault == "cut" and data:
                    self.wfile.write(data[: len(data) // 2])
                    self.wfile.flush()
                    self.close_connection = True
                    return
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # cut connections are the point
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def draw(self) -> str:
        left = self._random.random()
        for fault, share in self.PLAN:
            if left < share:
                return fault
            left -= share
        return "passed"

    @staticmethod
    def forward(trust: ssl.SSLContext, port: int, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        link = HTTPSConnection("localhost", port, context=trust, timeout=120)
        try:
            link.request("POST", path, body, {**headers, "Connection": "close"})
            answer = link.getresponse()
            kept = {
                name: value for name, value in answer.getheaders() if name.lower() in ("content-type", "content-encoding", "retry-after")
            }
            return answer.status, kept, answer.read()
        finally:
            link.close()

    def close(self) -> None:
        self._server.shutdown()


@contextlib.contextmanager
def namespaces() -> Iterator[tuple[tuple[str, ...], tuple[str, ...], str, bool]]:
    """Two network namespaces joined by a cable: (prefix of commands here, there, address here, whether netem delays the cable).

    Skips where they cannot be made: without root rights, or without `ip`.
    """
    ip = shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if ip is None:
        pytest.skip("the command `ip` is not installed (Debian: apt-get install iproute2)")
    here, there = "wr-coord", "wr-sites"

    def run(*words: str) -> bool:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0

    for name in (here, there):
        run(ip, "netns", "del", name)
    if not (run(ip, "netns", "add", here) and run(ip, "netns", "add", there)):
        pytest.skip("network namespaces need root rights")
    try:
        enter = {name: (ip, "netns", "exec", name) for name in (here, there)}
        made = run(ip, "link", "add", "wr0", "netns", here, "type", "veth", "peer", "name", "wr1", "netns", there)
        for name, device, address in ((here, "wr0", "10.77.0.1/24"), (there, "wr1", "10.77.0.2/24")):
            made = made and all(
                run(*enter[name], ip, *words)
                for words in (("addr", "add", address, "dev", device), ("link", "set", device, "up"), ("link", "set", "lo", "up"))
            )
        if not made:
            pytest.skip("this kernel has no veth devices")
        tc = shutil.which("tc", path="/usr/sbin:/sbin:/usr/bin:/bin") or "tc"
        netem = all(
            run(*enter[name], tc, "qdisc", "add", "dev", device, "root", "netem", "delay", "25ms", "loss", "0.5%")
            for name, device in ((here, "wr0"), (there, "wr1"))
        )
        yield enter[here], enter[there], "10.77.0.1", netem
    finally:
        for name in (here, there):
            run(ip, "netns", "del", name)


def main() -> None:
    """python -m tests.helpers.network: a delaying proxy of its own process; prints its port."""
    proxy = DelayingProxy(float(sys.argv[1]), float(sys.argv[2]))
    sys.stdout.write(f"{proxy.port}\n")
    sys.stdout.flush()
    while True:
        time.sleep(1)
        sys.stderr.write(f"{proxy.connections} connections, {proxy.chunks} chunks, {proxy.stalled} stalled\n")


if __name__ == "__main__":
    main()
