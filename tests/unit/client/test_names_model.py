"""What the model of names calls a person, a place or an organization, once its reading is cut to what can be one."""

from client.deid.ner import documents, entities
from client.deid.scan import Scan


def test_a_field_between_two_capitals_is_not_part_of_a_name() -> None:
    scan = Scan("Srivastava, Lila / MR33585744 / August 11, 1989\nCedar Falls Regional Hospital\nShe slept well.")
    (doc,) = documents([scan.text])
    assert all("33585744" not in scan.text[span.start : span.end] for span in entities(doc, scan))
