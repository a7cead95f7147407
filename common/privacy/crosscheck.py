"""Two other accountants, by other people and other mathematics, for the figures of `accounting.py`. They decide nothing.

`epsilon_prv` (Gopi et al. 2021, in Opacus) must agree with the PLD within its own error; `epsilon_rdp` (Mironov 2017, in Google's library)
must not be smaller. The tests hold both against a table, and the certificate of a release prints them beside ours.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterable, Iterator

from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.rdp import RdpAccountant
from opacus.accountants import PRVAccountant

from common.privacy.accounting import merge
from common.privacy.mechanism import Mechanism

PRV_ERROR = 0.01
"""What the PRV accountant adds to stay an upper bound; differences below it mean nothing."""


def epsilon_prv(mechanisms: Iterable[Mechanism], delta: float) -> float:
    """ε(δ) by numerical composition of privacy random variables; an upper bound with an additive error of PRV_ERROR."""
    accountant = PRVAccountant()
    accountant.history = list(merge(mechanisms))
    with warnings.catch_warnings():
        # Opacus sizes its grid with a short list of Rényi orders and says so; a wider grid than needed only costs time.
        warnings.filterwarnings("ignore", message="Optimal order is the (largest|smallest) alpha")
        return float(accountant.get_epsilon(delta, eps_error=PRV_ERROR))


def epsilon_rdp(mechanisms: Iterable[Mechanism], delta: float) -> float:
    """ε(δ) by Rényi differential privacy: never below the truth, and 4-15 % above it on long runs, more on short ones."""
    accountant = RdpAccountant()
    with _quiet(logging.getLogger("absl")):
        for sigma, rate, steps in merge(mechanisms):
            accountant.compose(PoissonSampledDpEvent(rate, GaussianDpEvent(sigma)), steps)
    return float(accountant.get_epsilon(delta))


@contextlib.contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Google's library logs each Rényi order that does not converge and leaves it out: the minimum over the others is still a bound."""
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
