"""The registry keeps what was put, notices what was changed, and survives a crash between any two of its steps."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import ConfigError, JournalBroken, ModelUnavailable, StorageError
from server.registry import Registry, Version


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry.create(tmp_path / "registry", "demo")


def writer(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "weights.bin").write_text(text)
        (folder / "deep").mkdir()
        (folder / "deep" / "config.json").write_text("{}")

    return write


def two_versions(registry: Registry) -> tuple[Version, Version]:
    first = registry.put("sft", writer("one"), figures={"rounds": 2})
    return first, registry.put("reward-0", writer("two"), parents=[first], figures={"rounds": 3})


def test_versions_come_back_after_reopening(registry: Registry) -> None:
    first, second = two_versions(registry)
    again = Registry.open(registry.folder)
    assert again.study_id == "demo"
    assert again.latest("sft") == first
    assert again.latest("reward-0") == second
    assert second.parents == ("sft/1",)
    assert (second.folder / "weights.bin").read_text() == "two"
    assert again.find("policy") is None
    again.verify()


def test_the_same_files_are_the_same_version(registry: Registry) -> None:
    first = registry.put("sft", writer("one"))
    assert registry.put("sft", writer("one")) == first
    assert registry.put("sft", writer("other")).number == 2
    assert [v.number for v in registry.versions("sft")] == [1, 2]


def test_the_key_is_for_its_owner_alone(registry: Registry) -> None:
    key = registry.folder / "coordinator.key"
    assert key.stat().st_mode & 0o777 == 0o600
    key.chmod(0o640)
    with pytest.raises(StorageError, match="chmod 600"):
        Registry.open(registry.folder)


def test_an_empty_line_and_a_missing_registry_say_what_is_there(registry: Registry, tmp_path: Path) -> None:
    registry.put("sft", writer("one"))
    with pytest.raises(ModelUnavailable, match="no version of `policy`; the registry holds sft"):
        registry.latest("policy")
    with pytest.raises(StorageError, match="there is no registry here"):
        Registry.open(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="belongs to study `demo`"):
        Registry.create(registry.folder, "another")
    with pytest.raises(ConfigError, match="not the name of a line"):
        registry.put("../escape", writer("x"))


def _change_file(registry: Registry) -> None:
    (registry.folder / "sft/0001/weights.bin").write_text("One")


def _remove_file(registry: Registry) -> None:
    (registry.folder / "sft/0001/deep/config.json").unlink()


def _add_file(registry: Registry) -> None:
    (registry.folder / "sft/0001/extra.py").write_text("")


def _change_statement(registry: Registry) -> None:
    path = registry.folder / "sft/0001/version.json"
    tree = json.loads(path.read_text())
    tree["figures"]["rounds"] = 999
    path.write_text(json.dumps(tree))


def _foreign_signature(registry: Registry) -> None:
    other = Registry.create(registry.folder.parent / "other", "demo")
    foreign = other.put("sft", writer("one"), figures={"rounds": 2})
    shutil.copy(foreign.folder / "version.json", registry.folder / "sft/0001/version.json")


def _swap_versions(registry: Registry) -> None:
    sft, reward = registry.folder / "sft/0001", registry.folder / "reward-0/0001"
    sft.rename(registry.folder / "aside")
    reward.rename(sft)
    (registry.folder / "aside").rename(reward)


def _change_row(registry: Registry) -> None:
    path = registry.folder / "journal.jsonl"
    path.write_text(path.read_text().replace('"rounds":2', '"rounds":9'))


def _drop_row(registry: Registry) -> None:
    path = registry.folder / "journal.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:1] + lines[2:]))


def _replace_key(registry: Registry) -> None:
    other = Registry.create(registry.folder.parent / "other", "demo")
    shutil.copy(other.folder / "coordinator.key", registry.folder / "coordinator.key")


@pytest.mark.parametrize(
    "tamper",
    [
        _change_file, _remove_file, _add_file, _change_statement, _foreign_signature, _swap_versions, _change_row, _drop_row, _replace_key,
    ],
    ids=lambda f: f.__name__.strip("_"),
)  # fmt: skip
def test_tampering_is_noticed(registry: Registry, tamper: Callable[[Registry], None]) -> None:
    two_versions(registry)
    registry.verify()
    tamper(registry)
    with pytest.raises(JournalBroken):
        Registry.open(registry.folder).verify()


def test_an_emptied_journal_is_not_taken_for_another_key(registry: Registry) -> None:
    (registry.folder / "journal.jsonl").write_bytes(b"")
    with pytest.raises(JournalBroken, match="the journal is empty; restore it"):
        Registry.open(registry.folder)


def test_a_failed_write_leaves_nothing(registry: Registry) -> None:
    def half(folder: Path) -> None:
        (folder / "weights.bin").write_text("ha")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        registry.put("sft", half)
    assert registry.find("sft") is None
    assert not list(registry.folder.glob(".staging-*"))


def test_a_crash_between_rename_and_row_is_repaired(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(kind: str, body: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(registry.journal, "append", crash)
    with pytest.raises(KeyboardInterrupt):
        registry.put("sft", writer("one"))
    assert (registry.folder / "sft/0001").is_dir(), "the folder was renamed into place before the row"
    again = Registry.open(registry.folder)
    assert again.find("sft") is None
    assert again.put("sft", writer("two")).number == 1
    assert (again.latest("sft").folder / "weights.bin").read_text() == "two"
    again.verify()


def test_tidy_removes_what_a_kill_left(registry: Registry) -> None:
    (registry.folder / ".staging-abc").mkdir()
    registry.tidy()
    assert not list(registry.folder.glob(".staging-*"))


def test_a_rollback_puts_an_earlier_version_in_use_and_removes_nothing(registry: Registry) -> None:
    first, second = (registry.put("reward-0", writer(text)) for text in ("one", "two"))
    assert registry.rollback("reward-0/1") == first
    again = Registry.open(registry.folder)
    assert again.latest("reward-0") == first
    assert [v.number for v in again.versions("reward-0")] == [1, 2]
    again.verify()
    assert again.put("reward-0", writer("one")) == first, "what is in use already is not put again"
    assert again.put("reward-0", writer("three")).number == 3
    assert again.latest("reward-0").number == 3, "a version after a rollback is in use"
    assert registry.rollback("reward-0/2") == second
    with pytest.raises(ConfigError, match="no version `reward-0/9`; the registry holds reward-0/1"):
        registry.rollback("reward-0/9")


def test_a_rollback_or_release_that_nobody_signed_is_noticed(registry: Registry) -> None:
    first, _ = (registry.put("policy", writer(text)) for text in ("one", "two"))
    registry.release(first, summary_digest="0" * 64)
    registry.verify()
    body = {"study_id": "demo", "line": "policy", "number": 1, "digest": first.digest}
    registry.journal.append("rollback", {**body, "signature": "00" * 64})
    for check in (lambda: registry.latest("policy"), registry.verify):
        with pytest.raises(JournalBroken, match="is a rollback that this registry did not sign"):
            check()
