"""A coordinator, or a site, that does not keep to the masked exchange. Every attack recovers the update from a twin that lacks one check
(or spoils its sum), and gets nothing from ours, which refuses by name.

Five sites, t = 4; the coordinator is after what `site-0` sent. It carries all messages, so it may change, withhold, repeat and invent them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from common.errors import ProtocolError, TooFewSurvivors, WardroundError
from common.secure.context import RoundContext
from common.secure.fixedpoint import from_words, words_from_bytes
from common.secure.masked import bindings
from common.secure.masked.coordinator import MaskedCoordinator
from common.secure.masked.messages import (
    Advertise,
    LedgerHead,
    Masked,
    Shares,
    Unmask,
    boxes_to_bytes,
    keys_to_bytes,
    signed_from_bytes,
    signers_to_bytes,
    survivors_to_bytes,
)
from common.secure.masked.site import PHASES, MaskedSite
from common.secure.masked.state import SiteState
from common.secure.masking import add_mask, subtract_mask
from common.secure.shares import combine
from tests.helpers.masked import LENGTH, NAMES, Hospitals, context_of, drive, sum_of, update_of

SITES = NAMES[:5]
VICTIM = SITES[0]
ALL = tuple(range(5))


@dataclass
class Relay:
    """A coordinator without scruples: it asks the sites what it likes and keeps every answer."""

    hospitals: Hospitals
    context: RoundContext

    @property
    def transcript(self) -> bytes:
        return bindings.keys_transcript(self.context.transcript(), keys_to_bytes(self.keys))

    def advertise(self, contexts: Mapping[str, RoundContext] | None = None) -> None:
        self.keys = {n: Advertise.from_bytes(self.ask(n, "advertise", b"", contexts)) for n in ALL}

    def share(self, contexts: Mapping[str, RoundContext] | None = None) -> None:
        self.shares = {n: Shares.from_bytes(self.ask(n, "share", keys_to_bytes(self.keys), contexts)) for n in ALL}

    def boxes_for(self, number: int, mask_set: tuple[int, ...] = ALL) -> bytes:
        return boxes_to_bytes({sender: self.shares[sender].sealed[number] for sender in mask_set})

    def update(self, mask_sets: Mapping[int, tuple[int, ...]] | None = None, contexts: Mapping[str, RoundContext] | None = None) -> None:
        self.masked = {}
        for n in ALL:
            reply = self.ask(n, "update", self.boxes_for(n, (mask_sets or {}).get(n, ALL)), contexts)
            self.masked[n] = words_from_bytes(Masked.from_bytes(reply).words, self.hospitals.length).copy()

    def sign(self, survivors: tuple[int, ...], sites: tuple[int, ...], contexts: Mapping[str, RoundContext] | None = None) -> bytes:
        """The signatures of `sites` under one list, as the request that opens it."""
        body = survivors_to_bytes(survivors)
        return signers_to_bytes({n: signed_from_bytes(self.ask(n, "survivors", body, contexts)) for n in sites})

    def unmask(self, signers: bytes, sites: tuple[int, ...], contexts: Mapping[str, RoundContext] | None = None) -> dict[int, Unmask]:
        return {n: Unmask.from_bytes(self.ask(n, "unmask", signers, contexts)) for n in sites}

    def ask(self, number: int, phase: str, body: bytes, contexts: Mapping[str, RoundContext] | None = None) -> bytes:
        site = self.context.sites[number]
        return self.hospitals.ask(site, phase, body, (contexts or {}).get(site, self.context))

    def secret(self, answers: Mapping[int, Unmask], dealer: int = 0) -> bytes:
        return combine({n + 1: answer.shares[dealer][1] for n, answer in answers.items()})

    def without_self_mask(self, seed: bytes) -> np.ndarray:
        words = self.masked[0].copy()
        subtract_mask(words, bindings.self_mask_key(seed, self.transcript, 0))
        return words

    def without_pair_masks(self, words: np.ndarray, mask_key: bytes) -> np.ndarray:
        private = X25519PrivateKey.from_private_bytes(mask_key)
        for n in ALL[1:]:
            subtract_mask(words, bindings.pair_mask_key(private, self.keys[n].mask_key, self.transcript, 0, n))
        return words


Attack = Callable[[type[MaskedSite]], np.ndarray]
"""What the coordinator takes for the victim's update. Raises what a site refuses with."""


