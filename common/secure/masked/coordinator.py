"""The coordinator's side of the masked exchange: one running sum of masked words, from which the masks are taken at the end.

Memory is two vectors (the sum, the reply being added) and some kilobytes a pair of sites, however many sites there are.

Protects against: a message that another site sent or somebody changed on its way (every one is signed); a wrong share (every share
is committed to by its dealer, so the wrong one is known by name and left out); a site whose secrets do not fit what it advertised.
Does not protect against: a site that dealt shares of nothing, or sealed one that does not open: it can stop the round, and is named.
"""

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from common.errors import ProtocolError, RosterRefused, SealBroken, TooFewSurvivors
from common.secure.context import RoundContext
from common.secure.exchange import CoordinatorExchange, Phase, Summed
from common.secure.fixedpoint import Words, from_words, words_from_bytes
from common.secure.masked import bindings
from common.secure.masked.messages import (
    MAX_GROUP,
    Advertise,
    Masked,
    Shares,
    Unmask,
    boxes_to_bytes,
    keys_to_bytes,
    signed_from_bytes,
    signers_to_bytes,
    survivors_to_bytes,
)
from common.secure.masked.site import PHASES, UPDATE
from common.secure.masking import add_mask, subtract_mask
from common.secure.roster import Roster
from common.secure.shares import combine


