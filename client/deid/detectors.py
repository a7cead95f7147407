"""Tier 1 and 2 together: every detector as a Presidio recognizer in one registry, asked once for each text.

Presidio is the host, so that a hospital can add its own recognizers to `registry()`. Its stock recognizers are not among the first
pass: they are part of the independent second one (`client/deid/gate.py`).

Protects against: the 18 classes of Safe Harbor as far as text carries them (see `Kind`).
Does not protect against: what no pattern, list or model knows; combinations of facts that single somebody out without an identifier.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Protocol

from presidio_analyzer import AnalyzerEngine, EntityRecognizer, RecognizerRegistry, RecognizerResult
from presidio_analyzer.context_aware_enhancers import ContextAwareEnhancer
from presidio_analyzer.nlp_engine import NlpArtifacts, NlpEngine
from spacy.tokens import Doc
from spacy.vocab import Vocab

from client.deid.misread import repaired
from client.deid.ner import modelled
from client.deid.rules.dates import Ages, Dates
from client.deid.rules.german import German
from client.deid.rules.layouts import Layouts
from client.deid.rules.names import Names
from client.deid.rules.numbers import BareNumbers, LabelledNumbers, NetworkAddresses, Phones
from client.deid.rules.places import Addresses, Facilities, Places
from client.deid.rules.signatures import Signatures
from client.deid.rules.small_letters import SmallLetters
from client.deid.rules.spanish import Spanish
from client.deid.scan import Scan
from client.deid.spans import Kind, Span

LANGUAGE = "en"


class Detector(Protocol):
    """Finds identifiers in one text. Spans lie within it and may overlap; the same text always gives the same spans."""

    def find(self, scan: Scan) -> Iterator[Span]: ...


DETECTORS: tuple[Detector, ...] = (
    Names(), Signatures(), SmallLetters(), Dates(), Ages(), Addresses(), Places(), Facilities(), Phones(), NetworkAddresses(), LabelledNumbers(), BareNumbers(), Layouts(), Spanish(), German(),
)  # fmt: skip


_NO_DOC = Doc(Vocab())
"""Presidio's type for a parsed text. Nothing is parsed: our network reads the text itself, and patterns hold their own context."""


class Read(NlpArtifacts):
    """What Presidio hands to recognizers: our scan of the text."""

    def __init__(self, scan: Scan, engine: NlpEngine) -> None:
        super().__init__([], _NO_DOC, [], [], engine, LANGUAGE)
        self.scan = scan


class Plain(NlpEngine):
    """Presidio's language engine, reduced to what our recognizers need: the text."""

    def load(self) -> None:
        """Nothing to load: lists and network are read at first use, so that a process that reads no note never pays for them."""

    def is_loaded(self) -> bool:
        return True

    def process_text(self, text: str, language: str) -> Read:
        del language
        return Read(Scan(text), self)

    def process_batch(
        self, texts: Iterable[str], language: str, batch_size: int = 1, n_process: int = 1, **_: object
    ) -> Iterator[tuple[str, Read]]:
        del batch_size, n_process
        return ((text, self.process_text(text, language)) for text in texts)

    def is_stopword(self, word: str, language: str) -> bool:
        del word, language
        return False

    def is_punct(self, word: str, language: str) -> bool:
        del word, language
        return False

    def get_supported_entities(self) -> list[str]:
        return [Kind.NAME, Kind.LOCATION, Kind.ORGANIZATION]

    def get_supported_languages(self) -> list[str]:
        return [LANGUAGE]


class Recognizer(EntityRecognizer):
    """One of our detectors, or the model's entities when there is none, as Presidio asks for it."""

    def __init__(self, detector: Detector | None) -> None:
        self._detector = detector
        super().__init__(supported_entities=[kind.value for kind in Kind], name=type(detector).__name__ if detector else "Model")

    def load(self) -> None:
        """Nothing to load: patterns are compiled with their module, lists are read at first use."""

    def analyze(self, text: str, entities: list[str], nlp_artifacts: NlpArtifacts) -> list[RecognizerResult]:
        del text, entities
        assert isinstance(nlp_artifacts, Read)  # Presidio passes on what `detect` gave it
        spans = modelled(nlp_artifacts.scan) if self._detector is None else self._detector.find(nlp_artifacts.scan)
        return [RecognizerResult(span.kind.value, span.start, span.end, span.strength / 3) for span in spans]


class _NoContext(ContextAwareEnhancer):
    """Context is part of our patterns; Presidio's own pass over lemmas costs more than all of them."""

    def __init__(self) -> None:
        super().__init__(0.0, 0.0, 0, 0)

    def enhance_using_context(
        self,
        text: str,
        raw_results: list[RecognizerResult],
        nlp_artifacts: NlpArtifacts,
        recognizers: list[EntityRecognizer],
        context: list[str] | None = None,
    ) -> list[RecognizerResult]:
        del text, nlp_artifacts, recognizers, context
        return raw_results


@cache
def registry() -> RecognizerRegistry:
    """All recognizers of the first pass. A hospital's own are added with `registry().add_recognizer(...)` before the first note."""
    return RecognizerRegistry(recognizers=[Recognizer(None), *map(Recognizer, DETECTORS)], supported_languages=[LANGUAGE])


@cache
def _engine() -> AnalyzerEngine:
    return AnalyzerEngine(
        registry=registry(),
        nlp_engine=Plain(),
        supported_languages=[LANGUAGE],
        context_aware_enhancer=_NoContext(),
        log_decision_process=False,
    )


def detect(texts: Sequence[str]) -> Iterator[tuple[Scan, list[Span]]]:
    """(scan, spans) of each text in order, by one pass of all recognizers over each. Spans may overlap."""
    engine, plain = _engine(), Plain()
    for text in texts:
        read = plain.process_text(text, LANGUAGE)
        results = engine.analyze(text, LANGUAGE, nlp_artifacts=read)
        if (copy := repaired(text)) is not None:
            results += engine.analyze(copy, LANGUAGE, nlp_artifacts=plain.process_text(copy, LANGUAGE))
        yield read.scan, [Span(r.start, r.end, Kind(r.entity_type), round(r.score * 3)) for r in results]
