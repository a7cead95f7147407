"""How a site and the coordinator introduce themselves, each with one small signed file: the site's card, the coordinator's invitation.

card         site → coordinator: its long-term key for signatures, and the public key of its node at the transport
invitation   coordinator → site: where to connect, the certificate authority to trust there, the coordinator's long-term key

Both are one line of canonical JSON and one line of signature in hex, like the roster. They hold no secret. What makes them true is the
fingerprint, read to each other over another channel.

Protects against: a file that was damaged, or whose parts were exchanged, on its way; a node key under another site's name.
Does not protect against: a file of a stranger that nobody compared by its words.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, Literal, Self, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import RosterRefused, SealBroken
from common.secure.identity import SIGNATURE_BYTES, PublicKey, SigningKey, fingerprint

MAX_INTRODUCTION_BYTES = 64 * 1024
_Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
_Key = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Pem = Annotated[str, Field(max_length=8192)]


class _Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


F = TypeVar("F", bound=_Form)


class _CardForm(_Form):
    format: Literal["wardround card 1"]
    site: _Name
    key: _Key
    node_key: _Pem


class _InvitationForm(_Form):
    format: Literal["wardround invitation 1"]
    consortium: _Name
    coordinator: _Key
    address: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{1,253}:[0-9]{1,5}$")]
    authority: _Pem


@dataclass(frozen=True, slots=True)
class Card:
    """`node_key` is a PEM public key on NIST P-384, by which the transport knows the site's node."""

    site: str
    key: PublicKey
    node_key: str

    def sign(self, key: SigningKey) -> bytes:
        """The file. Raises RosterRefused when `key` is not the card's."""
        if key.public != self.key:
            raise RosterRefused("a card is signed with the key that it names")
        return _signed(key, "card", _CardForm(format="wardround card 1", site=self.site, key=self.key.hex, node_key=self.node_key))

    @classmethod
    def open(cls, data: bytes) -> Self:
        """Raises RosterRefused: form, bounds, signature, or a node key that the transport does not take."""
        form, statement, signature = _read(data, _CardForm, "card")
        key = PublicKey.from_hex(form.key)
        _verify(key, "card", statement, signature)
        try:
            node = serialization.load_pem_public_key(form.node_key.encode())
        except (ValueError, TypeError):
            node = None
        if not isinstance(node, ec.EllipticCurvePublicKey) or not isinstance(node.curve, ec.SECP384R1):
            raise RosterRefused("the node key of a card is a public key on NIST P-384, in PEM")
        return cls(form.site, key, form.node_key)


@dataclass(frozen=True, slots=True)
class Invitation:
    """`address` is host:port of the coordinator's proxy; `authority` the PEM certificate that its certificate is checked against."""

    consortium: str
    coordinator: PublicKey
    address: str
    authority: str

    @property
    def host(self) -> str:
        return self.address.rpartition(":")[0]

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    @property
    def fingerprint(self) -> str:
        """Twelve words over everything in it."""
        return fingerprint(hashlib.sha256(b"wardround invitation 1\0" + _statement(self._form())).digest())

    def _form(self) -> _InvitationForm:
        return _InvitationForm(
            format="wardround invitation 1",
            consortium=self.consortium,
            coordinator=self.coordinator.hex,
            address=self.address,
            authority=self.authority,
        )

    def sign(self, key: SigningKey) -> bytes:
        if key.public != self.coordinator:
            raise RosterRefused("an invitation is signed with the coordinator's key that it names")
        return _signed(key, "invitation", self._form())

    @classmethod
    def open(cls, data: bytes) -> Self:
        """Raises RosterRefused: form, bounds, signature, or an authority that is no certificate."""
        form, statement, signature = _read(data, _InvitationForm, "invitation")
        coordinator = PublicKey.from_hex(form.coordinator)
        _verify(coordinator, "invitation", statement, signature)
        if not 0 < int(form.address.rpartition(":")[2]) < 65536:
            raise RosterRefused("the address in the invitation has no port between 1 and 65535")
        try:
            x509.load_pem_x509_certificate(form.authority.encode())
        except ValueError:
            raise RosterRefused("the authority in the invitation is no certificate in PEM") from None
        return cls(form.consortium, coordinator, form.address, form.authority)


def _signed(key: SigningKey, purpose: str, form: _Form) -> bytes:
    statement = _statement(form)
    return statement + b"\n" + key.sign(purpose, statement).hex().encode() + b"\n"


def _statement(form: _Form) -> bytes:
    return json.dumps(form.model_dump(), sort_keys=True, separators=(",", ":")).encode()


def _read(data: bytes, form: type[F], what: str) -> tuple[F, bytes, bytes]:
    if len(data) > MAX_INTRODUCTION_BYTES:
        raise RosterRefused(f"a file of {len(data):,} bytes is no {what}; at most {MAX_INTRODUCTION_BYTES:,} are read")
    statement, _, rest = data.partition(b"\n")
    try:
        parsed = form.model_validate(json.loads(statement))
        signature = bytes.fromhex(rest.decode("ascii").removesuffix("\n"))
    except (ValidationError, ValueError, RecursionError):
        raise RosterRefused(f"this is no {what} of this version of Wardround; ask for the file again") from None
    if _statement(parsed) != statement or len(signature) != SIGNATURE_BYTES or rest != signature.hex().encode() + b"\n":
        raise RosterRefused(f"the {what} is not written in its canonical form; ask for the file again")
    return parsed, statement, signature


def _verify(key: PublicKey, purpose: str, statement: bytes, signature: bytes) -> None:
    try:
        key.verify(purpose, statement, signature)
    except SealBroken:
        raise RosterRefused(f"the signature of the {purpose} does not hold; ask for the file again") from None
