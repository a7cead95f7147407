"""What a form may say, read strictly: unknown words are refused or left out, texts are cut to their longest."""

from collections.abc import Sequence

from starlette.datastructures import FormData

from client.feedback.items import Remarks, Scale, Tag, Verdict


class Refused(Exception):
    """A request that gets an answer of its own: the status, and the key of its text."""

    def __init__(self, status: int, key: str) -> None:
        self.status, self.key = status, key


def field(form: FormData, name: str) -> str:
    value = form.get(name)
    return value if isinstance(value, str) else ""


def verdict_of(form: FormData) -> tuple[Verdict, int | None]:
    """A number is the answer that stood there; a word is one of the other verdicts."""
    said = field(form, "verdict")
    if said.isascii() and said.isdigit():
        return Verdict.ANSWER, int(said[:2])
    if said not in set(Verdict) - {Verdict.ANSWER}:
        raise Refused(400, "stale")
    return Verdict(said), None


def remarks_of(form: FormData, order: Sequence[int], *, ratings: bool) -> Remarks:
    """Tags and ratings by index in the item, from fields named by where the answer stood."""
    tags = [(index, Tag(value)) for place, index in enumerate(order, 1) for value in form.getlist(f"tag-{place}") if value in set(Tag)]
    rated = [
        (index, scale, int(value))
        for place, index in enumerate(order, 1)
        for scale in Scale
        if (value := field(form, f"rating-{place}-{scale}")) in {"1", "2", "3", "4", "5"}
    ]
    other, correction = field(form, "other").strip()[:500], field(form, "correction").strip()[:8000]
    return Remarks(tuple(dict.fromkeys(tags)), other, correction, tuple(rated) if ratings else ())
