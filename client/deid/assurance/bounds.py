"""How few leaks were seen, and how many there may be all the same."""

from scipy.special import betaincinv

CONFIDENCE = 0.95


def upper_bound(leaking: int, notes: int) -> float:
    """The largest share of leaking notes that would show as few as `leaking` among `notes` with probability 5 %. Clopper and Pearson 1934."""
    return 1.0 if leaking >= notes else float(betaincinv(leaking + 1, notes - leaking, CONFIDENCE))
