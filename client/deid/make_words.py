"""Makes `words.json`, the vocabulary that keeps ordinary and clinical words from being taken for names.

    python -m client.deid.make_words DATA

DATA holds folders of public JSONL text (MedQuAD, PubMedQA, MedMCQA, MTS-Dialog, MeQSum, K-QA, MedSafetyBench). Kept are words only, never
sentences: `words` seen in lower case at least twice, `acronyms` seen in capitals at least twice, `eponyms`, capitalized words that stand
before a clinical noun ("Murphy's sign", "Hodgkin lymphoma") at least twice, and `capitalized`, other words seen at least four times and never in
lower case ("European", "Helicobacter"), as long as they are in no list of names or places.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from client.deid.words import by_hand, fold, words

SOURCES = ("medquad", "pubmedqa", "medmcqa", "mts_dialog", "meqsum", "kqa_prompts", "medsafety")
MIN_COUNT = 2
MIN_CAPITALIZED = 4
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


def main() -> None:
    found = count(Path(sys.argv[1]))
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
    target = Path(__file__).with_name("words.json")
    target.write_text(
        json.dumps({name: " ".join(kept_words) for name, kept_words in kept.items()}, ensure_ascii=False, indent=0) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
