"""What this site brings to a masked exchange, and what it remembers of the others' ledgers.

Protects against: a peer that put back an old copy of its ledger, or runs twice (`common/privacy/heads.py`).
A coordinator that opens the sum of too few shares of the noise.
Does not protect against: a peer that lies about its ledger from the beginning; a peer seen here for the first time.
"""

import json
from collections.abc import Mapping
from datetime import datetime

from client.hospital.identity import load_key, pinned_roster
from client.hospital.site import Site
from common.config import MINIMUM_SITES, Stage, StudyConfig
from common.errors import RosterRefused
from common.privacy.heads import LedgerHead, heads_from_json, heads_to_json, require_forward
from common.privacy.mechanism import Placement
from common.secure.masked.site import Credentials

_HEADS = "peers/ledger-heads"


def smallest_sum(study: StudyConfig, stage: Stage) -> int:
    """Survivors below which no sum of this stage may be opened. Under placement `sum` the noise was shared out for `min_survivors`; with fewer
    it would not reach the σ that was charged, whatever the coordinator says it needs.
    """
    return study.stage(stage).min_survivors if study.privacy.placement is Placement.SUM else MINIMUM_SITES


def credentials(site: Site, *, now: datetime, at_least: int = MINIMUM_SITES) -> Credentials:
    """`at_least` sites must be in a sum, or as many as the hospital's policy says if that is more. Raises StorageError without keys, RosterRefused without a roster: such a site cannot take part in a masked round."""
    roster = pinned_roster(site.folder)
    if roster is None:
        raise RosterRefused(f"site {site.name} has pinned no roster; compare the coordinator's roster by its words and pin it first")
    rows, digest = site.ledger.head
    return Credentials(
        site=site.name,
        key=load_key(site.folder),
        roster=roster,
        now=now,
        min_sites=max(site.policy.min_sites, at_least),
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
