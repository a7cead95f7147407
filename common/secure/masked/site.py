"""The hospital's side of the masked exchange: five answers, each only after what it stands on was checked.

Each check has a method of its own, so that the tests can take one away and show the attack it prevents.

Protects against: keys that are not the roster's; sets that are too small, foreign or not the agreed one; boxes, lists and signatures of
another attempt; a second list in an attempt; both kinds of share of one site; another list for an update that was summed before; fewer
sites than the hospital's own floor; a peer whose ledger went back.
Does not protect against: t sites that sign whatever they are shown; a floor that the hospital set too low for the sites it trusts.
"""

import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from common.errors import ProtocolError, RosterRefused, SealBroken
from common.privacy.heads import LedgerHead
from common.secure.context import RoundContext
from common.secure.fixedpoint import Words, from_words, require_within, words_to_bytes
from common.secure.identity import SigningKey
from common.secure.masked import bindings
from common.secure.masked.messages import (
    MAX_GROUP,
    Advertise,
    Masked,
    Sealed,
    Shares,
    Unmask,
    boxes_from_bytes,
    keys_from_bytes,
    signed_to_bytes,
    signers_from_bytes,
    survivors_from_bytes,
)
from common.secure.masked.state import Opened, SiteState
from common.secure.masking import add_mask, subtract_mask
from common.secure.roster import Roster
from common.secure.shares import SECRET_BYTES, Entropy, split

ADVERTISE, SHARE, UPDATE, SURVIVORS, UNMASK = PHASES = ("advertise", "share", "update", "survivors", "unmask")
MINIMUM_SITES = 3


def _no_witness(_: Mapping[str, LedgerHead]) -> None:
    """Keeps no memory of the peers' ledgers."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a site brings along: who it is, the roster it pinned, its own floor, what its ledger looks like.

    min_sites   no sum over fewer sites than this is joined, whatever the study says
    witness     is shown every peer's ledger head; raises ProtocolError for one that went back
    """

    site: str
    key: SigningKey
    roster: Roster
    now: datetime
    min_sites: int = MINIMUM_SITES
    ledger: LedgerHead = field(default_factory=lambda: LedgerHead(0, bytes(32)))
    witness: Callable[[Mapping[str, LedgerHead]], None] = _no_witness


