"""The roster: which sites belong to a consortium and which key speaks for each. Signed by the coordinator, pinned by every site out of band.

    roster = Roster.found("north", coordinator.public, {"site-a": key_a, …}, issued=now, days=365)
    data = roster.sign(coordinator)                           a file for everybody
    roster = open_roster(data)                                its signature, form and bounds hold
    roster.fingerprint                                        twelve words; the sites read them to each other, then pin the roster

A change makes the next version: `add`, `rotate`, `revoke`, `renew`. Each site looks at `changes_since` the version it pinned and pins
the new one by its words. Sites with different rosters have different transcripts, so they cannot even by accident work together.

Protects against: a coordinator that swaps a site's key or adds sites of its own after the pinning; a version that goes back, forgets a
revoked key or brings one back; a roster of another consortium; an expired one.
Does not protect against: sites that pin without comparing the words; sites that the coordinator invented before the first pinning
(the sites must know each other); a member that shares its key.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import RosterRefused, SealBroken
from common.secure.context import MAX_SITES, SITE_NAME
from common.secure.identity import SIGNATURE_BYTES, PublicKey, SigningKey, fingerprint

MAX_ROSTER_BYTES = 4 * 2**20
CLOCK_SKEW = timedelta(minutes=5)
"""A roster issued a moment ago by a clock that runs ahead is still accepted."""


@dataclass(frozen=True, slots=True)
class Member:
    """A site and its key. `voucher` is the former key's signature over this one; None when there was none, or when it was lost."""

    site: str
    key: PublicKey
    voucher: bytes | None = None


