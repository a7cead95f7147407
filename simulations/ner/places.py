"""Invented places and institutions: towns and countries of GeoNames, roads, addresses, hospitals, companies."""

import random
import re
from collections.abc import Callable
from functools import cache

from client.deid.vocabulary.words import everyday, stored_places, words
from simulations.ner.lists import forms
from simulations.ner.names import INITIALS, People

_TOWN_ENDINGS = ("ville", "ton", "burg", "bury", "berg", "a", "o", "ford", " City", "ov", "dorf", "stad", "by")
_SHORT_COUNTRIES = ("United States", "United Kingdom", "USA", "UK", "the Netherlands", "España", "Deutschland", "Österreich")
_COMPASS = ("N", "S", "E", "W", "North", "NW")
_ABBREVIATED_STATES = 50
_HOLE = re.compile(r"\{(\w)\}")
_LISTED = {"q": "qualities", "t": "things", "m": "specialties", "b": "businesses", "g": "signs", "s": "suffixes"}
_LONGEST_ON_A_SIGN = 9
_HIGHEST_HOUSE_NUMBERS = (20, 300, 9999, 99999)


class Places:
    """Places as the texts of one language write them; roads and institutions are often named after people."""

    def __init__(self, rng: random.Random, language: str, people: People) -> None:
        self._rng, self._language, self._people = rng, language, people

    def city(self) -> str:
        rng = self._rng
        if rng.random() < 0.22:
            return self._people.family_word() + rng.choice(_TOWN_ENDINGS)
        town = rng.choice(rng.choice(_places()[1:]))
        return town.upper() if rng.random() < 0.06 else town

    def country(self) -> str:
        return self._rng.choice(_places()[0] if self._rng.random() < 0.85 else _SHORT_COUNTRIES)

    def state(self) -> str:
        return self._rng.choice(forms("states"))

    def place(self) -> str:
        roll = self._rng.random()
        return self.country() if roll < 0.4 else self._rng.choice(forms("states")[_ABBREVIATED_STATES:]) if roll < 0.5 else self.city()

    def street_name(self) -> str:
        return f"{self._road()} {self._rng.choice(forms('suffixes'))}"

    def street(self) -> str:
        rng = self._rng
        form = rng.choice(forms("streets", self._language if rng.random() < 0.65 else "xx"))
        while "{" in form:
            form = form.replace("{n}", str(rng.randint(1, rng.choice(_HIGHEST_HOUSE_NUMBERS))), 1)
            form = form.replace("{w}", self._road(), 1).replace("{s}", rng.choice(forms("suffixes")), 1)
            form = form.replace("{d}", rng.choice(_COMPASS), 1)
            form = form.replace("{l}", rng.choice("ABCD"), 1).replace("{m}", rng.choice(("", "a", "b")), 1)
        return form

    def address(self) -> str:
        rng, street, city, code = self._rng, self.street(), self.city(), self.zip_code()
        if self._language == "de":
            return f"{street}, {code} {city}"
        if self._language == "es":
            return rng.choice((f"{street}, {code} {city}", f"{street}. {code} {city} ({self.city()})", f"{street}, {city}"))
        door = rng.choice(("", "", f" Apt. {rng.randint(1, 999)}", f" Suite {rng.randint(1, 999)}"))
        line = rng.choice((", ", ", ", "\n", "\n ", " "))
        return rng.choice((
            f"{street}{door}{line}{city}, {self.state()} {code}",
            f"{street}{line}{city}{line}{self.country()} {code}",
            f"{rng.randint(1, 9999)} {street}{door}{line}{city}{line}{self.country()} {code}",
            f"{street}, {city}",
            f"{street}{door}{line}{city}\n, {self.state()[:2].upper()} {code}",
            f"{street}, {city}, {self.country()}",
            f"{street}{line}{city} {code}",
        ))  # fmt: skip

    def zip_code(self) -> str:
        rng = self._rng
        if self._language != "en" or rng.random() < 0.7:
            return f"{rng.randint(1000, 99999):05}"
        a, b, c, d, e = (rng.choice(INITIALS) for _ in range(5))
        n, m, k = (rng.randint(1, 9) for _ in range(3))
        return rng.choice((
            f"{a}{b}{n}{m} {k}{c}{d}", f"{a}{n}{b} {m}{c}{k}", f"{a}{n} {m}{d}{e}", f"{rng.randint(1000, 9999)}",
            f"{rng.randint(10000, 99999)}-{n}{m}{k}{n}",
        ))  # fmt: skip

    def named(self, kind: str) -> str:
        """A company, school, church, park… of a kind that `lists.toml` has forms for."""
        return self._filled(self._rng.choice(forms(kind)))

    def hospital(self) -> str:
        return self._filled(self._rng.choice(forms("hospitals", self._language)))

    def _filled(self, form: str) -> str:
        makers: dict[str, Callable[[], str]] = {
            "w": self._road,
            "p": self._people.family_word,
            "f": self._people.given_word,
            "c": self.city,
        }
        while (match := _HOLE.search(form)) is not None:
            make = makers.get(match.group(1))
            form = form[: match.start()] + (make() if make else self._listed(match.group(1))) + form[match.end() :]
        return form

    def _listed(self, hole: str) -> str:
        if hole == "e":
            return self._rng.choice(_everyday(self._language)).capitalize()
        return str(self._rng.randint(1, 299)) if hole == "n" else self._rng.choice(forms(_LISTED[hole]))

    def _road(self) -> str:
        roll, people = self._rng.random(), self._people
        if roll < 0.5:
            return people.family_word()
        if roll < 0.7:
            return self.city()
        return people.given_word() if roll < 0.8 else self._rng.choice(forms("roads"))


@cache
def _places() -> tuple[tuple[str, ...], ...]:
    """Countries first, then towns."""
    return tuple(tuple(names) for names in stored_places().values())


@cache
def _everyday(language: str) -> tuple[str, ...]:
    """What institutions may be called besides: any word of the dictionary that is short enough for a sign over a door."""
    known = everyday(language) & words().common if language == "en" else everyday(language)
    return tuple(sorted(word for word in known if word.isalpha() and 3 <= len(word) <= _LONGEST_ON_A_SIGN))