def relay(kind: type[MaskedSite], **options: object) -> Relay:
    hospitals = Hospitals(SITES, kind, **options)  # type: ignore[arg-type]  # a test's shorthand
    return Relay(hospitals, hospitals.context)


# -- swapped keys ------------------------------------------------------------------------------------------------------


class TrustsAnyKey(MaskedSite):
    def require_signed(self, site: str, purpose: str, message: bytes, signature: bytes) -> None:
        """Takes the coordinator's word for whose key it is."""


def swapped_keys(kind: type[MaskedSite]) -> np.ndarray:
    """The coordinator stands between the victim and everybody else, with keys of its own in all their names."""
    r = relay(kind)
    own = {n: (X25519PrivateKey.generate(), X25519PrivateKey.generate()) for n in ALL[1:]}
    public = {n: [key.public_key().public_bytes_raw() for key in pair] for n, pair in own.items()}
    r.keys = {n: Advertise(*public[n], LedgerHead(0, bytes(32)), bytes(64)) for n in own}
    r.keys = {0: Advertise.from_bytes(r.ask(0, "advertise", b"")), **r.keys}
    shares = Shares.from_bytes(r.ask(0, "share", keys_to_bytes(r.keys)))
    opened = {n: bindings.open_shares(own[n][0], r.keys[0].box_key, r.transcript, 0, n, shares.sealed[n]) for n in own}
    boxes = {n: bindings.seal_shares(own[n][0], r.keys[0].box_key, r.transcript, n, 0, 1, 1) for n in own}
    reply = Masked.from_bytes(r.ask(0, "update", boxes_to_bytes({0: shares.sealed[0], **boxes})))
    r.masked = {0: words_from_bytes(reply.words, LENGTH).copy()}
    words = r.without_self_mask(combine({n + 1: pair[0] for n, pair in opened.items()}))
    for n in own:
        subtract_mask(words, bindings.pair_mask_key(own[n][1], r.keys[0].mask_key, r.transcript, 0, n))
    return words


# -- sets --------------------------------------------------------------------------------------------------------------


class AnySet(MaskedSite):
    def require_set(self, *_: object) -> None:
        """Masks against whatever set it is shown."""


def shrunken_set(kind: type[MaskedSite]) -> np.ndarray:
    """The victim is told that nobody else sent shares: its words carry a self mask alone, and the others give that away."""
    r = relay(kind)
    r.advertise()
    r.share()
    r.update({0: (0,)})
    return r.without_self_mask(r.secret(r.unmask(r.sign(ALL, ALL[1:]), ALL[1:])))


class LowThreshold(MaskedSite):
    """t = n/2, and no look at who signed: the first protocols for honest coordinators."""

    def require_signers(self, *_: object) -> None:
        pass


def equivocating_lists(kind: type[MaskedSite]) -> np.ndarray:
    """Two sites are told that the victim survived, two that it vanished: both kinds of shares of one site."""
    r = relay(kind)
    r.advertise()
    r.share()
    r.update()
    survived = r.unmask(r.sign(ALL, (1, 2)), (1, 2))
    vanished = r.unmask(r.sign(ALL[1:], (3, 4)), (3, 4))
    return r.without_pair_masks(r.without_self_mask(r.secret(survived)), r.secret(vanished))


class Forgetful(MaskedSite):
    """Answers the last two phases as often as it is asked."""

    def require_turn(self, context: RoundContext, phase: str, before: SiteState) -> None:
        pass

    def reply(
        self, context: RoundContext, phase: str, request: bytes, state: bytes, words: Callable[[], np.ndarray]
    ) -> tuple[bytes, bytes]:
        after, answer = super().reply(context, phase, request, state, words)
        return (state if phase == "unmask" else after), answer


def double_listing(kind: type[MaskedSite]) -> np.ndarray:
    """The victim is a survivor in one list and vanished in the next, of the same attempt and at the same sites."""
    r = relay(kind)
    r.advertise()
    r.share()
    r.update()
    survived = r.unmask(r.sign(ALL, ALL[1:]), ALL[1:])
    vanished = r.unmask(r.sign(ALL[1:], ALL[1:]), ALL[1:])
    return r.without_pair_masks(r.without_self_mask(r.secret(survived)), r.secret(vanished))


# -- repeats -----------------------------------------------------------------------------------------------------------


