"""Cards and invitations: what is signed is what is read, and whatever was touched is refused."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import RosterRefused
from common.secure.identity import SigningKey, same_words
from common.secure.introductions import MAX_INTRODUCTION_BYTES, Card, Invitation
from server.deploy import desk
from server.deploy.folder import Settings

KEY = SigningKey.generate()


def pem(curve: ec.EllipticCurve) -> str:
    public = ec.generate_private_key(curve).public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


CARD = Card("ash", KEY.public, pem(ec.SECP384R1()))
DATA = CARD.sign(KEY)


def test_a_card_is_read_as_it_was_signed() -> None:
    assert Card.open(DATA) == CARD


def test_an_invitation_is_read_as_it_was_signed(tmp_path: Path) -> None:
    deployment = desk.found(tmp_path / "desk", Settings(consortium="north", host="wr.example"), now=datetime.now(UTC))
    invitation = Invitation.open(deployment.invitation_file.read_bytes())
    assert (invitation.consortium, invitation.host, invitation.port) == ("north", "wr.example", 8443)
    assert invitation.coordinator == desk.load_key(deployment).public
    assert same_words(invitation.fingerprint.upper().replace("·", ","), invitation.fingerprint)
    assert not same_words(invitation.fingerprint, KEY.public.fingerprint)


@settings(max_examples=150)
@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_no_changed_byte_passes(place: int, change: int) -> None:
    touched = bytearray(DATA)
    touched[place] ^= change
    with pytest.raises(RosterRefused):
        Card.open(bytes(touched))


@given(st.binary(max_size=400))
def test_nothing_else_is_a_card_or_an_invitation(data: bytes) -> None:
    for kind in (Card, Invitation):
        with pytest.raises(RosterRefused):
            kind.open(data)


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("too long", DATA + b" " * MAX_INTRODUCTION_BYTES),
        ("a curve the transport does not take", Card("ash", KEY.public, pem(ec.SECP256R1())).sign(KEY)),
        ("not a key", Card("ash", KEY.public, "-----BEGIN").sign(KEY)),
        ("another one's signature", DATA.replace(b"ash", b"elm")),
        ("a field more", json.dumps({**json.loads(DATA.splitlines()[0]), "x": 1}).encode() + b"\n" + DATA.splitlines()[1] + b"\n"),
        ("signed twice", DATA + DATA.splitlines()[1] + b"\n"),
    ],
)
def test_what_is_no_card(what: str, data: bytes) -> None:
    with pytest.raises(RosterRefused):
        Card.open(data)


def test_nobody_signs_for_another() -> None:
    with pytest.raises(RosterRefused, match="signed with the key that it names"):
        CARD.sign(SigningKey.generate())
