"""The gate's token: what it saw of a data set, signed by the site's vault and checked again at every load.

Protects against: training on notes that did not pass the gate, that changed since, that belong to another site, or that passed under
looser rules or too long ago.
Does not protect against: whoever holds the vault's key, who can sign anything; a fault of the gate itself.
"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.errors import GateRefused
from common.storage import write_atomic

GATE_VERSION = 2
GATE_FILE = "gate.json"
_SIGNING_KEY = "gate-signing-key"


class Cabinet(Protocol):
    """Where the signing key lies sealed: the vault."""

    def get(self, name: str) -> bytes | None: ...
    def put(self, name: str, value: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class GateToken:
    """What the gate saw and signed. Times are ISO 8601 in UTC; `digest` is the vault's, in hex, `preferences_digest` that of the preferences.

    leaking             notes that were released and then held back by this or an earlier gate, for an identifier in them
    planted, survived   invented identifiers that were planted, and those that came out
    leak_upper_bound    of the share of leaking notes, one-sided 95 %
    reviewed            notes that people read, drawn at random; review_leaking: those in which they saw an identifier
    review_upper_bound  as above, of that review; 1 without one
    """

    gate_version: int
    site: str
    digest: str
    preferences_digest: str
    notes: int
    preferences: int
    quarantined: int
    leaking: int
    planted: int
    survived: int
    leak_upper_bound: float
    reviewed: int
    review_leaking: int
    review_upper_bound: float
    max_leak_upper_bound: float
    max_review_upper_bound: float
    max_quarantined: float
    simulated: bool
    issued: str
    expires: str

    def signed_bytes(self) -> bytes:
        return b"wardround gate\0" + json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()


def sign_token(folder: Path, cabinet: Cabinet, token: GateToken) -> None:
    """Write the token into the site's folder, signed with Ed25519. The key is made at the first signature and never leaves the vault."""
    key = cabinet.get(_SIGNING_KEY)
    if key is None:
        key = Ed25519PrivateKey.generate().private_bytes_raw()
        cabinet.put(_SIGNING_KEY, key)
    signature = Ed25519PrivateKey.from_private_bytes(key).sign(token.signed_bytes())
    write_atomic(folder / GATE_FILE, json.dumps({"token": asdict(token), "signature": signature.hex()}, indent=1) + "\n")


def read_token(
    folder: Path,
    cabinet: Cabinet,
    *,
    site: str,
    digest: bytes,
    max_leak_upper_bound: float,
    max_review_upper_bound: float,
    max_quarantined: float,
    now: datetime | None = None,
) -> GateToken:
    """The token in `folder`, if it is this site's, covers the notes or preferences with this digest, and meets these thresholds now.

    Raises GateRefused otherwise.
    """
    remedy = "run `wardround-site deidentify` to hold the gate again"
    path = folder / GATE_FILE
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        token, signature = GateToken(**stored["token"]), bytes.fromhex(stored["signature"])
    except FileNotFoundError:
        raise GateRefused(f"site {site}: the notes have not passed the gate; {remedy}") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise GateRefused(f"{path}: the gate's token cannot be read; {remedy}") from None
    key = cabinet.get(_SIGNING_KEY)
    try:
        if key is None:
            raise InvalidSignature
        Ed25519PrivateKey.from_private_bytes(key).public_key().verify(signature, token.signed_bytes())
    except InvalidSignature:
        raise GateRefused(f"{path}: the gate's token was not signed by this site's vault; {remedy}") from None
    if token.site != site:
        raise GateRefused(f"the gate's token is of site {token.site}, not {site}; {remedy}")
    if token.gate_version != GATE_VERSION:
        raise GateRefused(f"the gate's token is of version {token.gate_version}, and this is version {GATE_VERSION}; {remedy}")
    if (now or datetime.now(UTC)) >= datetime.fromisoformat(token.expires):
        raise GateRefused(f"the gate's token expired on {token.expires}; {remedy}")
    if token.leak_upper_bound > max_leak_upper_bound:
        raise GateRefused(
            f"the notes passed with a bound of {token.leak_upper_bound:.4f} on leaks, and the policy now asks for {max_leak_upper_bound:g}; {remedy}"
        )
    if token.review_upper_bound > max_review_upper_bound:
        raise GateRefused(
            f"people's review bounds the leaking share by {token.review_upper_bound:.4f}, and the policy asks for {max_review_upper_bound:g}; "
            "run `wardround-site review`"
        )
    if token.quarantined > max_quarantined * (token.notes + token.quarantined):
        raise GateRefused(f"the notes passed with {token.quarantined} held back, more than the policy now allows; {remedy}")
    if digest.hex() not in (token.digest, token.preferences_digest):
        raise GateRefused(f"the notes or preferences of site {site} have changed since they passed the gate; {remedy}")
    return token
