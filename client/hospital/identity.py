"""The site's long-term keys, and the roster that it pinned.

SITE/keys/identity.key   32 bytes of Ed25519; signs what this site says to the other sites
SITE/keys/node.key       NIST P-384 in OpenSSH's form; the transport knows this site's node by it
SITE/roster.json         the pinned version, as the coordinator signed it

Protects against: a key that other users of the machine can read; a roster that nobody agreed to, an older version, or another consortium's.
Does not protect against: whoever copies the keys with the folder. A lost or stolen key is rotated (`rotate`), and all sites pin anew.
"""

from datetime import datetime
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from common.errors import RosterRefused, SealBroken, StorageError
from common.secure.identity import KEY_BYTES, SigningKey
from common.secure.introductions import Card
from common.secure.roster import Roster, open_roster, vouch
from common.storage import storage_errors, write_atomic

_MEND = "restore it from its backup, or make new keys with `wardround-site rotate`"
KEYS, IDENTITY_KEY, NODE_KEY, ROSTER_FILE = "keys", "identity.key", "node.key", "roster.json"


def make_keys(folder: Path) -> SigningKey:
    """Both keys of a new site. Raises StorageError when one is there: a key is never overwritten."""
    keys = folder / KEYS
    if (keys / IDENTITY_KEY).exists() or (keys / NODE_KEY).exists():
        raise StorageError(f"{keys}: this site has its keys already; `wardround-site rotate` makes new ones")
    with storage_errors(keys, "create the folder"):
        keys.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = SigningKey.generate()
    _write_node_key(keys)
    write_atomic(keys / IDENTITY_KEY, key.to_bytes())
    return key


def load_key(folder: Path) -> SigningKey:
    """The site's signing key. Raises StorageError naming the file when it is missing or damaged, or when others may read it."""
    path = folder / KEYS / IDENTITY_KEY
    try:
        return SigningKey.from_bytes(_read_private(path))
    except SealBroken:
        raise StorageError(f"{path}: holds no key of {KEY_BYTES} bytes; {_MEND}") from None


def node_key_file(folder: Path) -> Path:
    """The node's key, for the SuperNode. Raises StorageError like `load_key`."""
    _load_node_key(folder)
    return folder / KEYS / NODE_KEY


def _load_node_key(folder: Path) -> ec.EllipticCurvePrivateKey:
    path = folder / KEYS / NODE_KEY
    try:
        key = serialization.load_ssh_private_key(_read_private(path), None)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise StorageError(f"{path}: holds no key of a node; {_MEND}")
    return key


def make_card(folder: Path, site: str) -> bytes:
    """What the site sends to the coordinator's desk: no secret in it."""
    key = load_key(folder)
    public = _load_node_key(folder).public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return Card(site, key.public, public.decode()).sign(key)


def rotate(folder: Path, site: str) -> tuple[SigningKey, bytes | None]:
    """New keys in the place of the old ones; returns the new key and the old one's voucher for it, None when no roster is pinned yet or the
    old key is lost.

    Until the coordinator's next roster is pinned everywhere this site cannot take part.
    """
    pinned = pinned_roster(folder)
    try:
        former = load_key(folder)
    except StorageError:
        former = None
    key = SigningKey.generate()
    voucher = vouch(former, pinned.consortium, site, key.public) if former is not None and pinned is not None else None
    with storage_errors(folder / KEYS, "create the folder"):
        (folder / KEYS).mkdir(parents=True, exist_ok=True, mode=0o700)
    _write_node_key(folder / KEYS)
    write_atomic(folder / KEYS / IDENTITY_KEY, key.to_bytes())
    return key, voucher


def pinned_roster(folder: Path) -> Roster | None:
    """The roster this site pinned, or None. Raises RosterRefused when the file was changed since. Whether it is still valid is for the caller."""
    try:
        return open_roster((folder / ROSTER_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{folder / ROSTER_FILE}: cannot be read ({error.strerror})") from None


def review_roster(folder: Path, site: str, data: bytes, *, now: datetime) -> tuple[Roster, list[str]]:
    """The roster in `data` and what a person must agree to before it is pinned, one line each.

    Raises RosterRefused: not signed, expired, without this site or with another key of it, older than the pinned one, another consortium's.
    """
    roster, pinned = open_roster(data), pinned_roster(folder)
    roster.require_valid(now)
    if roster.key_of(site) != load_key(folder).public:
        raise RosterRefused(f"the roster gives site `{site}` another key than this site holds; send the coordinator this site's card again")
    if pinned is None:
        lines = [f"{member.site} with key {member.key.fingerprint}" for member in roster.members]
        return roster, [f"the first roster of consortium {roster.consortium}, version {roster.version}", *lines]
    if roster == pinned:
        return roster, []
    return roster, roster.changes_since(pinned)


def pin_roster(folder: Path, site: str, data: bytes, *, now: datetime) -> Roster:
    """Keep `data` as this site's roster, after a person compared its words. Raises like `review_roster`."""
    roster, _ = review_roster(folder, site, data, now=now)
    write_atomic(folder / ROSTER_FILE, data, mode=0o644)
    return roster


def _write_node_key(keys: Path) -> None:
    private = ec.generate_private_key(ec.SECP384R1())
    write_atomic(
        keys / NODE_KEY,
        private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()),
    )


def _read_private(path: Path) -> bytes:
    try:
        if path.stat().st_mode & 0o077:
            raise StorageError(f"{path}: other users of this machine may read it; run: chmod 600 {path}")
        return path.read_bytes()
    except FileNotFoundError:
        raise StorageError(f"{path}: this site has no such key; {_MEND}") from None
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})") from None
