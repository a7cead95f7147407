"""Word lists: what is an ordinary or clinical word, what can be a name or a place, what looks like one and is neither.

Clinical vocabulary and eponyms come from `words.json` (see `make_words.py`) and `lists.toml`; everyday words of English, Spanish and German from
the dictionaries of the package `pyspellchecker`; names from Faker's locales, which are lists of common names and carry nobody's data, and from the census of the United States of 1990
where a dictionary holds them; places from
`places.json` (GeoNames, CC BY 4.0; see `make_places.py`) and Faker.
"""

import gzip
import importlib
import importlib.resources
import json
import pkgutil
import re
import tomllib
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import faker.providers.address as addresses
import faker.providers.person as persons

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
"""A run of letters, with apostrophes inside."""

_LATIN = 0x250


@cache
def by_hand(name: str) -> frozenset[str]:
    """One of the lists of `lists.toml`."""
    return frozenset(_lists()[name].split())


@cache
def _lists() -> dict[str, str]:
    return tomllib.loads(_beside("lists.toml"))


@cache
def stored_places() -> dict[str, list[str]]:
    """Countries, counties of the United States, towns by country: the names of `places.json`."""
    return {kind: names.split("|") for kind, names in json.loads(_beside("places.json")).items()}


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


TITLES, PARTICLES = by_hand("titles"), by_hand("particles")
NOBODY = TITLES | PARTICLES | by_hand("never_surnames") | by_hand("roles") | {"ward", "unit", "floor", "clinic"}
"""What does as people do and is no name: "Child was seen", "Ward asked for a bed"."""

_DRUG = re.compile(
    r"(?:mab|nib|pril|prilat|sartan|olol|alol|dipine|statin|azole|prazole|tidine|cillin|cycline|mycin|micin|floxacin|cef\w+|ceph\w+|azepam|azolam|"
    r"barbital|caine|curium|dronate|fenac|gliptin|gliflozin|glutide|glitazone|lukast|setron|triptan|oxetine|pramine|triptyline|trexate|tropium|terol|"
    r"sone|solone|onide|parin|xaban|gatran|vir|vudine|zine|zosin|thiazide|semide|lactone|formin|profen|oxicam|coxib|codone|morphone|fentanil|nidazole|"
    r"conazole|quine|stigmine|phylline|platin|rubicin|taxel|bine|tinib|ciclib|lamide|gabalin|pentin|idone|apine|piprazole|tadine|rizine|amine|verine|furantoin|bamol|cillin|fylline|dronic|nazole|setron|micina|cilina|ciclina|floxacino|sona|solona|olona|prazol|statina|platino|posido|ristina|oxetina|namida|rubicina|fosfamida|hidantoina)$"
)


_TERM = re.compile(
    r"(?:scop(?:y|ies|ic)|ectom(?:y|ies)|ostomy|otomy|graph(?:y|ic)|centesis|plasty|pexy|rrhaphy|itis|aemia|emia|uria|path(?:y|ic)|algia|plegia|paresis|troph(?:y|ic)|megaly|"
    r"penia|cytosis|cytic|genesis|genic|ly(?:sis|tic)|oidal|ageal|esthesia|metry|therapy|logical|ization|isation|iasis|oedema|edema|phasia|phagia|pnea|rrhea|rrhagia|sclerosis|"
    r"stenosis|ptosis|phobia|plasia|plastic|form|gram|grams)$"
)
"""Endings of medical terms: no list holds them all."""


