"""Approving code: by its bytes, with what changed, and refusing what is no bundle or does not fit the installed data files."""

import io
import json
import random
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from client.deploy import assets
from client.deploy.assets import ASSETS, manifest, require_assets
from client.deploy.bundles import approve, approved_bundle, changes, difference, is_approved, open_bundle, read_bundle
from common.errors import ConfigError, StorageError

FILES = {"pyproject.toml": b"[project]\n", "client/app.py": b"one\ntwo\nthree\n", ASSETS: b"{}"}


def fab(files: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return stream.getvalue()


def test_only_the_newest_approved_bytes_may_run(tmp_path: Path) -> None:
    assert approved_bundle(tmp_path) is None
    assert not is_approved(tmp_path, fab(FILES))
    old, new = open_bundle(fab(FILES)), open_bundle(fab({**FILES, "client/app.py": b"other\n"}))
    approve(tmp_path, old)
    assert is_approved(tmp_path, old.content)
    approve(tmp_path, new)
    assert is_approved(tmp_path, new.content)
    assert not is_approved(tmp_path, old.content)
    assert not is_approved(tmp_path, new.content + b"\0"), "a zip with a tail unpacks the same and is not the same"


def test_what_changed_is_counted_and_shown() -> None:
    old = open_bundle(fab({**FILES, "client/gone.py": b"x\n"}))
    new = open_bundle(fab({**FILES, "client/app.py": b"one\n2\nthree\nfour\n", "client/new.py": b"y\n"}))
    found = changes(old, new)
    assert (found.added, found.removed, dict(found.lines)) == (("client/new.py",), ("client/gone.py",), {"client/app.py": (2, 1)})
    assert found.count == 3
    shown = difference(old, new)
    assert "+four\n" in shown
    assert "-two\n" in shown
    assert "-x\n" in shown
    assert changes(None, new).added == tuple(sorted(new.files))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a bundle"),
        (b"PK\x03\x04 rest", "not a bundle"),
        (fab({"pyproject.toml": b""}), "no hospital's app"),
        (fab(FILES)[:-10], "not a bundle"),
    ],
)
def test_what_is_no_bundle(data: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        open_bundle(data)
    with pytest.raises(StorageError, match="cannot be read"):
        read_bundle(tmp_path / "none.fab")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_bundle_is_refused_as_such(method: int) -> None:
    draw = random.Random(7)
    whole = fab({**FILES, "client/app.py": draw.randbytes(200).hex().encode()}, method)
    refused = 0
    for _ in range(400):
        damaged = bytearray(whole)
        for place in draw.sample(range(len(whole)), 3):
            damaged[place] ^= draw.randrange(1, 256)
        try:
            open_bundle(bytes(damaged))
        except ConfigError:
            refused += 1
    assert refused > 300  # the rest fell on dates and attributes, which nobody reads


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_twice_is_refused() -> None:
    stream = io.BytesIO(fab(FILES))
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("client/app.py", b"the other one\n")
    with pytest.raises(ConfigError, match="holds a file twice"):
        open_bundle(stream.getvalue())


def test_a_bundle_that_unpacks_to_too_much_is_refused() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**FILES, "client/bomb.json": bytes(210 * 2**20)}.items():
            archive.writestr(name, data)
    assert len(stream.getvalue()) < 2**20
    with pytest.raises(ConfigError, match="unpacks to more"):
        open_bundle(stream.getvalue())


def test_data_files_must_be_the_ones_the_bundle_expects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "client").mkdir()
    (tmp_path / "client" / "page.html").write_text("<p>")
    monkeypatch.setattr(assets, "installed_root", lambda: tmp_path)
    listed = json.dumps(manifest(tmp_path)).encode()
    assert list(json.loads(listed)) == ["client/page.html"]
    require_assets(open_bundle(fab({**FILES, ASSETS: listed})))
    for wrong in (
        b"{}",
        json.dumps({"client/page.html": "0" * 64}).encode(),
        json.dumps({**json.loads(listed), "client/b.bin": "1" * 64}).encode(),
    ):
        with pytest.raises(ConfigError, match="data files of the installed Wardround are not the bundle's"):
            require_assets(open_bundle(fab({**FILES, ASSETS: wrong})))
    for broken in (b"", b"[]", b'{"a": 1}'):
        with pytest.raises(ConfigError, match="no list of data files"):
            require_assets(open_bundle(fab({**FILES, ASSETS: broken})))


def test_the_list_of_data_files_is_true() -> None:
    """When this fails after a data file was added or changed: python -m client.deploy.assets"""
    root = Path(assets.__file__).resolve().parents[2]
    assert json.loads((root / ASSETS).read_text()) == manifest(root)
