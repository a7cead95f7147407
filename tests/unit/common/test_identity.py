"""Keys, their words, and the roster: what a site pins, how it changes, what is refused by name."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from common.errors import RosterRefused, SealBroken
from common.secure.identity import PublicKey, SigningKey, fingerprint
from common.secure.roster import MAX_ROSTER_BYTES, Roster, open_roster, vouch
from common.secure.words import WORDS, in_words

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
COORDINATOR = SigningKey.from_bytes(bytes([1]) * 32)
KEYS = {name: SigningKey.from_bytes(bytes([i]) * 32) for i, name in enumerate(("ash", "birch", "cedar"), 2)}
NEW_KEY = SigningKey.from_bytes(bytes([9]) * 32)


def roster() -> Roster:
    return Roster.found("north", COORDINATOR.public, {name: key.public for name, key in KEYS.items()}, issued=NOW, days=30)


# -- keys --------------------------------------------------------------------------------------------------------------


def test_a_signature_holds_for_its_purpose_message_and_key_alone() -> None:
    key = KEYS["ash"]
    signature = key.sign("advertise", b"message")
    key.public.verify("advertise", b"message", signature)
    for other, purpose, message, signed in (
        (KEYS["birch"], "advertise", b"message", signature),
        (key, "survivors", b"message", signature),
        (key, "advertise", b"messagf", signature),
        (key, "advertise", b"message", signature[:-1] + bytes([signature[-1] ^ 1])),
        (key, "advertise", b"message", b""),
    ):
        with pytest.raises(SealBroken):
            other.public.verify(purpose, message, signed)


def test_a_private_key_prints_nothing_of_itself_and_comes_back_from_its_bytes() -> None:
    key = SigningKey.generate()
    assert key.to_bytes().hex() not in repr(key) + str(key)
    assert SigningKey.from_bytes(key.to_bytes()).public == key.public
    with pytest.raises(SealBroken):
        SigningKey.from_bytes(b"short")
    with pytest.raises(ValueError, match="the purpose of a signature"):
        key.sign("advertise\0", b"")


def test_ed25519_is_the_published_one() -> None:
    """RFC 8032 §7.1, test 1: the public key of that secret. What we sign holds the purpose, so the signature is our own."""
    key = SigningKey.from_bytes(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert key.public.hex == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"


@pytest.mark.parametrize("text", ["", "00", "G" * 64, "A" * 64, "0" * 63, "0" * 66])
def test_a_public_key_has_one_spelling(text: str) -> None:
    with pytest.raises(RosterRefused, match="64 hex digits"):
        PublicKey.from_hex(text)


# -- words -------------------------------------------------------------------------------------------------------------


def test_the_words_are_256_and_no_two_differ_by_one_letter() -> None:
    assert len(WORDS) == len(set(WORDS)) == 256

    def blanked(word: str) -> set[str]:
        return {word[:i] + "?" + word[i + 1 :] for i in range(len(word))}

    def shortened(word: str) -> set[str]:
        return {word[:i] + word[i + 1 :] for i in range(len(word))}

    for i, a in enumerate(WORDS):
        for b in WORDS[:i]:
            assert not blanked(a) & blanked(b), f"{a} and {b} differ by one letter"
            assert a not in shortened(b), f"{a} is {b} without a letter"
            assert b not in shortened(a), f"{b} is {a} without a letter"


def test_a_fingerprint_is_twelve_words_of_96_bits() -> None:
    words = fingerprint(bytes(range(32))).replace(" · ", " ").split()
    assert words == list(WORDS[:12])
    assert in_words(b"\0\1\2\3\4") == "acorn actor album amber · anchor"


# -- the roster --------------------------------------------------------------------------------------------------------


def test_a_roster_comes_back_from_its_file_with_the_same_words() -> None:
    voucher = vouch(KEYS["ash"], "north", "ash", NEW_KEY.public)
    for version in (roster(), roster().rotate("ash", NEW_KEY.public, voucher, issued=NOW)):
        read = open_roster(version.sign(COORDINATOR))
        assert read == version
        assert (read.digest, read.fingerprint) == (version.digest, version.fingerprint)
    assert len({roster().fingerprint, roster().renew(issued=NOW, days=31).fingerprint, roster().revoke("ash", issued=NOW).fingerprint}) == 3


def test_versions_follow_each_other_and_say_what_changed() -> None:
    first, later = roster(), NOW + timedelta(days=1)
    second = first.add("doum", NEW_KEY.public, issued=later)
    assert second.changes_since(first) == [f"doum joins with key {NEW_KEY.public.fingerprint}"]
    third = second.revoke("birch", issued=later)
    assert third.changes_since(second) == ["birch leaves; its key is retired"]
    assert third.changes_since(first) == [f"doum joins with key {NEW_KEY.public.fingerprint}", "birch leaves; its key is retired"]
    assert third.renew(issued=later, days=60).changes_since(third) == ["valid until 2027-01-22 instead of 2026-12-22"]
    assert (third.version, third.sites, third.retired) == (3, ("ash", "cedar", "doum"), (KEYS["birch"].public.hex,))


def test_a_rotation_says_whether_the_former_key_vouches_for_the_new_one() -> None:
    first = roster()
    vouched = first.rotate("ash", NEW_KEY.public, vouch(KEYS["ash"], "north", "ash", NEW_KEY.public), issued=NOW)
    lost = first.rotate("ash", NEW_KEY.public, None, issued=NOW)
    assert vouched.changes_since(first) == [f"ash has another key, vouched for by the pinned one: {NEW_KEY.public.fingerprint}"]
    assert lost.changes_since(first) == [f"ash has another key, NOT vouched for by the pinned one: {NEW_KEY.public.fingerprint}"]
    assert lost.retired == vouched.retired == (KEYS["ash"].public.hex,)
    with pytest.raises(RosterRefused, match="does not vouch"):
        first.rotate("ash", NEW_KEY.public, vouch(KEYS["birch"], "north", "ash", NEW_KEY.public), issued=NOW)


def other_coordinator(first: Roster) -> Roster:
    return Roster.found("north", NEW_KEY.public, {n: k.public for n, k in KEYS.items()}, issued=NOW, days=30).renew(issued=NOW, days=9)


def forgetful(first: Roster) -> Roster:
    return first.add("doum", NEW_KEY.public, issued=NOW).renew(issued=NOW, days=9)


@pytest.mark.parametrize(
    ("pinned", "shown", "match"),
    [
        (roster, roster, "not newer than the pinned version 1"),
        (lambda: roster().renew(issued=NOW, days=9), roster, "version 1 of the roster is not newer than the pinned version 2"),
        (roster, lambda: other_coordinator(roster()), "another consortium or signed by another coordinator"),
        (lambda: roster().revoke("ash", issued=NOW), lambda: forgetful(roster()), "forgotten a key that was retired"),
        (
            roster,
            lambda: Roster("north", 2, NOW, NOW + timedelta(days=1), COORDINATOR.public, roster().members[1:]),
            "drops a key without retiring it",
        ),
    ],
    ids=["the same", "an older one", "another coordinator", "a revoked key forgotten", "a key dropped in silence"],
)
def test_a_version_that_cannot_follow_is_refused(pinned: Callable[[], Roster], shown: Callable[[], Roster], match: str) -> None:
    with pytest.raises(RosterRefused, match=match):
        shown().changes_since(pinned())


def test_a_retired_key_never_comes_back() -> None:
    revoked = roster().revoke("ash", issued=NOW)
    with pytest.raises(RosterRefused, match="names as retired"):
        revoked.add("ash", KEYS["ash"].public, issued=NOW)
    with pytest.raises(RosterRefused, match="one key to two of its members"):
        roster().add("doum", KEYS["ash"].public, issued=NOW)
    with pytest.raises(RosterRefused, match="`ash` is in the roster already"):
        roster().add("ash", NEW_KEY.public, issued=NOW)
    with pytest.raises(RosterRefused, match="`doum` is not in version 1"):
        roster().revoke("doum", issued=NOW)


def test_a_roster_is_valid_from_issue_to_expiry() -> None:
    roster().require_valid(NOW - timedelta(minutes=4))
    roster().require_valid(NOW + timedelta(days=29, hours=23))
    with pytest.raises(RosterRefused, match="expired 2026-12-22"):
        roster().require_valid(NOW + timedelta(days=30))
    with pytest.raises(RosterRefused, match="in the future of this clock"):
        roster().require_valid(NOW - timedelta(minutes=6))


FILE = roster().sign(COORDINATOR)
STATEMENT, SIGNATURE = FILE.split(b"\n")[:2]


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "one line of JSON"),
        (b"\xff" + FILE, "one line of JSON"),
        (b"[" * 100_000, "one line of JSON"),
        (FILE.replace(b'"version":1', b'"version":2'), "signature is not the coordinator's"),
        (FILE.replace(KEYS["ash"].public.hex.encode(), NEW_KEY.public.hex.encode()), "signature is not the coordinator's"),
        (STATEMENT + b"\n", "signature is not the coordinator's"),
        (FILE + b"\n", "signature is not the coordinator's"),
        (STATEMENT + b"\n" + SIGNATURE.upper() + b"\n", "signature is not the coordinator's"),
        (FILE.replace(b'"version":1', b'"version": 1'), "canonical form"),
        (FILE.replace(b'"version":1', b'"version":1,"x":1'), "a field that does not belong there"),
        (FILE.replace(b'"version":1', b'"version":"1"'), "version"),
        (FILE.replace(b'"issued":1', b'"issued":9'), "expires after it was issued"),
        (FILE.replace(b'"site":"ash"', b'"site":"Ash"'), "members"),
        (FILE.replace(b'"site":"ash"', b'"site":"doum"'), "alphabetical order"),
        (b" " * (MAX_ROSTER_BYTES + 1), "at most 4,194,304 are read"),
    ],
    ids=[
        "nothing", "not text", "deep", "another version", "a swapped key", "no signature", "something after it", "another spelling",
        "not canonical", "an unknown field", "another type", "expired before issued", "a bad name", "out of order", "too large",
    ],
)  # fmt: skip
def test_a_file_that_is_not_what_was_signed_is_refused(data: bytes, match: str) -> None:
    with pytest.raises(RosterRefused, match=match):
        open_roster(data)


def test_only_the_coordinator_named_in_it_signs_a_roster() -> None:
    with pytest.raises(RosterRefused, match="coordinator's key that it names"):
        roster().sign(NEW_KEY)
