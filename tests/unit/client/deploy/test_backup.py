"""A backup gives the same site back, byte by byte checked, and never over one that is there."""

import sqlite3
import tarfile
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import pytest

from client.deploy.backup import backup, restore
from client.hospital.identity import load_key, make_keys
from client.hospital.site import Site
from client.sealed.vault import KEY_FILE
from common.errors import ConfigError, StorageError
from tests.helpers.sites import make_site

NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    make_site(tmp_path / "ash", simulated_seed=None)
    make_keys(tmp_path / "ash")
    (tmp_path / "ash" / "logs").mkdir()
    (tmp_path / "ash" / "logs" / "superexec.log").write_text("what an app choked on")
    return tmp_path / "ash"


def test_the_site_comes_back(site: Path, tmp_path: Path) -> None:
    with Site.open(site) as open_site:
        digest, head = open_site.vault.digest(), open_site.ledger.head
        saved = backup(open_site, tmp_path / "ash.backup", with_key=False, now=NOW)
    assert not saved.with_key
    assert (tmp_path / "ash.backup").stat().st_mode & 0o077 == 0
    assert b"what an app choked on" not in (tmp_path / "ash.backup").read_bytes()
    key = (site / KEY_FILE).read_bytes()
    assert key not in (tmp_path / "ash.backup").read_bytes(), "the vault's key stays apart"
    restored = restore(tmp_path / "ash.backup", tmp_path / "again")
    assert not restored.with_key
    with pytest.raises(StorageError):
        Site.open(tmp_path / "again")
    (tmp_path / "again" / KEY_FILE).write_bytes(key)
    (tmp_path / "again" / KEY_FILE).chmod(0o600)
    with Site.open(tmp_path / "again") as again:
        assert (again.vault.digest(), again.ledger.head) == (digest, head)
        again.vault.check()
    assert load_key(tmp_path / "again").public == load_key(site).public


def test_a_key_under_another_name_stays_apart_too(tmp_path: Path) -> None:
    folder = tmp_path / "ash"
    Site.create(folder, "ash", key_file=folder / "our.key").close()
    with Site.open(folder) as open_site:
        assert not backup(open_site, tmp_path / "apart", with_key=False, now=NOW).with_key
        assert backup(open_site, tmp_path / "with", with_key=True, now=NOW).with_key
    key = (folder / "our.key").read_bytes()
    assert key not in (tmp_path / "apart").read_bytes()
    assert key in (tmp_path / "with").read_bytes()


def test_a_large_vault_is_never_in_memory(site: Path, tmp_path: Path) -> None:
    with sqlite3.connect(site / "vault.db") as database:
        database.execute("CREATE TABLE ballast (x BLOB)")
        database.executemany("INSERT INTO ballast VALUES (randomblob(1000000))", [()] * 48)
    database.close()
    with Site.open(site) as open_site:
        tracemalloc.start()
        saved = backup(open_site, tmp_path / "b", with_key=True, now=NOW)
        restore(tmp_path / "b", tmp_path / "again")
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert saved.bytes > 48_000_000
    assert peak_bytes < 8_000_000, f"{peak_bytes:,} bytes"
    assert (tmp_path / "again" / "vault.db").stat().st_size > 48_000_000
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_with_its_key_it_opens_at_once(site: Path, tmp_path: Path) -> None:
    with Site.open(site) as open_site:
        assert backup(open_site, tmp_path / "b", with_key=True, now=NOW).with_key
    restore(tmp_path / "b", tmp_path / "again")
    Site.open(tmp_path / "again").close()


def test_nothing_is_written_over(site: Path, tmp_path: Path) -> None:
    with Site.open(site) as open_site:
        backup(open_site, tmp_path / "b", with_key=False, now=NOW)
        with pytest.raises(StorageError, match="is there already"):
            backup(open_site, tmp_path / "b", with_key=False, now=NOW)
        with pytest.raises(StorageError, match="on another disk"):
            backup(open_site, site / "b", with_key=False, now=NOW)
    with pytest.raises(StorageError, match="is not empty"):
        restore(tmp_path / "b", site)


def test_a_damaged_backup_writes_nothing(site: Path, tmp_path: Path) -> None:
    with Site.open(site) as open_site:
        backup(open_site, tmp_path / "b", with_key=False, now=NOW)
    whole = (tmp_path / "b").read_bytes()
    for number in range(40):
        damaged = bytearray(whole)
        damaged[len(whole) * number // 40 + 7] ^= 0x55
        (tmp_path / "damaged").write_bytes(damaged)
        folder = tmp_path / f"again-{number}"
        try:
            restore(tmp_path / "damaged", folder)
        except (ConfigError, StorageError):
            assert not folder.exists(), number
        else:  # a byte of padding: what was written is whole all the same
            assert (folder / "vault.db").read_bytes() == _member(tmp_path / "b", "vault.db")
    (tmp_path / "damaged").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="damaged"):
        restore(tmp_path / "damaged", tmp_path / "half")


def test_a_backup_cannot_write_outside(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "evil", "w") as archive:
        archive.addfile(tarfile.TarInfo("../outside"))
    with pytest.raises(ConfigError, match="damaged"):
        restore(tmp_path / "evil", tmp_path / "again")


def _member(path: Path, name: str) -> bytes:
    with tarfile.open(path) as archive:
        file = archive.extractfile(name)
        assert file is not None
        return file.read()
