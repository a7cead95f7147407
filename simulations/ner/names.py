"""Invented people: names of Faker's lists in many countries, and names nobody has.

A third of the names are spliced from two listed ones ("Kowalbrook"): a network that only ever met listed names would learn the list and
miss the rest.
"""

import importlib
import pkgutil
import random
from collections.abc import Sequence
from functools import cache

import faker.providers.person as persons

from client.deid.vocabulary.words import words

SPLICED_SHARE = 0.33
EPONYM_SHARE, BRAND_SHARE, WORD_SHARE = 0.15, 0.05, 0.1
"""Of the family names: whoever gave a sign, a scale or a firm its name had a family, and many are called Hopper or Cotton; lists of eponyms,
brands and words must not hide them."""

_REST = 1 - EPONYM_SHARE - BRAND_SHARE - WORD_SHARE
INITIALS = "ABCDEFGHJKLMNPRSTVW"

_GIVEN, _FAMILY = 0, 1
_FREQUENT_LOCALES = ("en_US", "en_US", "en_US", "en_GB", "en_GB", "es_ES", "es_ES", "es_MX", "de_DE", "de_DE")
_OWN_LOCALE = {"es": "es_ES", "de": "de_DE"}
_LATIN_LIMIT = 0x250
_PARTICLES = ("de", "van", "von", "de la", "del", "da", "Van", "De", "van der", "bin", "Le", "La", "St.", "ten", "ter", "du", "dos", "El", "Al", "af", "di", "della")  # fmt: skip
_BEFORE_NICKNAMES = ("Big", "Little", "Old", "Nana", "Papa", "Auntie", "Uncle", "Mama", "Cousin", "Coach", "Granny", "Baby", "Miss", "Aunt", "Tia", "Abuela")  # fmt: skip
_SHORT_FAMILY_NAMES = ("Li", "Wu", "Ng", "Le", "Xu", "Ho", "Vo", "Ma", "Yu", "Lo")


class People:
    """Names as the texts of one language write them."""

    def __init__(self, rng: random.Random, language: str) -> None:
        self._rng, self._language = rng, language

    def given_word(self) -> str:
        return self._word(_GIVEN)

    def family_word(self) -> str:
        (listed,) = self._rng.choices((eponyms, brands, word_surnames, None), (EPONYM_SHARE, BRAND_SHARE, WORD_SHARE, _REST))
        return self._word(_FAMILY) if listed is None else self._rng.choice(listed()).capitalize()

    def first(self) -> str:
        name = self.given_word()
        return f"{name} {self.given_word()}" if self._rng.random() < 0.06 else name

    def last(self) -> str:
        roll, name = self._rng.random(), self.family_word()
        if roll < 0.08:
            return f"{name}-{self.family_word()}"
        if roll < 0.12:
            return f"O'{name}" if roll < 0.10 else f"Mc{name}"
        if roll < 0.17:
            return f"{self._rng.choice(_PARTICLES)} {name}"
        if self._language == "es" and roll < 0.7:
            return f"{name} {self.family_word()}"
        return self._rng.choice(_SHORT_FAMILY_NAMES) if roll < 0.19 else name

    def name(self) -> str:
        first, last, rng = self.first(), self.last(), self._rng
        a, b = rng.choice(INITIALS), rng.choice(INITIALS)
        return rng.choice((
            *(f"{first} {last}",) * 8, f"{first} {a}. {last}", f"{first} {a} {last}", f"{a}. {last}", f"{last}, {first}",
            f"{last.upper()}, {first.upper()}", f"{first} {last} Jr.", f"{last}, {first} {a}.", f"{a}.{b}. {last}", f"{a}.{last}",
            f"{last}, {a}.", f"{last.upper()} {first}", f'{first} "{self.given_word()}" {last}', f"{first} {a}.{b}. {last}",
        ))  # fmt: skip

    def nickname(self) -> str:
        """What friends and families say: "Bo", "Katie", "Big Roy", "Nana Bea"."""
        name, rng = self.given_word(), self._rng
        short = name[: rng.randint(2, 4)]
        return rng.choice((
            short, short, f"{short}{short[-1]}y", f"{short}ie", f"{rng.choice(_BEFORE_NICKNAMES)} {name}", f"{rng.choice(_BEFORE_NICKNAMES)} {short}", name,
            f"{name} {rng.choice(INITIALS)}", f"{rng.choice(INITIALS)}.{rng.choice(INITIALS)}.", f"{rng.choice(INITIALS)}{rng.choice('JT')}",
        ))  # fmt: skip

    def initials(self) -> str:
        letters = [self._rng.choice(INITIALS) for _ in range(self._rng.choice((2, 2, 3)))]
        joined = self._rng.choice(("", "", ".")).join(letters)
        joined = f"{joined}." if "." in joined else joined
        return joined.lower() if self._rng.random() < 0.3 else joined

    def doctor(self) -> str:
        return self.last() if self._rng.random() < 0.6 else self.name()

    def several(self) -> str:
        return ", ".join(self.first() for _ in range(self._rng.randint(2, 5)))

    def _word(self, rank: int) -> str:
        rng = self._rng
        locale = rng.choice(_FREQUENT_LOCALES) if rng.random() < 0.55 else rng.choice(_locales())
        if self._language != "en" and rng.random() < 0.5:
            locale = _OWN_LOCALE.get(self._language, locale)
        name = rng.choice(_listed(locale)[rank])
        if rng.random() < SPLICED_SHARE:
            other = rng.choice(_listed(rng.choice(_locales()))[rank])
            name = name[: rng.randint(2, max(2, len(name) - 2))] + other[rng.randint(1, max(1, len(other) - 3)) :].lower()
        return name


@cache
def eponyms() -> tuple[str, ...]:
    return tuple(sorted(word for word in words().eponyms if len(word) > 3))


@cache
def brands() -> tuple[str, ...]:
    return tuple(sorted(word for word in words().brands if len(word) > 3))


@cache
def word_surnames() -> tuple[str, ...]:
    return tuple(sorted(words().word_surnames))


@cache
def _locales() -> tuple[str, ...]:
    """Those with given and family names in Latin script."""
    found = sorted(module.name for module in pkgutil.iter_modules(persons.__path__))
    return tuple(name for name in found if all(names and max(map(ord, names[0])) < _LATIN_LIMIT for names in _listed(name)))


@cache
def _listed(locale: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(given names, family names) of a locale; empty where it has none."""
    provider = importlib.import_module(f"{persons.__name__}.{locale}").Provider
    return _strings(getattr(provider, "first_names", ())), _strings(getattr(provider, "last_names", ()))


def _strings(names: object) -> tuple[str, ...]:
    return tuple(sorted({n for n in names if isinstance(n, str) and len(n) > 1})) if isinstance(names, Sequence | dict | set) else ()
