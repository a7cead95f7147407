"""The same apps under Flower's own engine: `flwr run`, a SuperLink, Ray and one virtual node for each site."""

import contextlib
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from client.app import app as client_app
from common.config import StudyConfig
from server.app import app as server_app
from server.launching import submit
from server.run_folder import RunFolder
from simulations.hospitals import introduce
from simulations.machine.grid import LocalGrid, run_server
from tests.helpers.sites import make_site

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def flower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Flower home of its own, on ports of its own; the SuperLink that `flwr run` leaves running is ended afterwards."""
    home = tmp_path / "flwr"
    monkeypatch.setenv("FLWR_HOME", str(home))
    for name in ("FLWR_LOCAL_SUPERLINK_HTTP_API_PORT", "FLWR_LOCAL_CONTROL_API_PORT"):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            monkeypatch.setenv(name, str(free.getsockname()[1]))
    monkeypatch.setenv("RAY_DISABLE_IMPORT_WARNING", "1")
    yield
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("FLWR_HOME") == str(home) and process.pid != psutil.Process().pid:
                process.kill()


@pytest.mark.slow  # Ray takes half a minute or more to start on two cores
def test_a_stage_under_flwr_run(flower: None, tmp_path: Path) -> None:
    study = StudyConfig.model_validate(
        {
            "study_id": "engine",
            "model": {"base": "tiny", "dtype": "float32"},
            "privacy": {"sampling_rate": 0.25},
            "sft": {"rounds": 2, "adapter": {"rank": 2, "alpha": 4.0}},
            "reward": {"members": 1},
            "ppo": {"variance_penalty": 0.0},
            "simulation": {"hospitals": 4},
        }
    )
    for name in ("ash", "birch", "cedar", "doum"):
        make_site(tmp_path / "sites" / name)
    run = RunFolder.create(tmp_path / "run", study)
    introduce(sorted((tmp_path / "sites").iterdir()), run, now=datetime.now(UTC))
    submit(run, "sft", "local", ROOT, tmp_path / "sites")
    version = run.registry.latest("sft")
    assert version.figures["sites"] == ["ash", "birch", "cedar", "doum"]
    assert version.figures["fewest_survivors"] == 4
    assert version.figures["adapter_digest"] != version.figures["start_digest"]
    # The same study on the in-process grid ends with the same bits: the apps never know which grid carries them.
    for name in ("ash", "birch", "cedar", "doum"):
        make_site(tmp_path / "local" / "sites" / name)
    local = RunFolder.create(tmp_path / "local" / "run", study)
    grid = LocalGrid(client_app, sorted((tmp_path / "local" / "sites").iterdir()))
    introduce(sorted((tmp_path / "local" / "sites").iterdir()), local, now=datetime.now(UTC))
    run_server(server_app, grid, {"run-dir": str(local.path), "stage": "sft"})
    assert local.registry.latest("sft").digest == version.digest
