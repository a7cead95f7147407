"""A finished stage is not done again; a folder of another study is refused with the key that differs."""

import platform
from pathlib import Path

import numpy as np
import psutil
import pytest

from common.config import PrivacyConfig, StudyConfig
from common.errors import ConfigError, StorageError
from simulations.machine.measure import Meter, give_memory_back
from simulations.stages import Stages, open_run


def test_a_stage_runs_once_and_its_result_comes_from_the_disk(tmp_path: Path) -> None:
    runs: list[int] = []

    def work() -> dict[str, object]:
        runs.append(1)
        return {"rounds": (1, 2), "loss": 0.1}

    with Meter() as meter:
        first = Stages(tmp_path, meter).run("sft", work)
        again = Stages(tmp_path, meter)
        assert again.run("sft", work) == first == {"rounds": [1, 2], "loss": 0.1}
        assert again.done["sft"].peak_rss_mb > 1
    assert runs == [1]


def test_a_stage_that_fails_leaves_no_marker(tmp_path: Path) -> None:
    def fail() -> dict[str, object]:
        raise KeyError

    with Meter() as meter:
        stages = Stages(tmp_path, meter)
        with pytest.raises(KeyError):
            stages.run("sft", fail)
        assert stages.run("sft", lambda: {"ok": True}) == {"ok": True}


def test_a_damaged_marker_is_named(tmp_path: Path) -> None:
    (tmp_path / "sft.json").write_text("{")
    with Meter() as meter, pytest.raises(StorageError, match=r"sft.json: cannot be read"):
        Stages(tmp_path, meter).run("sft", dict)


def test_open_run_refuses_what_is_not_its_own(tmp_path: Path) -> None:
    config = StudyConfig(study_id="one")
    run = tmp_path / "run"
    open_run(run, config, resume=False)
    open_run(run, config, resume=True)
    with pytest.raises(ConfigError, match="continue it with --resume"):
        open_run(run, config, resume=False)
    with pytest.raises(ConfigError, match=r"`privacy.epsilon` was 8.0 and is 3.0 now"):
        open_run(run, StudyConfig(study_id="one", privacy=PrivacyConfig(epsilon=3)), resume=True)
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty and holds no run"):
        open_run(tmp_path / "else", config, resume=True)


def test_resume_of_nothing_starts(tmp_path: Path) -> None:
    open_run(tmp_path / "new", StudyConfig(), resume=True)
    assert (tmp_path / "new" / "config.toml").exists()


def test_the_meter_counts_children() -> None:
    import subprocess
    import sys

    with Meter() as meter:
        alone = meter.reading().peak_rss_mb
        child = subprocess.Popen(
            [sys.executable, "-c", "x = bytearray(80_000_000); print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        child.stdout.readline()
        together = meter.reading().peak_rss_mb
        child.communicate(b"\n")
    assert together > alone + 60


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed memory and has a call to hand it back")
def test_memory_that_is_freed_goes_back_to_the_system() -> None:
    blocks = [np.ones(8000) for _ in range(4000)]  # 256 MB in blocks small enough to come from the heap
    kept = blocks[-1]  # at the top of the heap, so that the C library does not give the rest back by itself
    del blocks
    before = psutil.Process().memory_info().rss
    give_memory_back()
    assert before - psutil.Process().memory_info().rss > 100e6
    assert kept.sum() == 8000


def test_what_a_kill_left_before_the_run_was_there_does_not_stand_in_its_way(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".config.toml.0123456789ab.part").write_text("study_id")
    assert open_run(tmp_path / "run", StudyConfig(), resume=True).study == StudyConfig()
