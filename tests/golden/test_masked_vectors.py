"""Known answers: the published vectors of every primitive, and the bytes of every message of the masked exchange with fixed keys and entropy.

When one of our own digests changes, the protocol has changed: raise PROTOCOL_VERSION and say so under *Privacy* in the CHANGELOG.
"""

import hashlib

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from common.errors import ProtocolError
from common.secure.masked.bindings import agree
from common.secure.masking import add_mask, derive
from common.secure.shares import combine, split
from tests.helpers.masked import NAMES, Hospitals, counter_entropy, drive, sum_of


def test_the_mask_is_chacha20() -> None:
    """RFC 8439, appendix A.1, test vector 1: key, nonce and counter 0."""
    words = np.zeros(16, np.uint32)
    add_mask(words, bytes(32))
    assert words.astype("<u4").tobytes().hex() == (
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
    )


def test_keys_are_derived_by_hkdf_sha256() -> None:
    """RFC 5869, test case 3: 22 bytes 0b, no salt, no info; the first 32 bytes of its 42."""
    assert derive(b"\x0b" * 22, b"").hex() == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"


def test_keys_are_agreed_by_x25519() -> None:
    """RFC 7748 §5.2: k = u = 9, after one iteration."""
    nine = (9).to_bytes(32, "little")
    assert (
        agree(X25519PrivateKey.from_private_bytes(nine), nine).hex() == "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"
    )


@pytest.mark.parametrize("point", [0, 1, 2**255 - 20], ids=["zero", "one", "minus one"])
def test_a_public_key_of_small_order_is_refused(point: int) -> None:
    with pytest.raises(ProtocolError, match="not a valid one"):
        agree(X25519PrivateKey.from_private_bytes(bytes(range(32))), point.to_bytes(32, "little"))


def test_shares_by_hand() -> None:
    """f(x) = 1234 + 166x + 94x²: its values at 1 … 6, and 1234 from three of them."""
    draws = iter([(166).to_bytes(48, "big"), (94).to_bytes(48, "big")])
    shares = split((1234).to_bytes(32, "big"), 3, range(1, 7), lambda size: next(draws))
    assert shares == [1494, 1942, 2578, 3402, 4414, 5614]
    assert int.from_bytes(combine({2: 1942, 4: 3402, 5: 4414}), "big") == 1234


EXPECTED = {
    "advertise reply": "b9e07ca4787dcfb1",
    "share request": "9f6ba7125664fb14",
    "share reply": "1d25e043b634d9b2",
    "update request": "7321a513bf37b06d",
    "update reply": "26ef2d3d5c018131",
    "survivors request": "c1fe488ee066a73f",
    "survivors reply": "171474ca528c1e8c",
    "unmask request": "ed4512fdad89bb47",
    "unmask reply": "b7c12856043f9c83",
}
"""SHA-256 of what site-1 is sent and answers, the first 16 hex digits; four sites, of which site-3 loses its words."""


def test_every_message_stays_what_it_was() -> None:
    found: dict[str, str] = {}

    def keep(name: str):
        def look(phase: str, site: str, data: bytes) -> bytes | None:
            if site == "site-1" and data:
                found[f"{phase} {name}"] = hashlib.sha256(data).hexdigest()[:16]
            return None if (name, phase, site) == ("reply", "update", "site-3") else data

        return look

    hospitals = Hospitals(NAMES[:4], entropy=lambda site: counter_entropy(site.encode()))
    summed, _ = drive(hospitals, hospitals.coordinator(), request=keep("request"), reply=keep("reply"))
    assert summed.words.tolist() == sum_of(NAMES[:3])
    assert found == EXPECTED
