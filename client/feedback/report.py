"""The figures of agreement at one site, for the page and for `wardround-site agreement --json`: counts and coefficients, no text, no names.

Agreement is read from the first `votes_per_pair` votes on each question: a third vote is asked only where the first two differ, and counting
it would make agreement look worse than it is. Annotators appear as a1, a2, … in the order of their accounts.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from client.feedback.agreement import Estimate, alpha_interval, cohen, fleiss, interval, percent, table
from client.feedback.desk import Desk
from client.feedback.findings import PositionBias, Speed, Triples, circles, position_bias, speeds
from client.feedback.items import MAX_ANSWERS, Choice, Scale, Tag, Verdict
from client.feedback.settling import State
from common.journal import JSON

CATEGORIES = MAX_ANSWERS + 2
"""One for each answer, one for a tie, one for none is safe."""
_TIE, _UNSAFE = MAX_ANSWERS, MAX_ANSWERS + 1
SEED = 20110125
"""Of the bootstrap alone: the same votes give the same interval."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The coefficients of one group of questions."""

    percent: Estimate
    fleiss: Estimate
    alpha: Estimate


@dataclass(frozen=True, slots=True)
class Couple:
    """Two annotators on the questions that both judged."""

    first: str
    second: str
    questions: int
    cohen: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Everything that is known of one site's agreement. `names` maps a1, a2, … to what the administrator calls them; it stays on the page."""

    questions: int
    votes: int
    states: dict[str, int]
    overall: Figures
    by_task: dict[str, Figures]
    by_annotator: dict[str, Figures]
    by_tag: dict[str, Estimate]
    by_scale: dict[str, Estimate]
    couples: list[Couple]
    position: dict[str, PositionBias]
    speed: dict[str, Speed]
    triples: dict[str, Triples]
    names: dict[str, str]

    def to_json(self) -> dict[str, JSON]:
        """Without names: fit for a study board."""
        tree: dict[str, JSON] = asdict(self)
        return {key: value for key, value in tree.items() if key != "names"}


def agreement_of(desk: Desk) -> Agreement:
    """Read everything once and compute. Calibration items count for nobody's agreement."""
    store, settings = desk.store, desk.settings
    with store.locked():
        items = {item_id: item for item_id, item in store.items.items() if not item.calibration}
        people = {person_id: f"a{n}" for n, person_id in enumerate(store.people, 1)}
        names = {people[person.person_id]: person.name for person in store.people.values() if person.labels}
        votes = {item_id: _first(store.of_item(item_id), settings.votes_per_pair) for item_id in items}
        by_person: defaultdict[str, list[Choice]] = defaultdict(list)
        for choice in store.choices():
            if choice.vote and choice.item_id in items:
                by_person[people.get(choice.person_id, "gone")].append(choice)
        outcomes = desk.outcomes()
    states = Counter(outcome.state.value for outcome in outcomes.values())
    by_task: defaultdict[str, list[Sequence[Choice]]] = defaultdict(list)
    for item_id, choices in votes.items():
        by_task[items[item_id].task].append(choices)
    of_whom = {code: [c for c in votes.values() if any(people.get(v.person_id) == code for v in c)] for code in names}
    shared = list(votes.values())
    return Agreement(
        questions=len(items),
        votes=sum(map(len, by_person.values())),
        states={state.value: states[state.value] for state in State},
        overall=_figures(shared),
        by_task={task: _figures(choices) for task, choices in sorted(by_task.items())},
        by_annotator={code: _figures(choices) for code, choices in of_whom.items() if choices},
        by_tag={tag.value: _of_tag(tag, shared) for tag in Tag},
        by_scale={scale.value: _of_scale(scale, shared) for scale in Scale},
        couples=_couples(shared, people),
        position={code: position_bias(choices) for code, choices in sorted(by_person.items())},
        speed=dict(sorted(speeds(by_person, items).items())),
        triples={code: circles(choices, items) for code, choices in sorted(by_person.items())},
        names=names,
    )


def category(choice: Choice) -> int:
    """The answer's index in the item, which means the same to every annotator whatever order they saw."""
    if choice.verdict is Verdict.ANSWER and choice.chosen is not None:
        return choice.chosen
    return _TIE if choice.verdict is Verdict.TIE else _UNSAFE


def _first(choices: Sequence[Choice], number: int) -> list[Choice]:
    return sorted((c for c in choices if c.vote), key=lambda c: (c.at, c.person_id))[:number]


def _rng() -> np.random.Generator:
    return np.random.default_rng(SEED)


def _figures(groups: Sequence[Sequence[Choice]]) -> Figures:
    counts = table([[category(choice) for choice in group] for group in groups], CATEGORIES)
    numbers = Counter(int(n) for n in counts.sum(1) if n >= 2)
    usual = numbers.most_common(1)[0][0] if numbers else 2  # Fleiss' κ needs one number of votes: the one most questions have
    return Figures(
        percent=interval(counts, percent, _rng()),
        fleiss=interval(counts[counts.sum(1) == usual], lambda drawn: fleiss(drawn)[0], _rng()),
        alpha=alpha_interval(counts, _rng()),
    )


def _of_tag(tag: Tag, groups: Sequence[Sequence[Choice]]) -> Estimate:
    """Whether annotators give the same answers this tag: one unit an answer, two categories."""
    rows = []
    for group in groups:
        for index in range(len(group[0].order) if group else 0):
            rows.append([int((index, tag) in choice.remarks.tags) for choice in group])
    return alpha_interval(table(rows, 2), _rng())


def _of_scale(scale: Scale, groups: Sequence[Sequence[Choice]]) -> Estimate:
    """Ordinal α of the ratings from 1 to 5: one unit an answer."""
    rows = []
    for group in groups:
        for index in range(len(group[0].order) if group else 0):
            rows.append([number - 1 for choice in group for i, of, number in choice.remarks.ratings if (i, of) == (index, scale)])
    return alpha_interval(table(rows, 5), _rng(), "ordinal", resamples=500)


def _couples(groups: Sequence[Sequence[Choice]], people: dict[str, str]) -> list[Couple]:
    together: defaultdict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for group in groups:
        said = sorted((people.get(choice.person_id, "gone"), category(choice)) for choice in group)
        for place, (first, vote) in enumerate(said):
            for second, other in said[place + 1 :]:
                together[first, second].append((vote, other))
    found = []
    for (first, second), pairs in sorted(together.items()):
        kappa, error = cohen([a for a, _ in pairs], [b for _, b in pairs], CATEGORIES)
        low, high = (None, None) if kappa is None or error is None else (max(-1.0, kappa - 1.96 * error), min(1.0, kappa + 1.96 * error))
        found.append(Couple(first, second, len(pairs), kappa, low, high))
    return found
