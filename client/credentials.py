"""What this site brings to a masked exchange, and what it remembers of the others' ledgers.

Protects against: a peer that put back an old copy of its ledger, or runs twice (`common/privacy/heads.py`).
Does not protect against: a peer that lies about its ledger from the beginning; a peer seen here for the first time.
"""

import json
from collections.abc import Mapping
from datetime import datetime

from client.identity import load_key, pinned_roster
from client.site import Site
from common.errors import RosterRefused
from common.privacy.heads import LedgerHead, heads_from_json, heads_to_json, require_forward
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
    known = require_forward(heads_from_json(json.loads(stored)) if stored else {}, heads)
    data = json.dumps(heads_to_json(known), sort_keys=True).encode()
    if data != stored:
        site.vault.put(_HEADS, data)
