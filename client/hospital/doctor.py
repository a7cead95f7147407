"""Is this site in order? Each check says what it looked at, and what to do when it does not hold."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from client.deid.gate import verify_token
from client.deid.tagger import tagger
from client.deid.vectors import vectors
from client.deploy.checks import looks
from client.hospital.site import Site
from common.errors import StorageError, WardroundError

MIN_FREE_BYTES = 2 * 2**30
MIN_MEMORY_BYTES = 2 * 2**30
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    holds: bool
    detail: str


def examine(folder: Path) -> list[Check]:
    """Every check, in the order in which one would mend them. The later ones need a site that opens."""
    checks = [_disk(folder), _memory(), _model()]
    try:
        site = Site.open(folder)
    except WardroundError as error:
        return [*checks, Check("site", False, str(error))]
    with site:
        checks.append(Check("site", True, f"{site.name}: key and policy can be read"))
        checks += [
            _tried(name, look, site)
            for name, look in (
                ("vault", _vault),
                ("ledger", _ledger),
                ("audit log", _audit),
                ("declared units", _declared),
                ("gate", _gate),
                *looks(folder),
            )
        ]
    return checks


def _tried(name: str, look: Callable[[Site], str], site: Site) -> Check:
    try:
        return Check(name, True, look(site))
    except WardroundError as error:
        return Check(name, False, str(error))


def _disk(folder: Path) -> Check:
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    return Check("disk", free >= MIN_FREE_BYTES, f"{free / GIB:.1f} GiB free, {MIN_FREE_BYTES / GIB:.0f} GiB are needed")


def _memory() -> Check:
    free = psutil.virtual_memory().available
    return Check("memory", free >= MIN_MEMORY_BYTES, f"{free / GIB:.1f} GiB available, {MIN_MEMORY_BYTES / GIB:.0f} GiB are needed")


def _model() -> Check:
    try:
        tagger()
        vectors()
    except StorageError as error:
        return Check("de-identification model", holds=False, detail=str(error))
    return Check(
        "de-identification model", holds=True, detail="the names network and its word vectors are installed and are the released ones"
    )


def _vault(site: Site) -> str:
    site.vault.check()
    counts = site.vault.counts()
    return f"{counts['patients']} patients, {counts['raw']} raw notes, {counts['notes']} released, {counts['quarantine']} held back"


def _ledger(site: Site) -> str:
    site.ledger.verify()
    return f"{site.ledger.head[0]} rows hold"


def _audit(site: Site) -> str:
    site.audit.verify()
    return f"{site.audit.head[0]} rows hold"


def _declared(site: Site) -> str:
    return ", ".join(f"{number} {unit}s" for unit, number in site.declared.items()) or "none yet; declare them before the first study"


def _gate(site: Site) -> str:
    token = verify_token(site)
    return f"{token.notes} notes passed, at most {token.leak_upper_bound:.2%} of them leak; valid until {token.expires}"
