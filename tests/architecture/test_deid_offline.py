"""De-identification with every socket blocked: whatever its libraries would like to fetch, it works without."""

import json
import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import socket, sys
def blocked(*_, **__):
    raise AssertionError("a socket was asked for")
socket.socket.connect = socket.socket.connect_ex = blocked
socket.create_connection = socket.getaddrinfo = blocked
if sys.argv[1] == "twin":
    socket.create_connection(("localhost", 9))
from pathlib import Path
from client.deid.surrogates import Dates
from client.deid.standalone import deidentify_file
from common.progress import Silent
deidentify_file(Path(sys.argv[1]), Path(sys.argv[2]), workers=1, dates=Dates.YEAR_ONLY, progress=Silent())
"""


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", _PROGRAM, *map(str, arguments)], capture_output=True, text=True)


def test_no_socket_is_opened(tmp_path: Path) -> None:
    text = "Dr. Quistgaard, quist@example.net, www.quist.example.com, +44 20 7946 0815: La Sra. Etxeandia refiere dolor."
    (tmp_path / "in.jsonl").write_text(json.dumps({"id": "a", "text": text}) + "\n")
    done = run(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert done.returncode == 0, done.stderr
    row = json.loads((tmp_path / "out.jsonl").read_text())
    assert {span["label"] for span in row["spans"]} >= {"NAME", "EMAIL", "URL", "PHONE"}


def test_the_block_would_be_noticed() -> None:
    assert "a socket was asked for" in run("twin", "x").stderr
