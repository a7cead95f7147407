"""Laws of the de-identification: for every patient, text and secret."""

import string
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.deid.assurance.planted import count_survivors
from client.deid.deidentifier import Deidentifier, Work
from client.deid.known import Known
from client.deid.scan import Scan
from client.deid.spans import Kind, Span, merge
from client.deid.surrogates import Surrogates
from client.deid.vocabulary.words import fold, norm
from client.records import PatientRecord, RawNote

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

kinds = st.sampled_from(list(Kind))
spans = st.lists(
    st.tuples(st.integers(0, 60), st.integers(1, 12), kinds, st.integers(1, 3)).map(lambda t: Span(t[0], t[0] + t[1], t[2], t[3])),
    max_size=15,
)
letters = st.text(alphabet="bcdfghjklmnpqrstvwxz", min_size=5, max_size=9).map(str.capitalize)
names = st.tuples(letters, letters).map(" ".join)
numbers = st.integers(10**6, 10**9).map(str)
records = st.builds(
    lambda name, number, phone, relative: PatientRecord("p", (name,), "1950-03-05", (number,), (phone,), relatives=(relative,)),
    names,
    numbers,
    st.integers(2 * 10**9, 10**10 - 1).map(lambda n: f"({n // 10**7}) {n // 10**4 % 1000:03}-{n % 10**4:04}"),
    names,
)
secrets = st.binary(min_size=32, max_size=32)


@given(spans)
def test_merged_spans_are_disjoint_and_cover_the_same_characters(found: list[Span]) -> None:
    merged = merge(found)
    assert all(a.end <= b.start for a, b in pairwise(merged))
    covered = {i for span in merged for i in range(span.start, span.end)}
    assert covered == {i for span in found for i in range(span.start, span.end)}
    assert merge(merged) == merged
    assert [(s.start, s.end) for s in merge(reversed(found))] == [(s.start, s.end) for s in merged]


@given(st.text(max_size=200))
def test_folding_keeps_every_offset(text: str) -> None:
    assert len(fold(text)) == len(text)
    assert fold(fold(text)) == fold(text)
    for word in Scan(text).words:
        assert text[word.start : word.end] == word.raw


def written(record: PatientRecord, form: int, case: int, pieces: list[int]) -> str:
    """One of the record's identifiers in one of its written forms."""
    given_name, family = record.names[0].split()
    number, phone = record.record_numbers[0], "".join(c for c in record.phones[0] if c.isdigit())
    middle = 1 + pieces[0] % (len(family) - 2)
    separated = "".join(c + ("-", " ", ".", "\n", "")[pieces[i % len(pieces)] % 5] for i, c in enumerate(number)).rstrip("- .\n")
    swapped = family[: middle - 1] + family[middle] + family[middle - 1] + family[middle + 1 :]
    forms = [
        f"{given_name} {family}", f"{family}, {given_name}", f"{given_name[0]}. {family}", f"{family}'s", family[:middle] + "-\n" + family[middle:], swapped,
        family[:middle] + family[middle + 1 :], separated, f"{phone[:3]}.{phone[3:6]}.{phone[6:]}", phone, "5 March 1950", "03/05/1950", "March 5th, 1950",
        record.relatives[0],
    ]  # fmt: skip
    text = forms[form % len(forms)]
    return (text, text.upper(), text.lower())[case % 3]


@QUICK
@given(records, st.integers(0, 13), st.integers(0, 2), st.lists(st.integers(0, 99), min_size=3, max_size=9))
def test_a_known_identifier_is_covered_in_every_written_form(record: PatientRecord, form: int, case: int, pieces: list[int]) -> None:
    identifier = written(record, form, case, pieces)
    before = "Seen in clinic; "
    text = f"{before}{identifier}; doing well on treatment."
    covered = {i for span in Known(record).find(Scan(text)) for i in range(span.start, span.end)}
    missed = [i for i, c in enumerate(identifier) if c.isalnum() and len(before) + i not in covered]
    # of "M. Lopez" and "Lopez's" every letter of the name counts, the possessive s does not
    assert not [i for i in missed if not identifier[i:].lower().startswith("s;")], (len(identifier), missed)


@QUICK
@given(
    records,
    secrets,
    kinds,
    st.sampled_from(["name", "number", "place"]),
    st.text(string.ascii_letters + string.digits + " -./", min_size=1, max_size=20),
)
def test_a_surrogate_is_repeatable_and_never_the_original(record: PatientRecord, secret: bytes, kind: Kind, what: str, other: str) -> None:
    original = {"name": record.names[0], "number": record.record_numbers[0], "place": other}[what]
    known = Known(record)
    span = Span(0, len(original), kind)
    made = [Surrogates(secret, known).replace(original, span, newest_year=2024) for _ in range(2)]
    assert made[0] == made[1]
    if any(c.isalnum() for c in original) and not (
        kind in (Kind.DATE, Kind.AGE) or {norm(w) for w in original.split()} <= {"dr", "mr", "st"}
    ):
        assert made[0] != original
    assert not [s for s in known.find(Scan(made[0])) if s.kind is not Kind.DATE]


@pytest.mark.parametrize("seed", range(3))
def test_no_planted_identifier_comes_out_whatever_surrounds_it(seed: int) -> None:
    """Records drawn at random, planted in the written forms above into one text each; nothing may survive."""

    @settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(records, min_size=4, max_size=4), secrets, st.data())
    def check(people: list[PatientRecord], secret: bytes, data: Any) -> None:
        works = []
        for record in people:
            forms = [written(record, form, data.draw(st.integers(0, 2)), [3, 1, 4]) for form in range(14)]
            text = "".join(f"Visit note {i}: {form}; cough and fever for {i} days.\n" for i, form in enumerate(forms))
            works.append(Work((RawNote("n", "p", text, date="2024-01-01"),), record, secret))
        for record, (done,) in zip(people, Deidentifier().clean(works), strict=True):
            tried, survived = count_survivors(record, done.note.text)
            assert (tried > 4, survived) == (True, 0)

    check()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(records, secrets, st.text(max_size=300))
def test_any_text_at_all_is_cleaned_or_held_back_and_twice_the_same(record: PatientRecord, secret: bytes, text: str) -> None:
    work = Work((RawNote("n", "p", text + record.names[0]),), record, secret)
    ((first,),), ((second,),) = Deidentifier().clean([work]), Deidentifier().clean([work])
    assert (first.note, first.reason, first.spans) == (second.note, second.reason, second.spans)
    if first.reason is None:
        assert fold(record.names[0]) not in fold(first.note.text)
