"""What a site's peers remember of its ledger, and what they refuse: a ledger that went back, or that became another.

Every advertise message of a masked round carries the site's `LedgerHead`, signed. Its peers keep the last one they saw and compare:

    known = require_forward(known, shown)        # raises ProtocolError naming the sites, and nothing is remembered then

Protects against: a snapshot that was restored (its ledger is shorter than what the peers saw, and the privacy spent since would be spent again
unseen), a cloned site (of two copies that both go on, the one behind is refused, and two of one length differ in their digests).
Does not protect against: a copy that trains where none of these peers is; a restored snapshot of all peers at once; a site whose every
peer is new to it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from common.errors import ProtocolError

DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class LedgerHead:
    """How many rows a site's privacy ledger has, and the digest of the last, which binds all of them: it may grow, never go back."""

    rows: int
    digest: bytes

    def __post_init__(self) -> None:
        if self.rows < 0 or len(self.digest) != DIGEST_BYTES:
            raise ProtocolError(f"a ledger head has a count of at least 0 and a digest of {DIGEST_BYTES} bytes")


def require_forward(known: Mapping[str, LedgerHead], shown: Mapping[str, LedgerHead]) -> dict[str, LedgerHead]:
    """What the peers' ledgers are now known to be. Raises ProtocolError naming every site whose ledger went back or forked."""
    problems = []
    for site, head in sorted(shown.items()):
        before = known.get(site)
        if before is None:
            continue
        if head.rows < before.rows:
            problems.append(f"the ledger of site `{site}` went back from {before.rows} rows to {head.rows}")
        elif head.rows == before.rows and head.digest != before.digest:
            problems.append(f"the ledger of site `{site}` has {head.rows} rows as before and they are others")
    if problems:
        raise ProtocolError(
            "; ".join(problems) + ": an older copy was restored, or the site runs twice; privacy that was spent would be spent again. "
            "The site must come back with its latest ledger, or join under a new name with patients that never took part"
        )
    return {**known, **shown}


def heads_to_json(heads: Mapping[str, LedgerHead]) -> dict[str, list[int | str]]:
    """For the vault: {site: [rows, digest in hex]}."""
    return {site: [head.rows, head.digest.hex()] for site, head in sorted(heads.items())}


def heads_from_json(tree: Mapping[str, list[int | str]]) -> dict[str, LedgerHead]:
    return {site: LedgerHead(int(rows), bytes.fromhex(str(digest))) for site, (rows, digest) in tree.items()}