class MaskedCoordinator:
    """One attempt. `agreed` are the survivors that an earlier attempt of this round was opened for; then only they are summed."""

    name = "masked"
    replayable = False

    def __init__(self, context: RoundContext, length: int, min_survivors: int, roster: Roster, agreed: tuple[str, ...] = ()) -> None:
        if context.roster != roster.digest or len(context.sites) > MAX_GROUP:
            raise RosterRefused("a masked round stands on the coordinator's roster, over at most 256 sites of it")
        self._context, self._length, self._roster = context, length, roster
        self._number = {site: number for number, site in enumerate(context.sites)}
        self._threshold = bindings.threshold(len(context.sites))
        self._needed = max(self._threshold, min_survivors)
        self._agreed = frozenset(self._number[site] for site in agreed)
        self._place = 0
        self._keys: dict[int, Advertise] = {}
        self._shares: dict[int, Shares] = {}
        self._summed: set[int] = set()
        self._signers: dict[int, bytes] = {}
        self._unmask: dict[int, Unmask] = {}
        self._transcript = self._set = self._list = b""
        self._sum: Words = np.zeros(length, np.uint32)

    # -- CoordinatorExchange -------------------------------------------------------------------------------------------

    def requests(self) -> Phase | None:
        match self._place:
            case 0:
                asked = dict.fromkeys(range(len(self._context.sites)), b"")
            case 1:
                asked = dict.fromkeys(self._keys, keys_to_bytes(self._keys))
            case 2:
                wanted = [number for number in sorted(self._shares) if not self._agreed or number in self._agreed]
                asked = {to: boxes_to_bytes({sender: s.sealed[to] for sender, s in self._shares.items()}) for to in wanted}
            case 3:
                asked = dict.fromkeys(sorted(self._summed), survivors_to_bytes(self._summed))
            case 4:
                asked = dict.fromkeys(sorted(self._signers), signers_to_bytes(self._signers))
            case _:
                return None
        name = PHASES[self._place]
        opens = tuple(self._context.sites[number] for number in sorted(self._summed)) if self._place == 4 else ()
        return Phase(name, name == UPDATE, {self._context.sites[number]: body for number, body in asked.items()}, opens)

    def receive(self, site: str, reply: bytes) -> None:
        number, done = self._number.get(site), (self._keys, self._shares, self._summed, self._signers, self._unmask)
        if number is None or self._place >= len(PHASES) or number not in self._expected():
            raise ProtocolError(f"site `{site}` does not take part in this phase")
        if number in done[self._place]:
            raise ProtocolError(f"site `{site}` answered twice; the second answer is not counted")
        (self._advertised, self._shared, self._masked, self._signed, self._unmasked)[self._place](site, number, reply)

    def close_phase(self) -> None:
        found = (self._keys, self._shares, self._summed, self._signers, self._unmask)[self._place]
        needed = self._threshold if self._place > 2 else self._needed
        if self._place == 2:
            self._require_agreed()
        if len(found) < needed:
            raise TooFewSurvivors(
                f"{len(found)} of {len(self._context.sites)} sites answered phase `{PHASES[self._place]}` of round {self._context.round} of "
                f"`{self._context.line}`, and {needed} are needed; resume when the others are back"
            )
        if self._place == 1:
            self._transcript = bindings.keys_transcript(self._context.transcript(), keys_to_bytes(self._keys))
        if self._place == 2:
            self._set = bindings.set_transcript(self._transcript, self._shares)
            self._list = bindings.agreed(self._set, self._summed)
        if self._place == 4:
            self._take_masks_off()
        self._place += 1

    def result(self) -> Summed:
        if self._place < len(PHASES):
            raise ProtocolError("the sum of a round is read after its last phase is closed")
        survivors = tuple(self._context.sites[number] for number in sorted(self._summed))
        return Summed(from_words(self._sum).astype(np.int64), survivors)

    # -- what arrives --------------------------------------------------------------------------------------------------

    def _expected(self) -> frozenset[int]:
        everybody = frozenset(range(len(self._context.sites)))
        return (
            everybody,
            frozenset(self._keys),
            self._agreed or frozenset(self._shares),
            frozenset(self._summed),
            frozenset(self._signers),
        )[self._place]

    def _advertised(self, site: str, number: int, reply: bytes) -> None:
        keys = Advertise.from_bytes(reply)
        self._require_signed(site, "advertise", bindings.advertised(self._context.transcript(), number, keys.signed), keys.signature)
        self._keys[number] = keys

    def _shared(self, site: str, number: int, reply: bytes) -> None:
        transcript = bindings.keys_transcript(self._context.transcript(), keys_to_bytes(self._keys))
        shares = Shares.from_bytes(reply)
        if set(shares.sealed) != set(self._keys):
            raise ProtocolError(f"site `{site}` sealed shares for other sites than it was asked to")
        self._require_signed(site, "share", bindings.shared(transcript, number, shares.signed), shares.signature)
        self._shares[number] = shares

    def _masked(self, site: str, number: int, reply: bytes) -> None:
        masked = Masked.from_bytes(reply)
        words = words_from_bytes(masked.words, self._length)
        message = bindings.masked(bindings.set_transcript(self._transcript, self._shares), number, masked.words)
        self._require_signed(site, "update", message, masked.signature)
        self._sum += words
        self._summed.add(number)

    def _signed(self, site: str, number: int, reply: bytes) -> None:
        signature = signed_from_bytes(reply)
        self._require_signed(site, "survivors", self._list, signature)
        self._signers[number] = signature

    def _unmasked(self, site: str, number: int, reply: bytes) -> None:
        unmask = Unmask.from_bytes(reply)
        self._require_signed(site, "unmask", bindings.unmasked(self._list, number, unmask.signed), unmask.signature)
        kinds = {dealer: of_self_mask for dealer, (of_self_mask, _) in unmask.shares.items()}
        if kinds != {dealer: dealer in self._summed for dealer in self._shares}:
            raise ProtocolError(f"site `{site}` sent shares of another kind, or of other sites, than it was asked for")
        for dealer, (of_self_mask, share) in unmask.shares.items():
            sealed = self._shares[dealer].sealed[number]
            committed = sealed.self_commitment if of_self_mask else sealed.key_commitment
            if bindings.share_commitment(self._transcript, of_self_mask, dealer, number, share) != committed:
                raise ProtocolError(f"site `{site}` sent a share that `{self._context.sites[dealer]}` did not deal; it is not counted")
        self._unmask[number] = unmask

    # -- the end -------------------------------------------------------------------------------------------------------

    def _require_agreed(self) -> None:
        missing = self._agreed - self._summed
        if missing:
            names = ", ".join(self._context.sites[number] for number in sorted(missing))
            raise TooFewSurvivors(
                f"round {self._context.round} of `{self._context.line}` was opened for {len(self._agreed)} sites before, and no update is summed over "
                f"two different sets; waiting for {names}: resume when they are back"
            )

    def _take_masks_off(self) -> None:
        """Of the survivors the self masks; of the sites that vanished the pair masks with every survivor."""
        # Every secret is reconstructed and checked before the first is used: the sum is changed once, or not at all.
        secrets = {dealer: self._reconstructed(dealer) for dealer in self._shares}
        for dealer, secret in secrets.items():
            if dealer in self._summed:
                subtract_mask(self._sum, bindings.self_mask_key(secret, self._transcript, dealer))
                continue
            private = X25519PrivateKey.from_private_bytes(secret)
            for survivor in self._summed:
                # What the survivor added for this pair goes, what it subtracted comes back.
                undo = subtract_mask if dealer > survivor else add_mask
                undo(self._sum, bindings.pair_mask_key(private, self._keys[survivor].mask_key, self._transcript, dealer, survivor))

    def _reconstructed(self, dealer: int) -> bytes:
        """The seed of a survivor, the private mask key of a site that vanished: only what fits what was advertised or committed to."""
        responders = sorted(self._unmask)[: self._threshold]
        secret = combine({number + 1: self._unmask[number].shares[dealer][1] for number in responders})
        if dealer in self._summed:
            fits = bindings.seed_commitment(self._transcript, dealer, secret) == self._shares[dealer].seed_commitment
        else:
            fits = X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw() == self._keys[dealer].mask_key
        if not fits:
            raise ProtocolError(
                f"site `{self._context.sites[dealer]}` dealt shares that do not give the secret it committed to; the round cannot close"
            )
        return secret

    def _require_signed(self, site: str, purpose: str, message: bytes, signature: bytes) -> None:
        try:
            self._roster.key_of(site).verify(purpose, message, signature)
        except SealBroken:
            raise ProtocolError(f"what arrived as `{site}`'s is not signed with the key the roster gives it") from None


class MaskedExchange:
    """The exchange called `masked` in configuration and report: the coordinator sees the sum of each group, and no site's update."""

    name, hides_updates = "masked", True

    def __init__(self, roster: Roster) -> None:
        self.roster = roster

    def open(self, context: RoundContext, length: int, min_survivors: int, agreed: tuple[str, ...] = ()) -> CoordinatorExchange:
        return MaskedCoordinator(context, length, min_survivors, self.roster, agreed)
