"""A coordinator that does not keep to the masked exchange. Every attack recovers the update from a twin that lacks one check, and gets nothing
from ours, which refuses by name.

Five sites, t = 4; the coordinator is after what `site-0` sent. It carries all messages, so it may change, withhold, repeat and invent them.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from common.errors import TooFewSurvivors, WardroundError
from common.secure.context import RoundContext
from common.secure.fixedpoint import from_words, words_from_bytes
from common.secure.masked import bindings
from common.secure.masked.messages import (
    Advertise,
    LedgerHead,
    Masked,
    Shares,
    boxes_to_bytes,
    keys_to_bytes,
)
from common.secure.masked.site import MaskedSite
from common.secure.masked.state import SiteState
from common.secure.masking import subtract_mask
from common.secure.shares import combine
from tests.helpers.masked import LENGTH, Hospitals, context_of, drive, update_of
from tests.helpers.relay import ALL, SITES, VICTIM, SameKeysAgain, relay

Attack = Callable[[type[MaskedSite]], np.ndarray]
"""What the coordinator takes for the victim's update. Raises what a site refuses with."""


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
