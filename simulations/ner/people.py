"""Invented people, places and numbers for the slots of the templates: Faker's lists of many countries, and names nobody has.

A third of the names are spliced from two listed ones ("Kowalbrook"): a network that only ever met listed names would learn the list and
miss the rest.
"""

import importlib
import pkgutil
import random
from collections.abc import Callable, Sequence
from functools import cache

import faker.providers.person as persons

from client.deid.words import by_hand, stored_places, words

SPLICED_SHARE = 0.33
_MAIN = ("en_US", "en_US", "en_US", "en_GB", "en_GB", "es_ES", "es_ES", "es_MX", "de_DE", "de_DE")
_LATIN_LIMIT = 0x250

_STREETS = {
    "en": ("{n} {w} {s}", "{n} {w} {w} {s}", "{n} {w} {s} Apt. {n}", "{n} {w} {s}, Suite {n}", "{n} {d} {w} {s}", "{n}-{n} {w} {s}", "Flat {n}, {n} {w} {s}", "the corner of {w} {s} and {w} {s}", "P.O. Box {n}", "Unit {n} {n} {w} {s}"),
    "es": ("C/ {w}, {n}", "Calle {w}, {n}, {n}º {l}", "Calle de {w} {n}", "Avda. de la {w} s/n", "Av. {w} {w}, nº {n}", "Paseo de {w}, {n}", "Plaza {w}, {n}", "C/ {w} {w} nº{n}, {n}-{l}", "Ctra. de {w}, km {n}", "Ronda {w} {n}, bajo", "Urb. {w}, {n}", "c/ San {w} {n}-{n}"),
    "de": ("{w}straße {n}", "{w}str. {n}", "{w} Straße {n}", "{w}weg {n}{m}", "Am {w}platz {n}", "{w}allee {n}", "An der {w} {n}", "{w}gasse {n}"),
    "xx": ("{n} {w} {n}", "{w}vej {n}", "{w}gatan {n}", "{w}katu {n}", "Rue {w} {n}", "{n} rue de {w}", "Via {w}, {n}", "ul. {w} {n}", "{w} utca {n}.", "{w}laan {n}", "{w}straat {n}", "Rua {w} {n}", "{n} {w}", "{w} {n} Apt. {n}", "{w}veien {n}", "{n} Avenue {w}"),
}  # fmt: skip
_SUFFIXES = [
    "Street",
    "St",
    "St.",
    "Avenue",
    "Ave",
    "Ave.",
    "Road",
    "Rd",
    "Rd.",
    "Drive",
    "Dr",
    "Lane",
    "Ln",
    "Boulevard",
    "Blvd",
    "Court",
    "Ct",
    "Place",
    "Way",
    "Close",
    "Crescent",
    "Terrace",
    "Gardens",
    "Square",
    "Hill",
    "Highway",
    "Parkway",
    "Circle",
    "Trail",
    "Walk",
    "Grove",
    "Mews",
    "Row",
]
_COMPANY = ("{w} Inc", "{w} LLC", "{w}-{w}", "{w} & {w}", "{w}, {w} and {w}", "{w} Group", "{w} Ltd", "{w} GmbH", "{w} S.A.", "{w} Insurance", "{w} Industries", "{w} Logistics", "{w} Foods", "{w} Partners", "{w} Systems", "{w} Holdings", "{w} Bank", "{w} Corporation", "{w} Global", "{w}soft", "{w} Media")  # fmt: skip
_HOSPITAL = {
    "en": ("{w} Hospital", "{w} Medical Center", "{w} General Hospital", "{w} Memorial Hospital", "St. {f}'s Hospital", "University of {c} Hospital", "{c} Regional Medical Center", "{w} Clinic", "{w} Family Practice", "{c} Health Centre", "{w} Nursing Home", "{w} Surgery", "{w} Infirmary", "{c} Community Hospital", "{w} House", "Royal {c} Hospital", "{c} VA Medical Center", "Mount {w} Hospital", "{w} Rehab", "Urgent Care of {c}", "{w} Urgent Care", "{w} Dept of Health", "State of {w} Dept of Services", "{w} Home", "{c} PC", "{w} Associates LLC"),
    "es": ("Hospital {w}", "Hospital Universitario {w}", "Hospital General de {c}", "Hospital Clínico de {c}", "Clínica {w}", "Hospital San {f}", "Hospital Virgen de {w}", "Centro de Salud {w}", "Complejo Hospitalario de {c}", "Fundación {w}", "Hospital Universitario de {c}", "Instituto {w}"),
    "de": ("Klinikum {c}", "Universitätsklinikum {c}", "St. {f} Krankenhaus", "{f}-Hospital {c}", "Krankenhaus {c}", "Praxis Dr. {w}", "{w}klinik {c}", "Kreiskrankenhaus {c}", "MVZ {c}", "Reha-Klinik {w}"),
}  # fmt: skip
_MONTHS = {
    "en": ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"],
    "es": ["enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre", "noviembre", "diciembre"],
    "de": ["Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober", "November", "Dezember"],
}
_JOBS = {
    "en": [
        "teacher",
        "plumber",
        "accountant",
        "retired nurse",
        "bus driver",
        "farmer",
        "software engineer",
        "machinist",
        "chef",
        "electrician",
        "lawyer",
        "police officer",
        "cleaner",
        "carpenter",
        "secretary",
        "student",
        "baker",
        "painter",
        "welder",
        "journalist",
        "pilot",
        "minister",
        "senator",
        "coach",
        "producer",
    ],
    "es": [
        "agricultor",
        "profesora",
        "albañil",
        "camarera",
        "conductor",
        "enfermera",
        "carpintero",
        "administrativa",
        "jubilado",
        "ama de casa",
        "cocinero",
        "ganadero",
    ],
    "de": [
        "Lehrerin",
        "Bäcker",
        "Landwirt",
        "Verkäuferin",
        "Rentner",
        "Ingenieur",
        "Krankenschwester",
        "Schreiner",
        "Sekretärin",
        "Kraftfahrer",
        "Koch",
        "Hausfrau",
    ],
}
_DISEASES = {
    "en": [
        "hypertension",
        "type 2 diabetes mellitus",
        "chest pain",
        "asthma",
        "pneumonia",
        "atrial fibrillation",
        "COPD",
        "depression",
        "low back pain",
        "migraine",
        "heart failure",
        "gastroenteritis",
        "a fracture of the left wrist",
        "urinary tract infection",
        "chronic kidney disease",
        "rheumatoid arthritis",
        "anemia",
        "osteoarthritis of the right knee",
        "shortness of breath",
        "abdominal pain",
        "eczema",
        "gout",
        "a rash",
        "breast cancer",
        "otitis media",
        "cellulitis",
        "appendicitis",
        "dizziness",
        "fever and cough",
        "a productive cough",
    ],
    "es": [
        "dolor abdominal",
        "hipertensión arterial",
        "diabetes mellitus tipo 2",
        "neumonía",
        "cefalea",
        "fiebre",
        "disnea",
        "dolor torácico",
        "infección urinaria",
        "insuficiencia renal",
        "fibrilación auricular",
        "lumbalgia",
        "asma bronquial",
        "hematuria",
        "anemia",
        "una masa pélvica",
        "apendicitis aguda",
        "carcinoma de vejiga",
        "cardiopatía isquémica",
        "artritis",
    ],
    "de": [
        "Bauchschmerzen",
        "arterielle Hypertonie",
        "Diabetes mellitus Typ 2",
        "Pneumonie",
        "Kopfschmerzen",
        "Vorhofflimmern",
        "Rückenschmerzen",
        "Luftnot",
        "Herzinsuffizienz",
        "Asthma bronchiale",
        "Nierenversagen",
        "Schwindel",
        "Husten",
        "Hüftfraktur",
        "Depression",
        "Harnwegsinfekt",
        "Anämie",
        "Gallensteine",
        "Sepsis",
        "Übelkeit und Erbrechen",
    ],
}
_STATES = [
    "AL",
    "AK",
    "AZ",
    "AR",
    "CA",
    "CO",
    "CT",
    "DE",
    "FL",
    "GA",
    "HI",
    "ID",
    "IL",
    "IN",
    "IA",
    "KS",
    "KY",
    "LA",
    "ME",
    "MD",
    "MA",
    "MI",
    "MN",
    "MS",
    "MO",
    "MT",
    "NE",
    "NV",
    "NH",
    "NJ",
    "NM",
    "NY",
    "NC",
    "ND",
    "OH",
    "OK",
    "OR",
    "PA",
    "RI",
    "SC",
    "SD",
    "TN",
    "TX",
    "UT",
    "VT",
    "VA",
    "WA",
    "WV",
    "WI",
    "WY",
    "Alabama",
    "California",
    "Colorado",
    "Florida",
    "Georgia",
    "Illinois",
    "Iowa",
    "Kansas",
    "Michigan",
    "Nebraska",
    "Nevada",
    "Ohio",
    "Oregon",
    "Texas",
    "Utah",
    "Virginia",
    "Washington",
    "Wisconsin",
    "ON",
    "Ontario",
    "Alberta",
    "Victoria",
    "Queensland",
]
_INITIALS = "ABCDEFGHJKLMNPRSTVW"