class SameKeysAgain(MaskedSite):
    """Keeps its keys and seed from attempt to attempt."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]  # whatever the class above takes
        name = self._me.site.encode()
        self._entropy = lambda size: (name * size)[:size]

    def require_keys(self, *_: object) -> None:
        """With such keys its own list would be refused: one of them twice."""


def keys_after_a_dropout(kind: type[MaskedSite]) -> np.ndarray:
    """Attempt 0: the victim's words are said to be lost, so the others give its mask key away. Attempt 1: it survives, and they give its seed."""
    r = relay(kind)
    r.advertise()
    r.share()
    r.update()
    mask_key = r.secret(r.unmask(r.sign(ALL[1:], ALL[1:]), ALL[1:]))
    # In between the sites train anew, so that nobody minds another set.
    r.hospitals.update = lambda site: update_of(site) + np.int32(1)
    r.context = replace(r.context, attempt=1)
    r.advertise()
    r.share()
    r.update()
    seed = r.secret(r.unmask(r.sign(ALL, ALL[1:]), ALL[1:]))
    return r.without_pair_masks(r.without_self_mask(seed), mask_key) - np.uint32(1)


class AnySum(MaskedSite):
    def require_same_sum(self, *_: object) -> None:
        """Lets one update be summed over one set after another."""


def other_survivors(kind: type[MaskedSite]) -> np.ndarray:
    """The round is repeated as it should be, with fresh keys and the same updates, but the victim is left out: the difference is its update."""
    hospitals = Hospitals(SITES, kind)
    first, _ = drive(hospitals, hospitals.coordinator())
    hospitals.context = replace(hospitals.context, attempt=1)
    second, _ = drive(
        hospitals, hospitals.coordinator(), reply=lambda phase, site, data: None if (phase, site) == ("update", VICTIM) else data
    )
    return (first.words - second.words).astype(np.int32).view(np.uint32)


# -- contexts ----------------------------------------------------------------------------------------------------------


class AnyModel(MaskedSite):
    """Its signatures do not say which adapter they are about."""

    def reply(self, context: RoundContext, *arguments: object) -> tuple[bytes, bytes]:
        return super().reply(replace(context, adapter_digest="1" * 64), *arguments)  # type: ignore[arg-type]  # handed on as it is


def another_model(kind: type[MaskedSite]) -> np.ndarray:
    """The others get a model on which they learn nothing: the sum is what the victim learned on the real one."""
    r = relay(kind, update=lambda site: update_of(site) if site == VICTIM else np.zeros(LENGTH, np.int32))
    contexts = {VICTIM: replace(r.context, adapter_digest="e" * 64)}
    r.advertise(contexts)
    r.share(contexts)
    r.update(contexts=contexts)
    answers = r.unmask(r.sign(ALL, ALL, contexts), ALL, contexts)
    words = np.sum(list(r.masked.values()), axis=0, dtype=np.uint32)
    for n in ALL:
        subtract_mask(words, bindings.self_mask_key(r.secret(answers, n), r.transcript, n))
    return words


class NoFloor(MaskedSite):
    """Sums with as few as the coordinator likes, whatever its hospital's policy says."""

    def __init__(self, credentials: object, *arguments: object) -> None:
        super().__init__(replace(credentials, min_sites=3), *arguments)  # type: ignore[type-var, arg-type]  # credentials as they come


def shrunk_to_three(kind: type[MaskedSite]) -> np.ndarray:
    """A cohort of the victim and two sites that tell the coordinator what they sent."""
    hospitals = Hospitals(SITES, kind, min_sites=5)
    three = SITES[:3]
    hospitals.context = context_of(three, hospitals.roster)
    try:
        summed, _ = drive(hospitals, hospitals.coordinator())
    except TooFewSurvivors:
        raise hospitals.refused[VICTIM] from None
    known = sum(update_of(site).astype(np.int64) for site in three[1:])
    return (summed.words - known).astype(np.int32).view(np.uint32)


