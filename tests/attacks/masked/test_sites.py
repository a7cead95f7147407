"""Sites that do not keep to the masked exchange: each is left out by name or stops the round, and no sum is spoiled."""

from dataclasses import replace

import pytest

from common.errors import ProtocolError
from common.secure.context import RoundContext
from common.secure.masked import bindings
from common.secure.masked.coordinator import MaskedCoordinator
from common.secure.masked.messages import Shares, Unmask
from common.secure.masked.site import MaskedSite
from common.secure.masked.state import SiteState
from common.secure.shares import combine
from tests.helpers.masked import LENGTH, Hospitals, drive, sum_of
from tests.helpers.relay import SITES


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