@cache
def _names(locale: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    provider = importlib.import_module(f"{persons.__name__}.{locale}").Provider
    return _listed(getattr(provider, "first_names", ())), _listed(getattr(provider, "last_names", ()))


def _listed(names: object) -> tuple[str, ...]:
    return tuple(sorted({n for n in names if isinstance(n, str) and len(n) > 1})) if isinstance(names, Sequence | dict | set) else ()


@cache
def _locales() -> tuple[str, ...]:
    """Those with given and family names in Latin script."""
    found = sorted(module.name for module in pkgutil.iter_modules(persons.__path__))
    return tuple(name for name in found if all(names and max(map(ord, names[0])) < _LATIN_LIMIT for names in _names(name)))


@cache
def _towns() -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(names) for names in stored_places().values())


@cache
def _drugs() -> tuple[str, ...]:
    return tuple(sorted(by_hand("brands") | {w for w in words().common if len(w) > 6 and words().is_drug(w)}))


@cache
def _eponyms() -> tuple[str, ...]:
    return tuple(sorted(word for word in words().eponyms if len(word) > 3))


class Maker:
    """Fills slots. Everything comes from the given source of randomness."""

    def __init__(self, rng: random.Random, language: str) -> None:
        self._rng, self._language = rng, language

    def fill(self, slot: str) -> tuple[str, str]:
        """(text, label) of a slot; the label is empty for what identifies nobody."""
        label, make = _SLOTS[slot]
        return make(self), label

    # ---- people

    def _word(self, rank: int) -> str:
        rng = self._rng
        locale = rng.choice(_MAIN) if rng.random() < 0.55 else rng.choice(_locales())
        if self._language != "en" and rng.random() < 0.5:
            locale = {"es": "es_ES", "de": "de_DE"}.get(self._language, locale)
        name = rng.choice(_names(locale)[rank])
        if rng.random() < SPLICED_SHARE:
            other = rng.choice(_names(rng.choice(_locales()))[rank])
            name = name[: rng.randint(2, max(2, len(name) - 2))] + other[rng.randint(1, max(1, len(other) - 3)) :].lower()
        return name

    def first(self) -> str:
        name = self._word(0)
        return f"{name} {self._word(0)}" if self._rng.random() < 0.06 else name

    def last(self) -> str:
        roll, name = self._rng.random(), self._word(1)
        if roll < 0.08:
            return f"{name}-{self._word(1)}"
        if roll < 0.12:
            return f"O'{name}" if roll < 0.10 else f"Mc{name}"
        if roll < 0.17:
            return f"{self._rng.choice(('de', 'van', 'von', 'de la', 'del', 'da', 'Van', 'De', 'van der', 'bin', 'Le', 'La', 'St.', 'ten', 'ter', 'du', 'dos', 'El', 'Al', 'af', 'di', 'della'))} {name}"
        if self._language == "es" and roll < 0.7:
            return f"{name} {self._word(1)}"
        return self._rng.choice(("Li", "Wu", "Ng", "Le", "Xu", "Ho", "Vo", "Ma", "Yu", "Lo")) if roll < 0.19 else name

    def name(self) -> str:
        first, last, rng = self.first(), self.last(), self._rng
        initial = rng.choice(_INITIALS)
        forms = (f"{first} {last}",) * 8 + (f"{first} {initial}. {last}", f"{first} {initial} {last}", f"{initial}. {last}", f"{last}, {first}", f"{last.upper()}, {first.upper()}", f"{first} {last} Jr.", f"{last}, {first} {initial}.", f"{initial}.{rng.choice(_INITIALS)}. {last}")  # fmt: skip
        return rng.choice(forms)

    def doctor(self) -> str:
        return self.last() if self._rng.random() < 0.6 else self.name()

    def several(self) -> str:
        return ", ".join(self.first() for _ in range(self._rng.randint(2, 5)))

    # ---- places

    def city(self) -> str:
        rng = self._rng
        if rng.random() < 0.22:
            return self._word(1) + rng.choice(
                ("ville", "ton", "burg", "bury", "berg", "a", "o", "ford", " City", "ov", "dorf", "stad", "by")
            )
        town = rng.choice(rng.choice(_towns()[1:]))
        return town.upper() if rng.random() < 0.06 else town

    def country(self) -> str:
        return self._rng.choice(
            _towns()[0]
            if self._rng.random() < 0.85
            else ("United States", "United Kingdom", "USA", "UK", "the Netherlands", "España", "Deutschland", "Österreich")
        )

    def place(self) -> str:
        roll = self._rng.random()
        return self.country() if roll < 0.4 else self._rng.choice(_STATES[50:]) if roll < 0.5 else self.city()

    def street_name(self) -> str:
        return f"{self._road()} {self._rng.choice(_SUFFIXES)}"

    def _road(self) -> str:
        roll = self._rng.random()
        return self._word(1) if roll < 0.5 else self.city() if roll < 0.7 else self._word(0) if roll < 0.8 else self._rng.choice(_ROADS)

    def street(self) -> str:
        kind = self._language if self._rng.random() < 0.65 else "xx"
        form = self._rng.choice(_STREETS[kind])
        while "{" in form:
            form = form.replace("{n}", str(self._rng.randint(1, self._rng.choice((20, 300, 9999, 99999)))), 1)
            form = form.replace("{w}", self._road(), 1).replace("{s}", self._rng.choice(_SUFFIXES), 1)
            form = form.replace("{d}", self._rng.choice(["N", "S", "E", "W", "North", "NW"]), 1)
            form = form.replace("{l}", self._rng.choice("ABCD"), 1).replace("{m}", self._rng.choice(("", "a", "b")), 1)
        return form

    def address(self) -> str:
        rng, street, city, code = self._rng, self.street(), self.city(), self.zip_code()
        if self._language == "de":
            return f"{street}, {code} {city}"
        if self._language == "es":
            return rng.choice((f"{street}, {code} {city}", f"{street}. {code} {city} ({self.city()})", f"{street}, {city}"))
        unit = rng.choice(("", "", f" Apt. {rng.randint(1, 999)}", f" Suite {rng.randint(1, 999)}"))
        break_ = rng.choice((", ", ", ", "\n", "\n ", " "))
        return rng.choice((
            f"{street}{unit}{break_}{city}, {rng.choice(_STATES)} {code}", f"{street}{break_}{city}{break_}{self.country()} {code}", f"{rng.randint(1, 9999)} {street}{unit}{break_}{city}{break_}{self.country()} {code}",
            f"{street}, {city}", f"{street}{unit}{break_}{city}\n, {rng.choice(_STATES)[:2].upper()} {code}", f"{street}, {city}, {self.country()}", f"{street}{break_}{city} {code}",
        ))  # fmt: skip

    def zip_code(self) -> str:
        rng = self._rng
        if self._language != "en" or rng.random() < 0.7:
            return f"{rng.randint(1000, 99999):05}"
        a, b, c, d, e = (rng.choice(_INITIALS) for _ in range(5))
        n, m, k = (rng.randint(1, 9) for _ in range(3))
        return rng.choice((f"{a}{b}{n}{m} {k}{c}{d}", f"{a}{n}{b} {m}{c}{k}", f"{a}{n} {m}{d}{e}", f"{rng.randint(1000, 9999)}", f"{rng.randint(10000, 99999)}-{n}{m}{k}{n}"))  # fmt: skip

    # ---- organizations, numbers, and what identifies nobody

    def company(self) -> str:
        form = self._rng.choice(_COMPANY)
        while "{w}" in form:
            form = form.replace("{w}", self._word(1), 1)
        return form

    def hospital(self) -> str:
        form = self._rng.choice(_HOSPITAL[self._language])
        return form.replace("{w}", self._road()).replace("{f}", self._word(0)).replace("{c}", self.city())

    def date(self) -> str:
        rng = self._rng
        day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(1925, 2026)
        name = _MONTHS[self._language][month - 1]
        forms = {
            "en": (f"{month}/{day}/{year}", f"{month:02}/{day:02}/{year % 100:02}", f"{year}-{month:02}-{day:02}", f"{name} {day}, {year}", f"{day} {name} {year}", f"{day:02}-{name[:3]}-{year}", f"{name} {day}th", f"{month}/{day}", f"{name} of {year}"),
            "es": (f"{day}/{month}/{year}", f"{day} de {name} de {year}", f"{day:02}-{month:02}-{year}", f"{name} de {year}", f"{day} de {name}"),
            "de": (f"{day}.{month}.{year}", f"{day:02}.{month:02}.{year}", f"{day}. {name} {year}", f"{name} {year}", f"{day:02}.{month:02}.{year % 100:02}"),
        }[self._language]  # fmt: skip
        return rng.choice(forms)

    def _digits(self, count: int) -> str:
        return "".join(str(self._rng.randint(0, 9)) for _ in range(count))

    def phone(self) -> str:
        d = self._digits
        return self._rng.choice((f"({d(3)}) {d(3)}-{d(4)}", f"{d(3)}-{d(3)}-{d(4)}", f"+{d(2)} {d(3)} {d(6)}", f"0{d(3)} {d(7)}", f"{d(3)}-{d(4)}", f"{d(3)} {d(2)} {d(2)} {d(2)}", f"0{d(4)}/{d(5)}", f"{d(3)}.{d(3)}.{d(4)}"))  # fmt: skip

    def code(self) -> str:
        d, letters = self._digits, "".join(self._rng.choice(_INITIALS) for _ in range(2))
        return self._rng.choice((d(7), d(8), d(10), f"{letters}{d(6)}", f"{d(3)}-{d(2)}-{d(4)}", f"{letters}-{d(5)}", f"{d(2)} {d(2)} {d(5)}", f"{d(8)}{letters[:1]}", f"{letters}{d(2)} {d(4)} {d(4)}", d(16), d(6)))  # fmt: skip

    def email(self) -> str:
        first, last = self._word(0).lower(), self._word(1).lower()
        return f"{first}{self._rng.choice(('.', '_', ''))}{last}@{self._rng.choice(('gmail.com', 'hotmail.com', 'example.org', 'nhs.net'))}"

    def any_of(self, choices: Sequence[str]) -> str:
        return self._rng.choice(choices)