CASES: dict[str, tuple[Attack, type[MaskedSite], str]] = {
    "swapped keys": (swapped_keys, TrustsAnyKey, "not signed with the key the roster gives it"),
    "shrunken set": (shrunken_set, AnySet, "1 of 5 sites sent their shares; 4 of them must"),
    "equivocating lists": (equivocating_lists, LowThreshold, "2 sites signed the list of survivors; 4 of them must"),
    "double listing": (double_listing, Forgetful, "does not follow what this site answered last"),
    "keys after a dropout": (keys_after_a_dropout, SameKeysAgain, ""),
    "other survivors": (other_survivors, AnySum, "this update was summed over 5 sites before"),
    "another model for one site": (another_model, AnyModel, "not signed with the key the roster gives it"),
    "n shrunk to three": (shrunk_to_three, NoFloor, "3 sites would be summed; this site joins sums of 5 to 256"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_attack_recovers_the_update_from_the_twin(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    attack, twin, _ = CASES[case]
    if twin is LowThreshold:
        monkeypatch.setattr(bindings, "threshold", lambda sites: sites // 2)
    np.testing.assert_array_equal(from_words(attack(twin)), update_of(VICTIM))


@pytest.mark.parametrize("case", CASES)
def test_the_attack_gets_nothing_from_ours(case: str) -> None:
    attack, _, reason = CASES[case]
    if reason:
        with pytest.raises(WardroundError) as caught:
            attack(MaskedSite)
        refusals = str(caught.value) + _refusals_behind(caught.value)
        assert reason in refusals, refusals
        return
    found = from_words(attack(MaskedSite))
    assert int((found == update_of(VICTIM)).sum()) == 0, "with fresh keys what was disclosed before takes no mask off"


def _refusals_behind(error: BaseException) -> str:
    """`other survivors` is refused by each site alone; the coordinator only sees that too few signed."""
    if not isinstance(error, TooFewSurvivors):
        return ""
    hospitals = Hospitals(SITES)
    drive(hospitals, hospitals.coordinator())
    hospitals.context = replace(hospitals.context, attempt=1)
    with pytest.raises(TooFewSurvivors):
        drive(hospitals, hospitals.coordinator(), reply=lambda phase, site, data: None if (phase, site) == ("update", VICTIM) else data)
    assert set(hospitals.refused) == set(SITES[1:])
    return " ".join(str(refusal) for refusal in hospitals.refused.values())


# -- malicious sites ---------------------------------------------------------------------------------------------------


class WrongShare(MaskedSite):
    """Gives back other shares than it was dealt."""

    def one_kind_each(self, before: SiteState, survivors: tuple[int, ...]) -> dict[int, tuple[bool, int]]:
        return {dealer: (kind, share ^ 1) for dealer, (kind, share) in super().one_kind_each(before, survivors).items()}


class WrongTranscript(MaskedSite):
    """Signs for another round than it answers in."""

    def _survivors(self, round_: object, request: bytes, before: SiteState) -> tuple[SiteState, bytes]:
        after, _ = super()._survivors(round_, request, before)  # type: ignore[arg-type]  # handed on
        return after, b"\x07" + self._me.key.sign("survivors", bytes(32))


class Credulous(MaskedCoordinator):
    """Puts together whatever shares arrive, and uses whatever comes out."""

    def _require_signed(self, *_: object) -> None:
        pass

    def _unmasked(self, site: str, number: int, reply: bytes) -> None:
        self._unmask[number] = Unmask.from_bytes(reply)

    def _reconstructed(self, dealer: int) -> bytes:
        responders = sorted(self._unmask)[: self._threshold]
        return combine({n + 1: self._unmask[n].shares[dealer][1] for n in responders})


@pytest.mark.parametrize("kind", [WrongShare, WrongTranscript])
def test_a_malicious_site_is_left_out_by_name_and_the_sum_stands(kind: type[MaskedSite]) -> None:
    hospitals = Hospitals(SITES, kinds={"site-1": kind})
    summed, _ = drive(hospitals, hospitals.coordinator())
    assert summed.words.tolist() == sum_of(SITES)
    assert "site-1" in str(hospitals.refused["site-1"])


def test_a_wrong_share_spoils_the_sum_of_a_twin_that_believes_it() -> None:
    hospitals = Hospitals(SITES, kinds={"site-1": WrongShare})
    credulous = Credulous(hospitals.context, LENGTH, 3, hospitals.roster)
    outcome: object
    try:
        outcome = drive(hospitals, credulous)[0].words.tolist()
    except ProtocolError as error:
        outcome = str(error)  # a wrong secret that happens to have 257 bits
    assert outcome != sum_of(SITES), "without the commitments nobody would know"


class DealsNonsense(MaskedSite):
    """Shares of one secret, and a commitment to another."""

    def _share(self, round_: object, request: bytes, before: SiteState) -> tuple[SiteState, bytes]:
        after, reply = super()._share(round_, request, replace(before, seed="ab" * 32))  # type: ignore[arg-type]  # handed on
        honest = Shares.from_bytes(super()._share(round_, request, before)[1])  # type: ignore[arg-type]  # handed on
        unsigned = replace(Shares.from_bytes(reply), seed_commitment=honest.seed_commitment)
        keys = bindings.keys_transcript(self.context.transcript(), request)
        signature = self._me.key.sign("share", bindings.shared(keys, 1, unsigned.signed))
        return replace(after, seed=before.seed), replace(unsigned, signature=signature).to_bytes()

    def require_context(self, context: RoundContext) -> None:
        self.context = context
        super().require_context(context)


def test_a_dealer_of_nonsense_stops_the_round_and_is_named() -> None:
    hospitals = Hospitals(SITES, kinds={"site-1": DealsNonsense})
    with pytest.raises(ProtocolError, match="site `site-1` dealt shares that do not give the secret it committed to"):
        drive(hospitals, hospitals.coordinator())


# -- sites that vanish -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", [1, 2])
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("heard", [False, True], ids=["before", "after"])
def test_sites_may_vanish_at_every_step_while_t_are_left(phase: str, heard: bool, gone: int) -> None:
    """Seven sites, t = 5: two may go at any phase, before they hear the question or after they answered it."""
    names = NAMES[:7]
    leaving = set(names[1 : 1 + gone])
    order = PHASES.index(phase)

    def lost(at: str, site: str, data: bytes) -> bytes | None:
        return None if site in leaving and PHASES.index(at) >= order else data

    hospitals = Hospitals(names)
    tampering = {"reply": lost} if heard else {"request": lost}
    summed, _ = drive(hospitals, hospitals.coordinator(), **tampering)
    left = tuple(site for site in names if site not in leaving or PHASES.index(phase) > PHASES.index("update"))
    assert summed.survivors == left
    assert summed.words.tolist() == sum_of(left)
    assert not hospitals.refused


@pytest.mark.parametrize("phase", PHASES)
def test_with_fewer_than_t_left_nothing_is_opened(phase: str) -> None:
    hospitals = Hospitals(SITES)
    exchange = hospitals.coordinator()
    with pytest.raises(TooFewSurvivors, match=f"3 of 5 sites answered phase `{phase}`"):
        drive(hospitals, exchange, reply=lambda at, site, data: None if at == phase and site in SITES[:2] else data)
    with pytest.raises(ProtocolError, match="after its last phase"):
        exchange.result()
    # What the coordinator holds then is uniform: no update, no partial sum, in the clear.
    if phase == "unmask":
        held = from_words(exchange._sum)
        assert not (held == np.array(sum_of(SITES))).any()


def test_a_round_cut_short_at_the_end_is_repeated_over_the_same_sites_alone() -> None:
    """The survivors released shares in attempt 0, then the coordinator died: attempt 1 closes over the same set, and over no other."""
    hospitals = Hospitals(SITES)

    def late(phase: str, site: str, data: bytes) -> bytes | None:
        return None if site == "site-4" and phase == "update" else data

    with pytest.raises(TooFewSurvivors):
        drive(hospitals, hospitals.coordinator(), reply=lambda p, s, d: None if p == "unmask" and s != "site-0" else late(p, s, d))
    hospitals.context = replace(hospitals.context, attempt=1)
    with pytest.raises(TooFewSurvivors):
        drive(hospitals, hospitals.coordinator())
    assert "Repeat with site-0, site-1, site-2, site-3" in str(hospitals.refused["site-0"])
    hospitals.context = replace(hospitals.context, attempt=2)
    agreed = SITES[:4]
    summed, _ = drive(hospitals, hospitals.coordinator(agreed=agreed))
    assert (summed.survivors, summed.words.tolist()) == (agreed, sum_of(agreed))
    hospitals.context = replace(hospitals.context, attempt=3)
    with pytest.raises(TooFewSurvivors, match="waiting for site-2"):
        drive(hospitals, hospitals.coordinator(agreed=agreed), reply=lambda p, s, d: None if s == "site-2" and p == "update" else d)


def test_masks_of_both_signs_cancel() -> None:
    words = np.arange(5, dtype=np.uint32)
    add_mask(words, bytes(32))
    subtract_mask(words, bytes(32))
    assert words.tolist() == [0, 1, 2, 3, 4]
