"""Invented patients and staff, with every kind of identifier that Safe Harbor names. Seeded; nobody here exists.

Telephone numbers come from ranges reserved for fiction, addresses of mail and machines from reserved names (example.org,
203.0.113.0/24), so that nothing can be dialled or reached.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache

from faker import Faker

from simulations.seeding import stream

_LOCALES = ("en_US", "en_US", "en_US", "en_GB", "en_IN", "es_MX")


@cache
def _faker(locale: str) -> Faker:
    return Faker(locale)


@dataclass(frozen=True, slots=True)
class Person:
    """A name and the pronoun that goes with it."""

    first: str
    last: str
    gender: str

    @property
    def full(self) -> str:
        return f"{self.first} {self.last}"

    @property
    def honorific(self) -> str:
        return "Mrs" if self.gender == "female" else "Mr"


@dataclass(frozen=True, slots=True)
class Patient:
    """A patient and all that could identify them. `codes` maps a rare class of identifier to its value."""

    patient_id: str
    person: Person
    birth_date: date
    record_number: str
    street: str
    city: str
    postcode: str
    phone: str
    email: str
    relative: Person
    relation: str
    codes: Mapping[str, str]

    def age_on(self, day: date) -> int:
        born = self.birth_date
        return day.year - born.year - ((day.month, day.day) < (born.month, born.day))

    def record(self) -> dict[str, object]:
        """The line of patients.jsonl: what a hospital's own index would know."""
        return {
            "patient_id": self.patient_id,
            "names": [self.person.full],
            "birth_date": self.birth_date.isoformat(),
            "record_numbers": [self.record_number, self.codes["SSN"], self.codes["ACCOUNT"]],
            "phones": [self.phone],
            "emails": [self.email],
            "addresses": [f"{self.street}, {self.city} {self.postcode}"],
            "relatives": [self.relative.full],
            "gender": self.person.gender,
        }


RARE_CODES: tuple[str, ...] = (
    "FAX", "SSN", "HEALTH_PLAN", "ACCOUNT", "LICENSE", "VEHICLE", "DEVICE", "URL", "IP", "BIOMETRIC", "PHOTO", "OTHER",
)  # fmt: skip
"""Classes of identifier that a single note seldom has; notes take them in turn, so that every hospital has them all."""


def person(draw: random.Random, gender: str | None = None) -> Person:
    fake = _faker(draw.choice(_LOCALES))
    fake.seed_instance(draw.getrandbits(64))
    gender = gender or draw.choice(("female", "male"))
    first = fake.first_name_female() if gender == "female" else fake.first_name_male()
    # of "de la Cruz" the last word: a surname that is only "de" is nobody's
    return Person(first.split()[0], fake.last_name().split()[-1], gender)


def phone(draw: random.Random) -> str:
    area, line = draw.randint(201, 989), draw.randint(100, 199)
    return draw.choice(("({a}) 555-0{b}", "{a}-555-0{b}", "{a}.555.0{b}", "+1 {a} 555 0{b}")).format(a=area, b=line)


def patient(site: str, number: int, seed: int, *, today: date, child: bool = False, woman: bool = False, fertile: bool = False) -> Patient:
    """Patient `number` of a site: a child under 12, a woman, or a woman of childbearing age on request, otherwise an adult of either gender.

    About one in twenty adults is over 89, an age that Safe Harbor hides.
    """
    draw = random.Random(stream("patient", site, number, seed))
    somebody = person(draw, "female" if woman or fertile else None)
    fake = _faker("en_US")
    fake.seed_instance(draw.getrandbits(64))
    youngest, oldest = (2, 11) if child else (19, 42) if fertile else (90, 99) if draw.random() < 0.05 else (19, 88)
    years = draw.randint(youngest, oldest)
    digits = "".join(str(draw.randint(0, 9)) for _ in range(40))
    kin = person(draw)
    return Patient(
        patient_id=f"{site}-p{number:04d}",
        person=somebody,
        birth_date=today - timedelta(days=365 * years + years // 4 + draw.randint(1, 300)),
        record_number=draw.choice((digits[:7], f"H{digits[:7]}", f"{digits[:2]}-{digits[2:4]}-{digits[4:6]}-{digits[6:8]}", f"MR{digits[:8]}")),
        street=fake.street_address(),
        city=fake.city(),
        postcode=fake.postcode(),
        phone=phone(draw),
        email=f"{somebody.first}.{somebody.last}{digits[8:10]}@example.org".lower(),
        relative=kin,
        relation=draw.choice(("daughter", "sister", "mother", "wife")) if kin.gender == "female" else draw.choice(("son", "brother", "husband")),
        codes={
            "FAX": phone(draw),
            "SSN": f"9{digits[10:12]}-{digits[12:14]}-{digits[14:18]}",
            "HEALTH_PLAN": f"XW{fake.random_uppercase_letter()} {digits[18:21]} {digits[21:24]} {digits[24:27]}",
            "ACCOUNT": digits[:10][::-1],
            "LICENSE": f"{fake.random_uppercase_letter()}{digits[27:31]}-{digits[31:36]}",
            "VEHICLE": f"{digits[36]}{fake.random_uppercase_letter()}{fake.random_uppercase_letter()}{fake.random_uppercase_letter()}{digits[37:40]}",
            "DEVICE": f"PM-{digits[5:12]}X",
            "URL": f"https://portal.example.org/u/{somebody.first}.{somebody.last}".lower(),
            "IP": f"203.0.113.{draw.randint(1, 254)}",
            "BIOMETRIC": f"FP-{digits[14:20]}-{fake.random_uppercase_letter()}",
            "PHOTO": f"IMG_{digits[20:28]}_{somebody.last.lower()}.jpg",
            "OTHER": f"TRIAL-{fake.random_uppercase_letter()}{digits[28:33]}",
        },
    )  # fmt: skip
