"""Bad networks for tests: a web proxy (CONNECT), a front that repeats, cuts and delays calls, and namespaces joined by a slow cable that loses packets."""

import contextlib
import ctypes
import fcntl
import math
import os
import random
import select
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

DEVICE = "wr0"


class WebProxy:
    """A hospital's web proxy: it takes CONNECT, and passes on sealed bytes."""

    def __init__(self) -> None:
        self.connections = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

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

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


class Cable:
    """A cable between two network namespaces: every IP packet arrives after `delay_seconds`, or, with probability `loss`, never.

    A TUN device in each namespace (man 4 tun), and this process in between; both ends see an ordinary network, and TCP does its work.
    """

    _TUNSETIFF, _IFF_TUN, _IFF_NO_PI, _CLONE_NEWNET = 0x400454CA, 0x0001, 0x1000, 0x40000000

    def __init__(self, ends: tuple[str, str], delay_seconds: float, loss: float, *, seed: int = 7) -> None:
        self.delay, self.loss = delay_seconds, loss
        self.passed = self.lost = 0
        self._random = random.Random(seed)
        self._files = [self._device(name) for name in ends]

    def _device(self, namespace: str) -> int:
        """The device `wr0` in `namespace`. A thread is moved there to open it, and ends; the open file stays what it is."""
        made: list[int] = []

        def enter() -> None:
            with Path("/run/netns", namespace).open() as there:
                if ctypes.CDLL(None, use_errno=True).setns(there.fileno(), self._CLONE_NEWNET):
                    return
            made.append(os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK))
            fcntl.ioctl(made[0], self._TUNSETIFF, struct.pack("16sH", DEVICE.encode(), self._IFF_TUN | self._IFF_NO_PI))

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if not made:
            raise OSError(f"namespace {namespace} cannot be entered")
        return made[0]

    def carry(self) -> None:
        """Until the process is ended; a line of figures a second on standard error."""
        on_the_way: deque[tuple[float, int, bytes]] = deque()
        told = time.monotonic()
        while True:
            now = time.monotonic()
            while on_the_way and on_the_way[0][0] <= now:
                _, end, packet = on_the_way.popleft()
                with contextlib.suppress(OSError):  # a device that is not up yet, or whose queue is full, loses packets as others do
                    os.write(end, packet)
            if now - told >= 1:
                told = now
                sys.stderr.write(f"{self.passed} packets passed, {self.lost} lost\n")
            due = on_the_way[0][0] - now if on_the_way else 1.0
            for end in select.select(self._files, [], [], max(0.0, min(due, 1.0)))[0]:
                with contextlib.suppress(OSError):
                    packet = os.read(end, 65536)
                    if self._random.random() < self.loss:
                        self.lost += 1
                    else:
                        self.passed += 1
                        on_the_way.append((time.monotonic() + self.delay, self._files[1 - self._files.index(end)], packet))


class ChaosFront:
    """A TLS front with the coordinator's own certificate: some calls are repeated, some answers cut, some calls delayed or lost.

    It stands for a network (or a coordinator's own machine) that does its worst to whole calls; TLS alone cannot be tampered with from outside.
    """

    PLAN = (("repeated", 0.03), ("cut", 0.01), ("delayed", 0.10), ("lost", 0.01))

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
                status, headers, data = answers[0]  # the second is a refusal: the SuperLink knows a signed call again
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
        self._server.server_close()


@dataclass(frozen=True)
class Networks:
    """Prefixes of commands in the two namespaces, the address of the first, and what the cable between them has carried."""

    here: tuple[str, ...]
    there: tuple[str, ...]
    address: str
    log: Path

    @property
    def carried(self) -> str:
        return self.log.read_text().splitlines()[-1]


@contextlib.contextmanager
def namespaces(folder: Path, *, round_trip_seconds: float, loss: float) -> Iterator[Networks]:
    """Two network namespaces and a bad cable between them. `loss` is that of a packet and its answer together.

    Skips where they cannot be made: without root rights, `ip` or TUN devices.
    """
    ip = shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if ip is None:
        pytest.skip("the command `ip` is not installed (Debian: apt-get install iproute2)")
    here, there = names = ("wr-coord", "wr-sites")
    enter = {name: (ip, "netns", "exec", name) for name in names}
    cable: subprocess.Popen[bytes] | None = None

    def run(*words: str) -> bool:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0

    for name in names:
        run(ip, "netns", "del", name)
    if not all(run(ip, "netns", "add", name) for name in names):
        pytest.skip("network namespaces need root rights")
    try:
        log = folder / "cable.log"
        with log.open("wb") as output:
            one_way = (round_trip_seconds / 2, 1 - math.sqrt(1 - loss))
            cable = subprocess.Popen([sys.executable, "-m", "tests.helpers.network", *names, *map(str, one_way)], stderr=output)
        if not wait_for_device(lambda: all(run(*enter[name], ip, "link", "show", DEVICE) for name in names)):
            pytest.skip("this kernel makes no TUN devices here")
        for name, address in ((here, "10.77.0.1"), (there, "10.77.0.2")):
            for words in (("addr", "add", f"{address}/24", "dev", DEVICE), ("link", "set", DEVICE, "up"), ("link", "set", "lo", "up")):
                assert run(*enter[name], ip, *words), words
        yield Networks(enter[here], enter[there], "10.77.0.1", log)
    finally:
        if cable is not None:
            cable.kill()
            cable.wait()
        for name in names:
            run(ip, "netns", "del", name)


def wait_for_device(there: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not (found := there()) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def main() -> None:
    """python -m tests.helpers.network: a web proxy, which prints its port; or, with two namespaces, seconds and loss one way, their cable."""
    if len(sys.argv) > 1:
        Cable((sys.argv[1], sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])).carry()
    proxy = WebProxy()
    sys.stdout.write(f"{proxy.port}\n")
    sys.stdout.flush()
    while True:
        time.sleep(1)
        sys.stderr.write(f"{proxy.connections} connections\n")


if __name__ == "__main__":
    main()
