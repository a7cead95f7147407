"""Plain updates combined by an estimator that a few poisoned sites cannot move at will: Flower's trimmed mean and Krum.

Only with the exchange `plain` and `placement = "site"`: such an estimator looks at every site's update, which must then carry its full noise.
It is post-processing of noised updates and costs no ε. Each site counts once, whatever L_s it declared: a weight would be the poisoner's lever.

    trimmed-mean   coordinate by coordinate, without the f smallest and the f largest (Yin et al. 2018); `flwr.serverapp.strategy.fedtrimmedavg`
    krum           the one update that lies closest to its n − f − 2 neighbours (Blanchard et al. 2017); `flwr.serverapp.strategy.multikrum`

Protects against: f sites that send updates far from everybody's: flipped, scaled up, random.
Does not protect against: updates within the spread of the honest ones (`tests/attacks/test_poisoning.py` measures how far they move the
model); more than f poisoned sites; and nothing hides a site's noised update from the coordinator any more.
"""

from collections.abc import Mapping

import numpy as np
from flwr.app import Array, ArrayRecord, RecordDict
from flwr.serverapp.strategy.fedtrimmedavg import trim_mean
from flwr.serverapp.strategy.multikrum import select_multikrum
from numpy.typing import NDArray

from common.config import Aggregation, SecureConfig
from common.errors import TooFewSurvivors
from common.secure.context import RoundContext
from common.secure.exchange import CoordinatorExchange, PlainCoordinator, Summed
from common.secure.fixedpoint import Integers, from_words, to_floats, words_from_bytes


class KeepingCoordinator(PlainCoordinator):
    """The plain exchange with every update kept: memory grows with the number of sites."""

    def __init__(self, context: RoundContext, length: int, min_survivors: int) -> None:
        super().__init__(context, length, min_survivors)
        self._each: dict[str, Integers] = {}

    def receive(self, site: str, reply: bytes) -> None:
        super().receive(site, reply)
        self._each[site] = from_words(words_from_bytes(reply, self._length))

    def result(self) -> Summed:
        summed = super().result()
        return Summed(summed.words, summed.survivors, self._each)


class KeepingExchange:
    """`plain` for a robust aggregator."""

    name, hides_updates, roster = "plain", False, None

    def open(self, context: RoundContext, length: int, min_survivors: int, agreed: tuple[str, ...] = ()) -> CoordinatorExchange:  # noqa: ARG002  # a plain sum shows each update anyway
        return KeepingCoordinator(context, length, min_survivors)


def robust_direction(
    secure: SecureConfig, updates: Mapping[str, Integers], grid: float, expected_units: Mapping[str, float]
) -> NDArray[np.float64]:
    """The estimator over u_s = γ·words_s / L_s, each site once.   (d,)

    Raises TooFewSurvivors with fewer than 2f + 3 sites: below that Krum promises nothing, and a trimmed mean little.
    """
    needed = 2 * secure.suspected_sites + 3
    if len(updates) < needed:
        raise TooFewSurvivors(
            f"{len(updates)} sites sent updates, and `{secure.aggregation}` against {secure.suspected_sites} poisoned ones needs {needed}; "
            "resume when the others are back, or lower `secure.suspected_sites`"
        )
    each = {site: to_floats(words.astype(np.int64), grid) / expected_units[site] for site, words in sorted(updates.items())}
    if secure.aggregation is Aggregation.TRIMMED_MEAN:
        # Half a site more than f: the fraction of n then cannot fall below f by rounding.
        cut = (secure.suspected_sites + 0.5) / len(each)
        trimmed: NDArray[np.float64] = trim_mean(np.stack(list(each.values())), cut)
        return trimmed
    records = [RecordDict({"update": ArrayRecord({"words": Array(update)})}) for update in each.values()]
    (chosen,) = select_multikrum(records, secure.suspected_sites, 1)
    array = chosen.array_records["update"]["words"].numpy()
    return np.asarray(array, np.float64)
