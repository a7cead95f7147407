"""One hospital on disk: its name, what it declares, what it permits, its vault, its ledger and its audit log.

FOLDER/site.toml       name and the declared number of units, by unit
FOLDER/policy.toml     `HospitalPolicy`
FOLDER/vault.db, vault.key
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import Field

from client.deid.assurance.token import GateToken, read_token
from client.hospital.founding import Plan, finish, founding
from client.hospital.policy import HospitalPolicy, load_policy
from client.sealed.vault import DATABASE, DATABASE_FILES, KEY_FILE, Vault
from common.errors import ConfigError, SealBroken, StorageError
from common.events import Event
from common.journal import Journal
from common.privacy.ledger import Budget, Ledger
from common.privacy.mechanism import Unit
from common.settings import Frozen, read_toml, validated
from common.storage import storage_errors, write_atomic
from common.wire import MAX_DECLARED_UNITS

SITE_FILE, POLICY_FILE, LEDGER_FILE, AUDIT_FILE = "site.toml", "policy.toml", "ledger.jsonl", "audit.jsonl"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class SiteSettings(Frozen):
    """What stands in site.toml."""

    name: str = Field(pattern=f"^{_NAME.pattern}$")
    declared_units: dict[Unit, int]
    key_file: Path | None = None


class Site:
    """The hospital's own things, opened once and passed down. Closing it closes the vault."""

    def __init__(self, folder: Path, name: str, declared: Mapping[Unit, int], policy: HospitalPolicy, vault: Vault) -> None:
        self.folder, self.name, self.policy, self.vault = folder, name, policy, vault
        self.declared: Mapping[Unit, int] = dict(declared)

    def __repr__(self) -> str:
        return f"Site({self.name})"

    @classmethod
    def create(
        cls,
        folder: Path,
        name: str,
        policy: HospitalPolicy | None = None,
        *,
        declared_units: Mapping[Unit, int] | None = None,
        key_file: Path | None = None,
        simulated_seed: int | None = None,
    ) -> "Site":
        """A new site in an empty folder: whole, or after a kill or a full disk not at all, and then it can be made again.

        `declared_units` is N_s for each unit: a public figure that the hospital states before a study, never counted from the data.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError(f"site name {name!r}: use at most 63 of a-z, 0-9 and -, beginning with a letter or digit")
        declared = dict(declared_units or {})
        for unit, number in declared.items():
            _check_declared(unit, number)
        policy = policy or HospitalPolicy()
        settings: dict[str, Any] = {"name": name, "declared_units": {str(unit): number for unit, number in declared.items()}}
        if key_file is not None:
            settings["key_file"] = str(key_file.resolve())
        with founding(Plan(folder, key_file or folder / KEY_FILE, folder / SITE_FILE, (*DATABASE_FILES, POLICY_FILE))) as key:
            vault = Vault.create(folder, key_file=key_file, key=key, simulated_seed=simulated_seed)
            try:
                write_atomic(folder / POLICY_FILE, tomli_w.dumps(policy.model_dump(mode="json", exclude_none=True)))
                write_atomic(folder / SITE_FILE, tomli_w.dumps(settings))
            except BaseException:
                vault.close()
                raise
        return cls(folder, name, declared, policy, vault)

    @classmethod
    def open(cls, folder: Path) -> "Site":
        """The site of `folder`. Raises ConfigError or StorageError naming the file that is missing or wrong."""
        path = folder / SITE_FILE
        with storage_errors(path, "open the site"):
            there = path.exists()
        if not there:
            raise StorageError(f"{path}: there is no site here; run `wardround-site init {folder}` first")
        settings = validated(str(path), read_toml(path, "restore it from its backup"), SiteSettings)
        for unit, number in settings.declared_units.items():
            _check_declared(unit, number)
        finish(folder)
        policy, key_file = load_policy(folder / POLICY_FILE), settings.key_file
        try:
            return cls(folder, settings.name, settings.declared_units, policy, Vault.open(folder, key_file=key_file))
        except SealBroken:
            raise StorageError(
                f"{key_file or folder / KEY_FILE}: this key does not open {folder / DATABASE}: it is another vault's, or one of the two is "
                "damaged; put the right key in its place, or restore the site from its backup"
            ) from None

    def declared_units(self, unit: Unit) -> int:
        """N_s of that unit. Raises ConfigError when the hospital never declared it: it is never counted from the data."""
        if unit is Unit.SITE:
            return 1
        if unit not in self.declared:
            raise ConfigError(f"site {self.name} has not declared its number of {unit}s; add `{unit}` to [declared_units] in {SITE_FILE}")
        return self.declared[unit]

    @cached_property
    def ledger(self) -> Ledger:
        """The site's one ledger; each unit that the policy allows has the policy's whole budget, since ε of units is never added."""
        budget = Budget(self.policy.max_epsilon, self.policy.max_delta)
        return Ledger.open(self.folder / LEDGER_FILE, dict.fromkeys(self.policy.allowed_units, budget), self.vault)

    @cached_property
    def audit(self) -> Journal:
        return Journal.open(self.folder / AUDIT_FILE)

    def gate(self, digest: bytes) -> None:
        """Return when the de-identification gate's token covers the data set with this digest. Raises GateRefused otherwise."""
        self.gate_token(digest)

    def gate_token(self, digest: bytes, *, now: datetime | None = None) -> GateToken:
        """The token itself, under the thresholds of the hospital's policy as it is now."""
        return read_token(
            self.folder,
            self.vault,
            site=self.name,
            digest=digest,
            max_leak_upper_bound=self.policy.max_leak_upper_bound,
            max_review_upper_bound=self.policy.max_review_upper_bound,
            max_quarantined=self.policy.max_quarantined,
            now=now,
        )

    def require_audit(self) -> None:
        """Before an act on the data: an audit log that cannot take its row refuses the act. Raises JournalBroken or StorageError."""
        with self.audit.locked():
            pass

    def record(self, act: Event, *, now: datetime | None = None) -> None:
        """Write an act on the data into the audit log: counts and handles, and when."""
        moment = now or datetime.now(UTC)
        self.audit.append(type(act).__name__, {**act.body(), "at": moment.isoformat(timespec="seconds")})

    def close(self) -> None:
        self.vault.close()

    def __enter__(self) -> "Site":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_declared(unit: Unit, number: object) -> None:
    if unit is Unit.SITE:
        raise ConfigError("a site is one of itself: leave `site` out of what is declared")
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= MAX_DECLARED_UNITS:
        raise ConfigError(f"declared number of {unit}s is {number!r}; it must be a whole number from 1 to {MAX_DECLARED_UNITS:,}")