@dataclass(frozen=True, slots=True)
class Roster:
    """One version. `members` in alphabetical order; `retired` holds every key that must never be used again, in hex."""

    consortium: str
    version: int
    issued: datetime
    expires: datetime
    coordinator: PublicKey
    members: tuple[Member, ...]
    retired: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [member.site for member in self.members]
        keys = [member.key.hex for member in self.members] + [self.coordinator.hex]
        if not SITE_NAME.fullmatch(self.consortium) or not all(SITE_NAME.fullmatch(name) for name in names):
            raise RosterRefused("names in a roster are made of a-z, 0-9 and -")
        if self.version < 1 or len(names) > MAX_SITES:
            raise RosterRefused(
                f"version {self.version} with {len(names)} sites: versions count from 1, and at most {MAX_SITES:,} sites fit"
            )
        if names != sorted(set(names)):
            raise RosterRefused("the sites of a roster are distinct and in alphabetical order")
        if len(set(keys)) != len(keys):
            raise RosterRefused("a roster gives one key to two of its members; each makes its own")
        if list(self.retired) != sorted(set(self.retired)) or set(keys) & set(self.retired):
            raise RosterRefused("a roster uses a key that it names as retired; make a new key at that site")
        if not self.issued < self.expires:
            raise RosterRefused("a roster expires after it was issued")

    # -- making versions -----------------------------------------------------------------------------------------------

    @classmethod
    def found(cls, consortium: str, coordinator: PublicKey, sites: Mapping[str, PublicKey], *, issued: datetime, days: int) -> "Roster":
        """Version 1."""
        members = tuple(Member(site, key) for site, key in sorted(sites.items()))
        issued = _whole_seconds(issued)
        return cls(consortium, 1, issued, issued + timedelta(days=days), coordinator, members)

    def add(self, site: str, key: PublicKey, *, issued: datetime) -> "Roster":
        """The next version with one more site. Raises RosterRefused when the name is taken."""
        if site in self.sites:
            raise RosterRefused(f"site `{site}` is in the roster already; rotate its key or choose another name")
        return self._next(issued, (*self.members, Member(site, key)))

    def rotate(self, site: str, key: PublicKey, voucher: bytes | None, *, issued: datetime) -> "Roster":
        """The next version with another key for `site`; the former is retired.

        voucher: `vouch(former_key, …)`, made at the site; None when the former key was lost, which `changes_since` says loudly.
        Raises RosterRefused for a voucher that is not the former key's.
        """
        former = self.key_of(site)
        if voucher is not None:
            _require_voucher(self.consortium, site, former, key, voucher)
        members = tuple(Member(site, key, voucher) if member.site == site else member for member in self.members)
        return self._next(issued, members, former)

    def revoke(self, site: str, *, issued: datetime) -> "Roster":
        """The next version without `site`; its key is retired."""
        former = self.key_of(site)
        return self._next(issued, tuple(member for member in self.members if member.site != site), former)

    def renew(self, *, issued: datetime, days: int) -> "Roster":
        """The next version with the same members and another expiry."""
        issued = _whole_seconds(issued)
        return replace(self, version=self.version + 1, issued=issued, expires=issued + timedelta(days=days))

    def _next(self, issued: datetime, members: tuple[Member, ...], retired: PublicKey | None = None) -> "Roster":
        gone = self.retired if retired is None else tuple(sorted({*self.retired, retired.hex}))
        ordered = tuple(sorted(members, key=lambda member: member.site))
        return replace(self, version=self.version + 1, issued=_whole_seconds(issued), members=ordered, retired=gone)

    # -- reading -------------------------------------------------------------------------------------------------------

    @property
    def sites(self) -> tuple[str, ...]:
        return tuple(member.site for member in self.members)

    def key_of(self, site: str) -> PublicKey:
        """Raises RosterRefused for a site that is not a member."""
        for member in self.members:
            if member.site == site:
                return member.key
        raise RosterRefused(
            f"site `{site[:64]}` is not in version {self.version} of the roster; the coordinator must add it and all sites pin anew"
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical statement, in hex: what transcripts bind."""
        return hashlib.sha256(b"wardround roster 1\0" + _statement(self)).hexdigest()

    @property
    def fingerprint(self) -> str:
        """Twelve words to compare out of band before pinning."""
        return fingerprint(bytes.fromhex(self.digest))

    def require_valid(self, now: datetime) -> None:
        """Raises RosterRefused before `issued` and from `expires` on."""
        if now < self.issued - CLOCK_SKEW:
            raise RosterRefused(
                f"version {self.version} of the roster was issued {self.issued:%Y-%m-%d %H:%M} UTC, in the future of this clock; check both clocks"
            )
        if now >= self.expires:
            raise RosterRefused(
                f"version {self.version} of the roster expired {self.expires:%Y-%m-%d %H:%M} UTC; the coordinator must issue the next version"
            )

    def changes_since(self, older: "Roster") -> list[str]:
        """What a person must agree to before this version replaces `older`, one line each.

        Raises RosterRefused when it cannot follow: another consortium or coordinator, no later version, a retired key forgotten.
        """
        if (self.consortium, self.coordinator) != (older.consortium, older.coordinator):
            raise RosterRefused("this roster is of another consortium or signed by another coordinator than the pinned one")
        if self.version <= older.version:
            raise RosterRefused(f"version {self.version} of the roster is not newer than the pinned version {older.version}")
        if not set(older.retired) <= set(self.retired):
            raise RosterRefused(f"version {self.version} of the roster has forgotten a key that was retired before")
        before, after = {m.site: m for m in older.members}, {m.site: m for m in self.members}
        dropped = {m.key.hex for m in older.members} - {m.key.hex for m in self.members}
        if not dropped <= set(self.retired):
            raise RosterRefused(f"version {self.version} of the roster drops a key without retiring it")
        lines = [f"{site} joins with key {after[site].key.fingerprint}" for site in sorted(after.keys() - before.keys())]
        lines += [f"{site} leaves; its key is retired" for site in sorted(before.keys() - after.keys())]
        for site in sorted(before.keys() & after.keys()):
            if before[site].key != after[site].key:
                lines.append(
                    f"{site} has another key, {_vouched(self.consortium, before[site], after[site])}: {after[site].key.fingerprint}"
                )
        if self.expires != older.expires:
            lines.append(f"valid until {self.expires:%Y-%m-%d} instead of {older.expires:%Y-%m-%d}")
        return lines

    def sign(self, coordinator: SigningKey) -> bytes:
        """The file that travels. Raises RosterRefused when the key is not the one the roster names."""
        if coordinator.public != self.coordinator:
            raise RosterRefused("a roster is signed with the coordinator's key that it names")
        statement = _statement(self)
        return statement + b"\n" + coordinator.sign("roster", statement).hex().encode() + b"\n"


def open_roster(data: bytes) -> Roster:
    """The roster in a file, signed by the coordinator it names. Raises RosterRefused: form, bounds, signature.

    Whether that coordinator and these sites are the right ones, no signature can say: compare the fingerprint, then pin it.
    """
    if len(data) > MAX_ROSTER_BYTES:
        raise RosterRefused(f"a roster of {len(data):,} bytes; at most {MAX_ROSTER_BYTES:,} are read")
    statement, _, rest = data.partition(b"\n")
    try:
        form = _Form.model_validate(json.loads(statement))
    except ValidationError as error:
        known = {str(e["loc"][0]) for e in error.errors(include_input=False, include_url=False) if e["loc"]} & set(_Form.model_fields)
        wrong = ", ".join(f"`{name}`" for name in sorted(known)) or "a field that does not belong there"
        raise RosterRefused(
            f"this is no roster of this version of Wardround ({wrong}); ask the coordinator for roster.json again"
        ) from None
    except (ValueError, RecursionError):
        raise RosterRefused("this is no roster: one line of JSON and one of signature; ask the coordinator for roster.json again") from None
    roster = form.roster()
    if _statement(roster) != statement:
        raise RosterRefused("a roster that is not written in its canonical form")
    try:
        signature = bytes.fromhex(rest.decode("ascii").removesuffix("\n"))
        if len(signature) != SIGNATURE_BYTES or rest != signature.hex().encode() + b"\n":
            raise SealBroken
        roster.coordinator.verify("roster", statement, signature)
    except (ValueError, SealBroken):
        raise RosterRefused("the roster's signature is not the coordinator's; ask for the file again and compare its fingerprint") from None
    return roster


def vouch(former: SigningKey, consortium: str, site: str, key: PublicKey) -> bytes:
    """The former key's word for its successor, made at the site when it rotates."""
    return former.sign("rotation", _succession(consortium, site, key))


def _succession(consortium: str, site: str, key: PublicKey) -> bytes:
    return consortium.encode() + b"\0" + site.encode() + b"\0" + key.raw


def _require_voucher(consortium: str, site: str, former: PublicKey, key: PublicKey, voucher: bytes) -> None:
    try:
        former.verify("rotation", _succession(consortium, site, key), voucher)
    except SealBroken:
        raise RosterRefused(
            f"the former key of `{site}` does not vouch for the new one; make the voucher at the site, or rotate without one"
        ) from None


def _vouched(consortium: str, before: Member, after: Member) -> str:
    if after.voucher is not None:
        try:
            _require_voucher(consortium, after.site, before.key, after.key, after.voucher)
        except RosterRefused:
            return "NOT vouched for by the pinned one"
        return "vouched for by the pinned one"
    return "NOT vouched for by the pinned one"


def _whole_seconds(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=0)


# -- the file ----------------------------------------------------------------------------------------------------------


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


_Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
_Moment = Annotated[int, Field(ge=0, le=2**40)]


class _MemberForm(_Part):
    site: _Name
    key: _Hex
    voucher: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")] | None


class _Form(_Part):
    """Field by field what the statement holds; moments are seconds since 1970 in UTC."""

    format: Literal["wardround roster 1"]
    consortium: _Name
    version: Annotated[int, Field(ge=1, le=10**9)]
    issued: _Moment
    expires: _Moment
    coordinator: _Hex
    members: Annotated[list[_MemberForm], Field(max_length=MAX_SITES)]
    retired: Annotated[list[_Hex], Field(max_length=10 * MAX_SITES)]

    def roster(self) -> Roster:
        members = tuple(
            Member(m.site, PublicKey.from_hex(m.key), bytes.fromhex(m.voucher) if m.voucher is not None else None) for m in self.members
        )
        issued, expires = _moment(self.issued), _moment(self.expires)
        coordinator = PublicKey.from_hex(self.coordinator)
        return Roster(self.consortium, self.version, issued, expires, coordinator, members, tuple(self.retired))


def _moment(seconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        raise RosterRefused("a roster with a date that no calendar has") from None


def _statement(roster: Roster) -> bytes:
    tree: dict[str, Any] = {
        "format": "wardround roster 1",
        "consortium": roster.consortium,
        "version": roster.version,
        "issued": int(roster.issued.timestamp()),
        "expires": int(roster.expires.timestamp()),
        "coordinator": roster.coordinator.hex,
        "members": [
            {"site": m.site, "key": m.key.hex, "voucher": m.voucher.hex() if m.voucher is not None else None} for m in roster.members
        ],
        "retired": list(roster.retired),
    }
    return json.dumps(tree, sort_keys=True, separators=(",", ":")).encode()
