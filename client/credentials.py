"""What this site brings to a masked exchange, and what it remembers of the others' ledgers.

Protects against: a peer that put back an old copy of its ledger, or runs twice: its count of rows went down, or stayed and its last row changed.
Does not protect against: a peer that lies about its ledger from the beginning; a peer seen here for the first time.
"""

import json
from collections.abc import Mapping
from datetime import datetime

from client.identity import load_key, pinned_roster
from client.site import Site
from common.errors import ProtocolError, RosterRefused
from common.secure.masked.messages import LedgerHead
from common.secure.masked.site import Credentials

_HEADS = "peers/ledger-heads"


def credentials(site: Site, *, now: datetime) -> Credentials:
    """Raises StorageError without keys, RosterRefused without a roster: such a site cannot take part in a masked round."""
    roster = pinned_roster(site.folder)
    if roster is None:
        raise RosterRefused(f"site {site.name} has pinned no roster; compare the coordinator's roster by its words and pin it first")
    rows, digest = site.ledger.head
    return Credentials(
        site=site.name,
        key=load_key(site.folder),
        roster=roster,
        now=now,
        min_sites=site.policy.min_sites,
        ledger=LedgerHead(rows, bytes.fromhex(digest)),
        witness=lambda heads: witness(site, heads),
    )


def witness(site: Site, heads: Mapping[str, LedgerHead]) -> None:
    """Keep every peer's newest ledger head, sealed in the vault. Raises ProtocolError when one went back; then nothing is kept."""
    stored = site.vault.get(_HEADS)
    known: dict[str, list[int | str]] = json.loads(stored) if stored else {}
    for peer, head in sorted(heads.items()):
        rows, digest = known.get(peer, [0, ""])
        if head.rows < int(rows) or (head.rows == rows and digest not in ("", head.digest.hex())):
            raise ProtocolError(
                f"the ledger of `{peer}` has {head.rows} rows and had {rows} before, or other ones: a copy was put back or runs twice; "
                "it must be settled at that site before another round"
            )
        known[peer] = [head.rows, head.digest.hex()]
    data = json.dumps(known, sort_keys=True).encode()
    if data != stored:
        site.vault.put(_HEADS, data)
