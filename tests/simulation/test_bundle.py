"""The Flower app bundle: what is in it, that it is the same every time, and that its apps load from a foreign folder and work there."""

import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from client.hospital.site import Site
from common.privacy.mechanism import Unit

ROOT = Path(__file__).resolve().parents[2]
MAX_BYTES = 10 * 2**20
CARRIED = {".py", ".toml", ".json", ".jsonl", ".yaml", ".yml", ".md"}

LOADER = """
import hashlib, json, os, sys
from pathlib import Path

from flwr.cli.install import install_from_fab
from flwr.clientapp.utils import get_load_client_app_fn
from flwr.common.config import get_project_dir
from flwr.supercore.object_ref import load_app

fab = Path(sys.argv[1]).read_bytes()
digest = hashlib.sha256(fab).hexdigest()
install_from_fab(fab, skip_prompt=True)
folder = get_project_dir("wardround/wardround", "0.1.0", digest)
client = get_load_client_app_fn(default_app_ref="", app_path=None, multi_app=True)("wardround/wardround", "0.1.0", digest)
server = load_app("server.app:app", RuntimeError, str(folder))

from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from common.privacy.mechanism import Unit
from common.protocol import HELLO_MESSAGE, Hello, HelloRequest

TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
message = Message(HelloRequest((Unit.PATIENT,)).to_record(), dst_node_id=2, message_type=HELLO_MESSAGE)
message.metadata.__dict__["_message_id"] = "1"
reply = client(message, Context(1, 2, {"site-dir": sys.argv[2]}, RecordDict(), {}))
hello = Hello.from_record(reply.content)
loaded = {name: str(Path(sys.modules[name].__file__)) for name in sys.modules if name.split(".")[0] in ("client", "common", "server")}
print(json.dumps({"folder": str(folder), "site": hello.site, "units": hello.declared_units["patient"], "server": type(server).__name__, "loaded": loaded}))
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("build"))


def build(folder: Path) -> Path:
    flwr = Path(sys.executable).parent / "flwr"
    result = subprocess.run([flwr, "build", "--app", ROOT], cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    (path,) = folder.glob("*.fab")
    return path


def test_it_carries_the_two_wings_and_their_ground_and_nothing_else(bundle: Path) -> None:
    assert bundle.stat().st_size <= MAX_BYTES
    names = zipfile.ZipFile(io.BytesIO(bundle.read_bytes())).namelist()
    assert {name.partition("/")[0] for name in names} == {"client", "common", "server", "pyproject.toml", "README.md", "LICENSE", ".info"}
    odd = [name for name in names if Path(name).suffix not in CARRIED and name not in ("LICENSE", ".info/CONTENT")]
    assert not odd, odd
    for needed in ("client/app.py", "client/train/update.py", "server/app.py", "server/federate/rounds.py", "common/protocol.py"):
        assert needed in names


def test_it_is_the_same_every_time(bundle: Path, tmp_path: Path) -> None:
    """A site approves a bundle by its SHA-256, so building it again must give the same bytes."""
    again = build(tmp_path)
    assert hashlib.sha256(again.read_bytes()).hexdigest() == hashlib.sha256(bundle.read_bytes()).hexdigest()


def test_its_apps_load_and_work_in_a_foreign_folder(bundle: Path, tmp_path: Path) -> None:
    Site.create(tmp_path / "ash", "ash", declared_units={Unit.PATIENT: 42}).close()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"FLWR_HOME": str(tmp_path / "flwr")}
    result = subprocess.run(
        [sys.executable, "-c", LOADER, bundle, tmp_path / "ash"],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    found = json.loads(result.stdout.splitlines()[-1])
    assert (found["site"], found["units"], found["server"]) == ("ash", 42, "ServerApp")
    foreign = {name: path for name, path in found["loaded"].items() if not path.startswith(found["folder"])}
    assert not foreign, "every module of ours must come from the bundle"
    assert Path(found["folder"]).is_relative_to(tmp_path / "flwr")
