"""The last committed update of each line, kept to be handed over again byte for byte: FOLDER/outbox/LINE.ROUND.update.

Noised words and their digest, nothing else. Only under placement `site`, where an update carries the site's whole noise.

Protects against: a coordinator that asks again to average the noise away (the same bytes come), a reply that was lost on its way.
Does not protect against: other inputs for the same round; they are another step, and charged.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from client.train.round_work import NoisyUpdate, RoundWork, TrainingSite
from common.privacy.ledger import Reservation, State
from common.privacy.mechanism import Placement
from common.secure.fixedpoint import grid_step
from common.storage import storage_errors, write_atomic


def _outbox(work: RoundWork, site: TrainingSite) -> Path:
    return site.folder / "outbox" / f"{work.line}.{work.round}.update"


def forget_older_updates(work: RoundWork, site: TrainingSite) -> None:
    """Only after the commit: until then the round before may be asked for again."""
    path = _outbox(work, site)
    with storage_errors(path.parent, "tidy the outbox"):
        for other in path.parent.glob(f"{work.line}.*.update"):
            if other != path:
                other.unlink(missing_ok=True)


def store_update(work: RoundWork, site: TrainingSite, inputs: str, update: NoisyUpdate, reservations: Sequence[Reservation]) -> None:
    path = _outbox(work, site)
    with storage_errors(path.parent, "create the outbox"):
        path.parent.mkdir(mode=0o700, exist_ok=True)
    words = update.words.astype("<i4").tobytes()
    header = {
        "inputs": inputs,
        "rows": [r.index for r in reservations],
        "sha256": hashlib.sha256(words).hexdigest(),
        "simulated": update.simulated,
    }
    write_atomic(path, json.dumps(header).encode() + b"\n" + words)


def stored_update(work: RoundWork, site: TrainingSite, inputs: str) -> NoisyUpdate | None:
    """The committed update of this very round, if it was made from the same inputs. A damaged file counts as none: the step is charged anew."""
    path = _outbox(work, site)
    if not work.study.private or work.study.privacy.placement is not Placement.SITE or not path.exists():
        return None
    with storage_errors(path, "read the stored update"):
        first, _, words = path.read_bytes().partition(b"\n")
    try:
        header: dict[str, Any] = json.loads(first)
        sound = header["inputs"] == inputs and header["sha256"] == hashlib.sha256(words).hexdigest()
    except (ValueError, KeyError, TypeError):
        return None
    states = {charge.index: charge.state for charge in site.ledger.charges()}
    if not sound or any(states.get(row) is not State.COMMITTED for row in header["rows"]):
        return None
    return NoisyUpdate(
        np.frombuffer(words, "<i4").astype(np.int32),
        grid_step(work.study.privacy.clip_norm),
        work.expected_units,
        True,
        header["simulated"],
    )
