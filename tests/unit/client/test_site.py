from pathlib import Path
from typing import Any

import pytest

from client.hospital.policy import HospitalPolicy
from client.hospital.site import POLICY_FILE, SITE_FILE, Site
from client.sealed.vault import KEY_FILE
from common.errors import ConfigError, StorageError
from common.privacy.ledger import Budget
from common.privacy.mechanism import Unit


def test_a_site_is_the_same_after_reopening(tmp_path: Path) -> None:
    policy = HospitalPolicy(max_epsilon=3.0, allowed_bases=("tiny",))
    with Site.create(tmp_path / "north", "north", policy, declared_units={Unit.PATIENT: 90}) as site:
        secret = site.vault.patient_secret("p1")
    with Site.open(tmp_path / "north") as again:
        assert (again.name, again.policy, again.declared_units(Unit.PATIENT)) == ("north", policy, 90)
        assert again.vault.patient_secret("p1") == secret


def test_the_key_may_lie_on_another_disk(tmp_path: Path) -> None:
    Site.create(tmp_path / "north", "north", key_file=tmp_path / "elsewhere.key").close()
    assert not (tmp_path / "north" / KEY_FILE).exists()
    Site.open(tmp_path / "north").close()


def test_ledger_and_audit_log_are_the_sites_own(tmp_path: Path) -> None:
    with Site.create(tmp_path / "north", "north", HospitalPolicy(max_epsilon=3.0, allowed_units=(Unit.PATIENT,))) as site:
        assert site.ledger.budgets == {Unit.PATIENT: Budget(3.0, 1e-6)}
        assert site.ledger.epsilon(Unit.PATIENT) == 0
        site.audit.append("test", {"n": 1})
        assert {path.name for path in site.folder.iterdir()} >= {"ledger.jsonl", "audit.jsonl"}


@pytest.mark.parametrize("name", ["", "North", "a b", "../up", "x" * 64])
def test_names_that_could_not_be_a_folder_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="site name"):
        Site.create(tmp_path / "north", name)


@pytest.mark.parametrize("number", [0, -1, 2.5, True])
def test_a_declared_number_is_a_whole_number_above_0(tmp_path: Path, number: Any) -> None:
    with pytest.raises(ConfigError, match="whole number"):
        Site.create(tmp_path / "north", "north", declared_units={Unit.PATIENT: number})


def test_a_unit_that_was_not_declared_is_refused(tmp_path: Path) -> None:
    with (
        Site.create(tmp_path / "north", "north", declared_units={Unit.PATIENT: 9}) as site,
        pytest.raises(ConfigError, match="has not declared"),
    ):
        site.declared_units(Unit.PAIR)


def test_a_site_is_not_created_twice_nor_opened_where_none_is(tmp_path: Path) -> None:
    Site.create(tmp_path / "north", "north").close()
    with pytest.raises(StorageError, match="there already"):
        Site.create(tmp_path / "north", "north")
    with pytest.raises(StorageError, match="wardround-site init"):
        Site.open(tmp_path / "nowhere")


def test_damaged_settings_are_refused_by_file(tmp_path: Path) -> None:
    Site.create(tmp_path / "north", "north").close()
    (tmp_path / "north" / POLICY_FILE).write_text("max_epsilon = 99")
    with pytest.raises(ConfigError, match="max_epsilon"):
        Site.open(tmp_path / "north")
    (tmp_path / "north" / SITE_FILE).write_text("name = 3 [")
    with pytest.raises(ConfigError, match=SITE_FILE):
        Site.open(tmp_path / "north")