_ROADS = [
    "Main",
    "Church",
    "Park",
    "Oak",
    "Maple",
    "Station",
    "High",
    "London",
    "Mill",
    "School",
    "Victoria",
    "King",
    "Queen",
    "Elm",
    "Cedar",
    "Lake",
    "River",
    "Hill",
    "Washington",
    "Lincoln",
    "Pine",
    "Green",
    "Constitución",
    "Libertad",
    "Iglesia",
    "Sol",
    "Mayor",
    "Real",
    "Hauptstadt",
    "Bahnhof",
    "Garten",
    "Schul",
    "Linden",
    "Berg",
    "Kirch",
    "Markt",
    "Nueva",
    "España",
    "Industrial",
    "Sunset",
    "Highland",
    "5th",
    "2nd",
    "12th",
]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _disease(language: str) -> Callable[[Maker], str]:
    return lambda maker: maker.any_of(_DISEASES[language])


_SLOTS: dict[str, tuple[str, Callable[[Maker], str]]] = {
    "name": ("NAME", Maker.name), "first": ("NAME", Maker.first), "last": ("NAME", Maker.last), "dr": ("NAME", Maker.doctor), "list": ("NAME", Maker.several),
    "city": ("LOCATION", Maker.city), "country": ("LOCATION", Maker.country), "place": ("LOCATION", Maker.place), "state": ("LOCATION", lambda m: m.any_of(_STATES)),
    "street": ("LOCATION", Maker.street), "streetname": ("LOCATION", Maker.street_name), "address": ("LOCATION", Maker.address), "zip": ("LOCATION", Maker.zip_code),
    "org": ("ORGANIZATION", Maker.company), "hospital": ("ORGANIZATION", Maker.hospital),
    "date": ("DATE", Maker.date), "phone": ("ID", Maker.phone), "id": ("ID", Maker.code), "email": ("ID", Maker.email),
    "age": ("", lambda m: m.any_of([str(n) for n in range(18, 90)])), "n": ("", lambda m: m.any_of([str(n) for n in range(1, 200)])),
    "drug": ("", lambda m: m.any_of(_drugs())), "Drug": ("", lambda m: m.any_of(_drugs()).capitalize()), "DRUG": ("", lambda m: m.any_of(_drugs()).upper()),
    "eponym": ("", lambda m: m.any_of(_eponyms()).capitalize()),
    "disease": ("", _disease("en")), "Disease": ("", lambda m: _capital(m.any_of(_DISEASES["en"]))), "job": ("", lambda m: m.any_of(_JOBS["en"])),
    "enf": ("", _disease("es")), "Enf": ("", lambda m: _capital(m.any_of(_DISEASES["es"]))), "trab": ("", lambda m: m.any_of(_JOBS["es"])),
    "krank": ("", _disease("de")), "Krank": ("", lambda m: _capital(m.any_of(_DISEASES["de"]))), "beruf": ("", lambda m: m.any_of(_JOBS["de"])),
}  # fmt: skip
