"""The coordinator of the attacks on the masked exchange: it carries every message, so it may change, withhold, repeat and invent them.

Five sites, t = 4; it is after what `site-0` sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from common.secure.context import RoundContext
from common.secure.fixedpoint import words_from_bytes
from common.secure.masked import bindings
from common.secure.masked.messages import (
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
from common.secure.masked.site import MaskedSite
from common.secure.masking import subtract_mask
from common.secure.shares import combine
from tests.helpers.masked import NAMES, Hospitals

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


def relay(kind: type[MaskedSite], **options: object) -> Relay:
    hospitals = Hospitals(SITES, kind, **options)  # type: ignore[arg-type]  # a test's shorthand
    return Relay(hospitals, hospitals.context)


class SameKeysAgain(MaskedSite):
    """Keeps its keys and seed from attempt to attempt."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]  # whatever the class above takes
        name = self._me.site.encode()
        self._entropy = lambda size: (name * size)[:size]

    def require_keys(self, *_: object) -> None:
        """With such keys its own list would be refused: one of them twice."""
