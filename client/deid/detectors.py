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

from client.deid import ner
from client.deid.dates import Ages, Dates
from client.deid.names import Names
from client.deid.numbers import BareNumbers, LabelledNumbers, NetworkAddresses, Phones
from client.deid.places import Addresses, Facilities
from client.deid.scan import Scan
from client.deid.spans import Kind, Span

LANGUAGE = "en"


class Detector(Protocol):
    """Finds identifiers in one text. Spans lie within it and may overlap; the same text always gives the same spans."""

    def find(self, scan: Scan) -> Iterator[Span]: ...


DETECTORS: tuple[Detector, ...] = (
    Names(), Dates(), Ages(), Addresses(), Facilities(), Phones(), NetworkAddresses(), LabelledNumbers(), BareNumbers(),
)  # fmt: skip


class Read(NlpArtifacts):
    """What Presidio hands to recognizers: our scan of the text and the model's entities in it."""

    def __init__(self, scan: Scan, doc: Doc, engine: NlpEngine) -> None:
        # no lemmas: Presidio would look for context words in them, and our patterns hold their own context
        super().__init__(list(doc.ents), doc, [token.idx for token in doc], [], engine, LANGUAGE)
        self.scan, self.modelled = scan, list(ner.entities(doc, scan))


class NamesOnly(NlpEngine):
    """The model of tier 2 as Presidio's language engine: batched, and without anything but entities."""

    def load(self) -> None:
        ner.model()

    def is_loaded(self) -> bool:
        return True  # loaded at first use, so that a process that never reads a note never pays for it

    def process_text(self, text: str, language: str) -> Read:
        return next(iter(self.process_batch([text], language)))[1]

    def process_batch(
        self, texts: Iterable[str], language: str, batch_size: int = ner.BATCH_TEXTS, n_process: int = 1, **_: object
    ) -> Iterator[tuple[str, Read]]:
        del language, batch_size, n_process
        kept = list(texts)
        for text, doc in zip(kept, ner.documents(kept), strict=True):
            yield text, Read(Scan(text), doc, self)

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
        spans = nlp_artifacts.modelled if self._detector is None else self._detector.find(nlp_artifacts.scan)
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
        nlp_engine=NamesOnly(),
        supported_languages=[LANGUAGE],
        context_aware_enhancer=_NoContext(),
        log_decision_process=False,
    )


def detect(texts: Sequence[str]) -> Iterator[tuple[Scan, list[Span]]]:
    """(scan, spans) of each text in order: one batched pass of the model, one pass of all recognizers a text. Spans may overlap."""
    engine, language_engine = _engine(), NamesOnly()
    for text, read in language_engine.process_batch(texts, LANGUAGE):
        results = engine.analyze(text, LANGUAGE, nlp_artifacts=read)
        yield read.scan, [Span(r.start, r.end, Kind(r.entity_type), round(r.score * 3)) for r in results]