class _Folding(dict[int, str]):
    """Character → lower case without accents, one for one; filled as characters are met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        base = unicodedata.normalize("NFKD", character)[0].lower()
        plain = {"ø": "o", "đ": "d", "ł": "l", "ß": "s", "æ": "a", "œ": "o", "ı": "i"}.get(base, base if len(base) == 1 else character)
        self[code] = plain
        return plain


_FOLDING = _Folding()


def fold(text: str) -> str:
    """Lower case without accents, one character for one: offsets in the result are offsets in the text."""
    return text.lower() if text.isascii() else text.translate(_FOLDING)


def norm(word: str) -> str:
    """A word as it is compared: folded, without apostrophes and possessive s."""
    folded = fold(word).replace("’", "'")
    return (folded[:-2] if folded.endswith("'s") and len(folded) > 3 else folded).replace("'", "")


@dataclass(frozen=True, slots=True)
class Words:
    """Folded words. `first` maps a given name to "F", "M" or "" for both or unknown; `word_surnames` are everyday words that many families have
    as their name, and stand on no list of names."""

    common: frozenset[str]
    acronyms: frozenset[str]
    eponyms: frozenset[str]
    eponym_nouns: frozenset[str]
    brands: frozenset[str]
    drugs: frozenset[str]
    first: dict[str, str]
    last: frozenset[str]
    word_surnames: frozenset[str]
    places: frozenset[str]
    place_words: frozenset[str]
    street_suffixes: frozenset[str]

    def is_common(self, word: str) -> bool:
        """Whether a folded word is one that medicine or everyday language uses."""
        known = word in self.common or (word.endswith("s") and word[:-1] in self.common) or word in self.brands or word in self.drugs
        return known or (len(word) > 7 and _TERM.search(word) is not None and not self.is_name(word) and word not in self.places)

    def is_substance(self, word: str) -> bool:
        """Whether a folded word can be nothing but a drug: its source says so, or its ending does."""
        return word in self.drugs or (len(word) > 6 and _DRUG.search(word) is not None and not self.is_name(word))

    def is_drug(self, word: str) -> bool:
        """Whether a folded word is a drug or the brand of one, of a device or of a food."""
        return word in self.brands or self.is_substance(word)

    def is_name(self, word: str) -> bool:
        return word in self.first or word in self.last


@cache
def words() -> Words:
    """The lists, read once (a third of a second)."""
    stored = {key: text.split() for key, text in json.loads(_beside("words.json")).items()}
    first: dict[str, str] = {}
    last: set[str] = set()
    for provider in _providers(persons):
        for attribute, gender in (("first_names_female", "F"), ("first_names_male", "M"), ("first_names", "")):
            for name in _latin(getattr(provider, attribute, ())):
                if attribute == "first_names":
                    first.setdefault(name, "")
                else:
                    first[name] = gender if first.get(name, gender) in ("", gender) else ""
        for attribute in ("last_names", "last_names_female", "last_names_male"):
            last.update(_latin(getattr(provider, attribute, ())))
    last.update(stored["surnames"])
    female, male = frozenset(stored["given_female"]), frozenset(stored["given_male"])
    for name in (female | male) - first.keys():
        first[name] = "" if name in female & male else "F" if name in female else "M"
    places: set[str] = set()
    for provider in _providers(addresses):
        for attribute in ("cities", "city_names", "real_city_names", "countries", "states", "towns"):
            places.update(_latin(getattr(provider, attribute, ())))
    for towns in stored_places().values():
        places.update(_latin(towns))
    suffixes = importlib.import_module("faker.providers.address.en_US").Provider.street_suffixes
    common = frozenset(
        {fold(word) for kind in ("words", "capitalized") for word in stored.get(kind, ())} | by_hand("clinical") | by_hand("terms")
    )
    place_words = {word for place in places for word in re.split(r"[\s\-'’.]+", place) if len(word) > 2}
    return Words(
        common=common,
        acronyms=frozenset({fold(word) for word in stored["acronyms"]} | by_hand("clinical") | by_hand("abbreviations")),
        eponyms=frozenset({fold(word) for word in stored["eponyms"]} | by_hand("eponyms")),
        eponym_nouns=by_hand("eponym_nouns") | by_hand("after_eponyms"),
        brands=by_hand("brands"),
        drugs=frozenset(stored["drugs"]),
        first=first,
        last=frozenset(last),
        word_surnames=frozenset(stored["word_surnames"]),
        places=frozenset(places),
        place_words=frozenset(place_words - PARTICLES),
        street_suffixes=frozenset(fold(suffix) for suffix in suffixes),
    )


LANGUAGES = ("en", "es", "de")


@cache
def everyday(language: str) -> frozenset[str]:
    """Folded words of a language's dictionary that are neither names nor places (German, with its compounds, takes half a second)."""
    lists = words()
    return (dictionary(language) - lists.first.keys() - lists.last - lists.places) | frozenset(map(fold, by_hand(f"everyday_{language}")))


def dictionary(language: str) -> frozenset[str]:
    """Folded words of a language's dictionary, which counts words in film subtitles: thousands of surnames among them."""
    file = importlib.resources.files("spellchecker") / "resources" / f"{language}.json.gz"
    return frozenset(re.findall(r'"([^"\'\\\\]{2,})":', fold(gzip.decompress(file.read_bytes()).decode())))


def _providers(package: object) -> list[type]:
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]  # type: ignore[attr-defined] # a package has a path
    return [importlib.import_module(f"{package.__name__}.{name}").Provider for name in sorted(names)]  # type: ignore[attr-defined] # and a name


def _latin(names: object) -> list[str]:
    """Folded names in Latin script; two letters are too few to tell a name by. Empty for what is no collection."""
    if not isinstance(names, Collection):
        return []
    return [fold(name) for name in names if isinstance(name, str) and len(name) > 2 and all(ord(c) < _LATIN for c in name)]
