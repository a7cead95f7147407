"""Invented dates, telephone numbers, record numbers and addresses of mail, in the forms people write them."""

import random

from simulations.ner.lists import forms
from simulations.ner.names import INITIALS, People

_MAIL_HOSTS = ("gmail.com", "hotmail.com", "example.org", "nhs.net")


class Numbers:
    """Numbers as the texts of one language write them."""

    def __init__(self, rng: random.Random, language: str, people: People) -> None:
        self._rng, self._language, self._people = rng, language, people

    def date(self) -> str:
        rng = self._rng
        day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(1925, 2026)
        name = forms("months", self._language)[month - 1]
        english = (
            f"{month}/{day}/{year}", f"{month:02}/{day:02}/{year % 100:02}", f"{year}-{month:02}-{day:02}", f"{name} {day}, {year}",
            f"{day} {name} {year}", f"{day:02}-{name[:3]}-{year}", f"{name} {day}th", f"{month}/{day}", f"{name} of {year}",
        )  # fmt: skip
        spanish = (f"{day}/{month}/{year}", f"{day} de {name} de {year}", f"{day:02}-{month:02}-{year}", f"{name} de {year}", f"{day} de {name}")  # fmt: skip
        german = (f"{day}.{month}.{year}", f"{day:02}.{month:02}.{year}", f"{day}. {name} {year}", f"{name} {year}", f"{day:02}.{month:02}.{year % 100:02}")  # fmt: skip
        return rng.choice({"en": english, "es": spanish, "de": german}[self._language])

    def phone(self) -> str:
        d = self._digits
        return self._rng.choice((
            f"({d(3)}) {d(3)}-{d(4)}", f"{d(3)}-{d(3)}-{d(4)}", f"+{d(2)} {d(3)} {d(6)}", f"0{d(3)} {d(7)}", f"{d(3)}-{d(4)}",
            f"{d(3)} {d(2)} {d(2)} {d(2)}", f"0{d(4)}/{d(5)}", f"{d(3)}.{d(3)}.{d(4)}",
        ))  # fmt: skip

    def code(self) -> str:
        d, letters = self._digits, "".join(self._rng.choice(INITIALS) for _ in range(2))
        return self._rng.choice((
            d(7), d(8), d(10), f"{letters}{d(6)}", f"{d(3)}-{d(2)}-{d(4)}", f"{letters}-{d(5)}", f"{d(2)} {d(2)} {d(5)}",
            f"{d(8)}{letters[:1]}", f"{letters}{d(2)} {d(4)} {d(4)}", d(16), d(6),
        ))  # fmt: skip

    def email(self) -> str:
        first, last = self._people.given_word().lower(), self._people.family_word().lower()
        return f"{first}{self._rng.choice(('.', '_', ''))}{last}@{self._rng.choice(_MAIL_HOSTS)}"

    def _digits(self, count: int) -> str:
        return "".join(str(self._rng.randint(0, 9)) for _ in range(count))
