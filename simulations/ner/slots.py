"""The slots of the templates: what fills each, and the label its text carries."""

import random
from collections.abc import Callable
from functools import cache, partial

from client.deid.vocabulary.words import by_hand, words
from simulations.ner.lists import forms
from simulations.ner.names import People, eponyms
from simulations.ner.numbers import Numbers
from simulations.ner.places import Places

NOBODY = ""
"""The label of what identifies nobody."""


_NAMED = {
    "org": "companies", "school": "schools", "church": "churches", "employer": "employers", "unit": "wards", "pharmacy": "pharmacies", "home": "homes",
}  # fmt: skip
"""Slot → the list of forms that fills it."""


class Slots:
    """Fills the slots of one language's texts. Everything comes from the given source of randomness."""

    def __init__(self, rng: random.Random, language: str) -> None:
        people = People(rng, language)
        places, numbers = Places(rng, language, people), Numbers(rng, language, people)
        identifying: dict[str, dict[str, Callable[[], str]]] = {
            "NAME": {
                "name": people.name, "first": people.first, "last": people.last, "dr": people.doctor, "list": people.several, "nick": people.nickname,
                "init": people.initials,
            },
            "LOCATION": {
                "city": places.city, "country": places.country, "place": places.place, "state": places.state, "street": places.street,
                "streetname": places.street_name, "address": places.address, "zip": places.zip_code, "county": partial(places.named, "counties"),
                "landmark": partial(places.named, "landmarks"),
            },
            "ORGANIZATION": {"hospital": places.hospital, **{slot: partial(places.named, kind) for slot, kind in _NAMED.items()}},
            "DATE": {"date": numbers.date},
            "ID": {"phone": numbers.phone, "id": numbers.code, "email": numbers.email, "user": numbers.user},
        }  # fmt: skip
        plain: dict[str, Callable[[], str]] = {
            "age": lambda: str(rng.choice(range(18, 90))),
            "n": lambda: str(rng.choice(range(1, 200))),
            "drug": lambda: rng.choice(_drugs()),
            "Drug": lambda: rng.choice(_drugs()).capitalize(),
            "DRUG": lambda: rng.choice(_drugs()).upper(),
            "eponym": lambda: rng.choice(eponyms()).capitalize(),
            "ABBR": partial(_abbreviation, rng),
            "shorthand": partial(_shorthand, rng),
        }
        for form_language, disease, job in (("en", "disease", "job"), ("es", "enf", "trab"), ("de", "krank", "beruf")):
            a_disease, a_job = (partial(_any_of, rng, name, form_language) for name in ("diseases", "jobs"))
            plain |= {disease: a_disease, disease.capitalize(): partial(_capital, a_disease), job: a_job}
        self._slots = {slot: (label, fill) for label, group in {**identifying, NOBODY: plain}.items() for slot, fill in group.items()}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._slots)

    def fill(self, slot: str) -> tuple[str, str]:
        """(text, label) of a slot; the label is `NOBODY` for what identifies nobody."""
        label, fill = self._slots[slot]
        return fill(), label


def _any_of(rng: random.Random, name: str, language: str) -> str:
    return rng.choice(forms(name, language))


def _capital(make: Callable[[], str]) -> str:
    text = make()
    return text[:1].upper() + text[1:]


def _abbreviation(rng: random.Random) -> str:
    """One of the lists, or two to five capitals that are on none: wards invent their own."""
    if rng.random() < 0.7:
        return rng.choice(_abbreviations()).upper()
    return "".join(rng.choice("ABCDEFGHILMNOPRSTUVX") for _ in range(rng.randint(2, 5)))


def _shorthand(rng: random.Random) -> str:
    """A line as notes are jotted down: abbreviations with values, drugs with doses, findings, scores."""
    n = partial(rng.randint, 1, 180)
    forms = (
        lambda: _abbreviation(rng),
        lambda: f"{_abbreviation(rng)} {n()}",
        lambda: f"{_abbreviation(rng)} {n()}/{n()}",
        lambda: f"{rng.choice(_abbreviations())} {rng.choice(_COMMON_FINDINGS)}",
        lambda: f"{rng.choice(_drugs()).capitalize()} {n()}",
        lambda: f"{rng.choice(_drugs())} {n()} mg {rng.choice(('BID', 'qd', 'prn', 'TID', 'nocte', 'bd'))}",
        lambda: f"{rng.choice(eponyms()).capitalize()} {rng.choice((str(n()), 'neg', 'positive', 'II', 'absent', f'{n()}/15'))}",
        lambda: rng.choice(_COMMON_FINDINGS),
        lambda: f"{n()}.{n()}",
    )
    return "".join(rng.choice(forms)() + rng.choice((", ", ", ", ". ", "; ", " ", " -> ", " / ")) for _ in range(rng.randint(2, 9))).rstrip(
        " ,;/->"
    )


_COMMON_FINDINGS = (
    "neg", "pos", "wnl", "nl", "stable", "clear", "soft", "intact", "no edema", "x2", "bilat", "improving", "held", "sent", "pending", "mild", "on RA", "c/w",
    "s/p", "w/o", "hx", "trace", "moderate", "Stable", "Negative", "Normal", "Clear", "Denies", "Intact", "Moderate", "Pending", "Continue", "Held",
)  # fmt: skip


@cache
def _abbreviations() -> tuple[str, ...]:
    return tuple(sorted(word for word in by_hand("abbreviations") | by_hand("clinical") if 2 <= len(word) <= 6))


@cache
def _drugs() -> tuple[str, ...]:
    return tuple(sorted(by_hand("brands") | {w for w in words().common if len(w) > 6 and words().is_drug(w)}))