class MaskedSite:
    """One site. Holds no state of a round: that comes in and goes out as bytes."""

    name, hides_updates = "masked", True

    def __init__(self, credentials: Credentials, entropy: Entropy = secrets.token_bytes) -> None:
        self._me, self._entropy = credentials, entropy

    def reply(self, context: RoundContext, phase: str, request: bytes, state: bytes, words: Callable[[], Words]) -> tuple[bytes, bytes]:
        """Raises ProtocolError, RosterRefused or SealBroken for what does not belong; nothing was trained or kept then."""
        if phase not in PHASES:
            raise ProtocolError("the masked exchange has the phases " + ", ".join(PHASES))
        self.require_context(context)
        before = SiteState.from_bytes(state)
        self.require_turn(context, phase, before)
        round_ = _Round(context, context.sites.index(self._me.site))
        match phase:
            case "advertise":
                after, answer = self._advertise(round_, request, before)
            case "share":
                after, answer = self._share(round_, request, before)
            case "update":
                after, answer = self._update(round_, request, before, words)
            case "survivors":
                after, answer = self._survivors(round_, request, before)
            case _:
                after, answer = self._unmask(round_, request, before)
        return replace(after, phase=phase, transcript=context.transcript().hex()).to_bytes(), answer

    # -- the five answers ----------------------------------------------------------------------------------------------

    def _advertise(self, round_: "_Round", request: bytes, before: SiteState) -> tuple[SiteState, bytes]:
        if request:
            raise ProtocolError("the first phase of the masked exchange asks with nothing")
        # Fresh for every attempt: what the last one disclosed of this site opens nothing in this one.
        box_key, mask_key, seed = (self._entropy(SECRET_BYTES) for _ in range(3))
        unsigned = Advertise(_public(box_key), _public(mask_key), self._me.ledger, b"")
        message = bindings.advertised(round_.context.transcript(), round_.number, unsigned.signed)
        advertise = replace(unsigned, signature=self._me.key.sign("advertise", message)).to_bytes()
        kept = SiteState(box_key=box_key.hex(), mask_key=mask_key.hex(), seed=seed.hex(), advertise=advertise.hex(), opened=before.opened)
        return kept, advertise

    def _share(self, round_: "_Round", request: bytes, before: SiteState) -> tuple[SiteState, bytes]:
        keys = keys_from_bytes(request)
        self.require_keys(round_, keys, before)
        self._me.witness({round_.context.sites[number]: keys[number].ledger for number in keys})
        transcript = bindings.keys_transcript(round_.context.transcript(), request)
        seed, mask_key, box_key = bytes.fromhex(before.seed), bytes.fromhex(before.mask_key), _private(before.box_key)
        points = [number + 1 for number in keys]
        of_seed = split(seed, round_.threshold, points, self._entropy)
        of_key = split(mask_key, round_.threshold, points, self._entropy)
        sealed = {
            number: bindings.seal_shares(box_key, peer.box_key, transcript, round_.number, number, of_seed[i], of_key[i])
            for i, (number, peer) in enumerate(keys.items())
        }
        unsigned = Shares(bindings.seed_commitment(transcript, round_.number, seed), sealed, b"")
        signature = self._me.key.sign("share", bindings.shared(transcript, round_.number, unsigned.signed))
        return replace(before, keys=request.hex()), replace(unsigned, signature=signature).to_bytes()

    def _update(self, round_: "_Round", request: bytes, before: SiteState, words: Callable[[], Words]) -> tuple[SiteState, bytes]:
        boxes, keys = boxes_from_bytes(request), keys_from_bytes(bytes.fromhex(before.keys))
        self.require_set(round_, boxes, keys)
        transcript, box_key = round_.keys(before), _private(before.box_key)
        shares = {
            sender: bindings.open_shares(box_key, keys[sender].box_key, transcript, sender, round_.number, sealed)
            for sender, sealed in boxes.items()
        }
        update = words()
        require_within(from_words(update), len(round_.context.sites))
        masked = self._masked(round_, before, update, {number: keys[number].mask_key for number in boxes})
        message = bindings.masked(bindings.set_transcript(transcript, boxes), round_.number, masked)
        # Keys and seed are gone from here on: only the peers can take this mask off, t of them together.
        kept = replace(before, box_key="", mask_key="", seed="", shares=shares, words=hashlib.sha256(update.data).hexdigest())
        return kept, Masked(masked, self._me.key.sign("update", message)).to_bytes()

    def _masked(self, round_: "_Round", before: SiteState, update: Words, mask_keys: Mapping[int, bytes]) -> bytes:
        """y_u = x_u + PRG(b_u) + Σ_{v > u} PRG(k_uv) − Σ_{v < u} PRG(k_uv) mod 2³²   (Bonawitz et al. 2017, round 2)"""
        masked, transcript, mask_key = update.copy(), round_.keys(before), _private(before.mask_key)
        add_mask(masked, bindings.self_mask_key(bytes.fromhex(before.seed), transcript, round_.number))
        for number, public in mask_keys.items():
            if number != round_.number:
                apply = add_mask if number > round_.number else subtract_mask
                apply(masked, bindings.pair_mask_key(mask_key, public, transcript, round_.number, number))
        return words_to_bytes(masked)

    def _survivors(self, round_: "_Round", request: bytes, before: SiteState) -> tuple[SiteState, bytes]:
        survivors = survivors_from_bytes(request)
        self.require_survivors(round_, survivors, before)
        self.require_same_sum(round_, survivors, before)
        signature = self._me.key.sign("survivors", round_.agreed(before, survivors))
        return replace(before, survivors=survivors), signed_to_bytes(signature)

    def _unmask(self, round_: "_Round", request: bytes, before: SiteState) -> tuple[SiteState, bytes]:
        signers = signers_from_bytes(request)
        agreed = round_.agreed(before, before.survivors)
        self.require_signers(round_, signers, before.survivors, agreed)
        unsigned = Unmask(self.one_kind_each(before, before.survivors), b"")
        signature = self._me.key.sign("unmask", bindings.unmasked(agreed, round_.number, unsigned.signed))
        names = tuple(round_.context.sites[number] for number in before.survivors)
        kept = SiteState(opened=Opened(round_.context.line, round_.context.round, before.words, names))
        return kept, replace(unsigned, signature=signature).to_bytes()

    # -- what each stands on -------------------------------------------------------------------------------------------

    def require_context(self, context: RoundContext) -> None:
        """The round is over the roster this site pinned, which is valid, and over enough of its sites."""
        me = self._me
        if context.exchange != self.name or me.site not in context.sites:
            raise ProtocolError(f"this attempt is not a masked one that site `{me.site}` takes part in")
        if context.roster != me.roster.digest:
            raise RosterRefused(
                f"the round stands on another roster than version {me.roster.version}, which is pinned here; compare the fingerprints and pin the right one"
            )
        me.roster.require_valid(me.now)
        if me.roster.key_of(me.site) != me.key.public:
            raise RosterRefused(f"the roster gives `{me.site}` another key than this site holds; the coordinator must rotate it")
        for site in context.sites:
            me.roster.key_of(site)
        floor = max(me.min_sites, MINIMUM_SITES)
        if not floor <= len(context.sites) <= MAX_GROUP:
            raise ProtocolError(f"{len(context.sites)} sites would be summed; this site joins sums of {floor} to {MAX_GROUP}")

    def require_turn(self, context: RoundContext, phase: str, before: SiteState) -> None:
        """Every phase once, in order. A repeat is a new attempt with fresh keys, so what was disclosed before opens nothing."""
        place = PHASES.index(phase)
        here = before.transcript == context.transcript().hex()
        if (place == 0 and here) or (place > 0 and not (here and before.phase == PHASES[place - 1])):
            raise ProtocolError(f"phase `{phase}` does not follow what this site answered last; a repeat needs a new attempt")

    def require_keys(self, round_: "_Round", keys: Mapping[int, Advertise], before: SiteState) -> None:
        """t sites of the cohort at least, this one with its own message, every key signed by its site for this very attempt."""
        self.require_enough(round_, keys, "advertised keys")
        own = keys.get(round_.number)
        if own is None or own.to_bytes() != bytes.fromhex(before.advertise):
            raise ProtocolError("the list of keys does not hold the ones this site advertised")
        public = [key for peer in keys.values() for key in (peer.box_key, peer.mask_key)]
        if len(set(public)) != len(public):
            raise ProtocolError("the list of keys holds one of them twice")
        for number, peer in keys.items():
            message = bindings.advertised(round_.context.transcript(), number, peer.signed)
            self.require_signed(round_.context.sites[number], "advertise", message, peer.signature)

    def require_set(self, round_: "_Round", boxes: Mapping[int, Sealed], keys: Mapping[int, Advertise]) -> None:
        """The sites that mask each other: t at least, all of them known by key, this one among them."""
        self.require_enough(round_, boxes, "sent their shares")
        if not set(boxes) <= set(keys) or round_.number not in boxes:
            raise ProtocolError("the mask set holds a site that advertised no key, or leaves this one out")

    def require_survivors(self, round_: "_Round", survivors: tuple[int, ...], before: SiteState) -> None:
        """t at least, all of the mask set, this site among them: it helps to open no sum that it is not in."""
        self.require_enough(round_, survivors, "survived")
        if not set(survivors) <= set(before.shares) or round_.number not in survivors:
            raise ProtocolError("the list of survivors holds a site outside the mask set, or leaves this one out")

    def require_same_sum(self, round_: "_Round", survivors: tuple[int, ...], before: SiteState) -> None:
        """One update is summed over one set. The difference of two sums would show a single site's update, attempt or no attempt."""
        opened = before.opened
        if opened is None or (opened.line, opened.round, opened.words) != (round_.context.line, round_.context.round, before.words):
            return
        names = tuple(round_.context.sites[number] for number in survivors)
        if names != opened.survivors:
            raise ProtocolError(
                f"this update was summed over {len(opened.survivors)} sites before; it is not summed over other ones, "
                f"or the difference would show what one site sent. Repeat with {', '.join(opened.survivors)}"
            )

    def require_signers(self, round_: "_Round", signers: Mapping[int, bytes], survivors: tuple[int, ...], agreed: bytes) -> None:
        """t of the survivors signed the list that this site signed."""
        if not set(signers) <= set(survivors) or len(signers) < round_.threshold:
            raise ProtocolError(f"{len(signers)} sites signed the list of survivors; {round_.threshold} of them must")
        for number, signature in signers.items():
            self.require_signed(round_.context.sites[number], "survivors", agreed, signature)

    def one_kind_each(self, before: SiteState, survivors: tuple[int, ...]) -> dict[int, tuple[bool, int]]:
        """Of a survivor the self mask, of a site that vanished the mask key, never both: together they are its update."""
        return {number: (True, pair[0]) if number in survivors else (False, pair[1]) for number, pair in before.shares.items()}

    def require_enough(self, round_: "_Round", numbers: Iterable[int], did: str) -> None:
        found, n = set(numbers), len(round_.context.sites)
        needed = max(round_.threshold, self._me.min_sites)
        if not all(number < n for number in found) or len(found) < needed:
            raise ProtocolError(f"{len(found)} of {n} sites {did}; {needed} of them must")

    def require_signed(self, site: str, purpose: str, message: bytes, signature: bytes) -> None:
        try:
            self._me.roster.key_of(site).verify(purpose, message, signature)
        except SealBroken:
            raise ProtocolError(f"what the coordinator passed on as `{site}`'s is not signed with the key the roster gives it") from None


@dataclass(frozen=True, slots=True)
class _Round:
    """One attempt as this site sees it, and its own number in the cohort."""

    context: RoundContext
    number: int

    @property
    def threshold(self) -> int:
        return bindings.threshold(len(self.context.sites))

    def keys(self, state: SiteState) -> bytes:
        return bindings.keys_transcript(self.context.transcript(), bytes.fromhex(state.keys))

    def agreed(self, state: SiteState, survivors: Iterable[int]) -> bytes:
        return bindings.agreed(bindings.set_transcript(self.keys(state), state.shares), survivors)


def _private(key: str) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(bytes.fromhex(key))


def _public(key: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw()
