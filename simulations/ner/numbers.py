"""Invented dates, telephone numbers, record numbers and addresses of mail, in the forms people write them."""

import random

from simulations.ner.lists import forms
from simulations.ner.names import INITIALS, People

_MAIL_HOSTS = ("gmail.com", "hotmail.com", "example.org", "nhs.net")

_BARE = 7
"""How many of forty dates are a month and a day alone: notes in English have more of them than of any other form, and nothing announces them."""


class Numbers:
    """Numbers as the texts of one language write them."""

    def __init__(self, rng: random.Random, language: str, people: People) -> None:
        self._rng, self._language, self._people = rng, language, people

    def date(self) -> str:
        rng = self._rng
        day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(1925, 2026)
        name = forms("months", self._language)[month - 1]
        if self._language == "en":
            return rng.choice(self._english_dates(day, month, year, name))
        spanish = (f"{day}/{month}/{year}", f"{day} de {name} de {year}", f"{day:02}-{month:02}-{year}", f"{name} de {year}", f"{day} de {name}")  # fmt: skip
        german = (f"{day}.{month}.{year}", f"{day:02}.{month:02}.{year}", f"{day}. {name} {year}", f"{name} {year}", f"{day:02}.{month:02}.{year % 100:02}")  # fmt: skip
        return rng.choice(spanish if self._language == "es" else german)

    def _english_dates(self, day: int, month: int, year: int, name: str) -> tuple[str, ...]:
        """Of one day, in the forms of forms, letters, jottings and dictation."""
        rng, short, later = self._rng, year % 100, min(day + self._rng.randint(1, 6), 28)
        ordinal = f"{day}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(day if day < 4 else day % 10 if day > 20 else 0, 'th') }"
        return (
            f"{month}/{day}/{year}", f"{month:02}/{day:02}/{short:02}", f"{year}-{month:02}-{day:02}", f"{name} {day}, {year}",
            f"{day} {name} {year}", f"{day:02}-{name[:3]}-{year}", f"{name} {ordinal}", f"{name} of {year}", f"{name[:3]} {day}",
            *[f"{month}/{day}"] * _BARE, f"{day}/{month}", f"{month}-{day}", f"{month}/{day}-{month}/{later}", f"{month}/{year}",
            f"{day:02}{name[:3]}", f"{day:02}{name[:3].upper()}{short:02}", f"{month}.{day}.{short:02}", f"{month} {day} {short:02}", f"{month}.{day}",
            f"the {ordinal} of {name}", f"{name} the {forms('ordinals')[day - 1]}", f"{day}.{month:02}.{year}", f"{month:02}/{short:02}",
            f"{forms('ordinals')[day - 1]} of {name}", f"{name} {forms('ordinals')[day - 1]} {year}", f"{name[:3]}. {day}, '{short:02}",
            f"{rng.choice(('Mon', 'Tues', 'Wed', 'Thurs', 'Fri'))} {month}/{day}", f"{name} {day}-{later}", rng.choice(forms("holidays")),
            f"{year}-{month:02}-{day:02}T0{rng.randint(1, 9)}:{day + 10}", f"{day}/{month:02}/{short:02}",
        )  # fmt: skip

    def phone(self) -> str:
        d = self._digits
        return self._rng.choice((
            f"({d(3)}) {d(3)}-{d(4)}", f"{d(3)}-{d(3)}-{d(4)}", f"+{d(2)} {d(3)} {d(6)}", f"0{d(3)} {d(7)}", f"{d(3)}-{d(4)}",
            f"{d(3)} {d(2)} {d(2)} {d(2)}", f"0{d(4)}/{d(5)}", f"{d(3)}.{d(3)}.{d(4)}", f"{d(3)} {d(3)} {d(4)}", f"{d(10)}", f"x{d(4)}", f"{d(4)}",
            f"0{d(2)} {d(4)} {d(4)}", f"({d(2)}) {d(4)} {d(4)}", f"{d(3)}-{d(3)}-{d(4)} ext {d(3)}", f"{d(3)} . {d(3)} . {d(4)}",
        ))  # fmt: skip

    def code(self) -> str:
        d, letters = self._digits, "".join(self._rng.choice(INITIALS) for _ in range(2))
        return self._rng.choice((
            d(7), d(8), d(10), f"{letters}{d(6)}", f"{d(3)}-{d(2)}-{d(4)}", f"{letters}-{d(5)}", f"{d(2)} {d(2)} {d(5)}",
            f"{d(8)}{letters[:1]}", f"{letters}{d(2)} {d(4)} {d(4)}", d(16), d(6), f"{letters[:1]}{d(2)}-{d(5)}", f"{letters}{d(3)}", d(4), d(5),
            f"{d(2)}-{letters}-{d(4)}", f"{d(3)} {d(3)} {d(4)}", f"{d(1)}{letters}{d(1)}-{letters}{d(1)}-{letters}{d(2)}", f"{letters[:1]}.{d(3)}.{d(3)}",
            f"{d(2)}-{d(2)}-{d(2)}", f"{d(3)}/{d(4)}", f"{letters}-{d(2)}-{d(6)}", f"{letters}/{d(2)}/{d(4)}", f"#{d(5)}", f"{letters}{d(2)} {letters}",
            f"{d(4)}-{d(2)}", f"{d(1)}-{d(3)}-{d(2)}", f"{letters[:1]}{d(1)}{letters}{d(1)}{letters[1:]}", f"{letters}{letters[:1]} {d(5)}",
        ))  # fmt: skip

    def user(self) -> str:
        """As somebody is called by a machine: "jokonkwo", "t.abara", "mlz0412"."""
        first, last, rng = self._people.given_word().lower(), self._people.family_word().lower(), self._rng
        return rng.choice(
            (f"{first[0]}{last}", f"{first[0]}.{last}", f"{last}{first[0]}", f"{first[:3]}{self._digits(4)}", f"{first}_{last[0]}")
        )

    def email(self) -> str:
        first, last = self._people.given_word().lower(), self._people.family_word().lower()
        return f"{first}{self._rng.choice(('.', '_', ''))}{last}@{self._rng.choice(_MAIL_HOSTS)}"

    def _digits(self, count: int) -> str:
        return "".join(str(self._rng.randint(0, 9)) for _ in range(count))
