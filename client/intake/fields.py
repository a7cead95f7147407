"""One row of an export as typed fields. Every refusal names file, line and field, and never the value that stood there."""

import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from client.records import Dialogue, PatientRecord, RawNote
from common.errors import IntakeError

NOTE_FIELDS = ("id", "patient_id", "text", "kind", "date", "dialogues")
_LISTS = {
    "names": ("names", "name", "maiden_name", "nickname"),
    "record_numbers": ("record_numbers", "mrn", "ssn", "account", "accounts", "health_plan", "passport", "drivers_license"),
    "phones": ("phones", "phone", "fax"),
    "emails": ("emails", "email"),
    "addresses": ("addresses", "address", "city", "zip", "postal_code"),
    "relatives": ("relatives", "relative"),
}
_NAME_PARTS = ("first_name", "middle_name", "last_name")
_SINGLE = {"birth_date": ("birth_date", "dob", "date_of_birth"), "gender": ("gender", "sex")}
RECORD_FIELDS = ("patient_id", *_NAME_PARTS, *(alias for group in (_LISTS, _SINGLE) for aliases in group.values() for alias in aliases))
MAX_ID_CHARACTERS = 512
_PARTIAL_DATE = re.compile(r"\d{4}(-\d{2}(-\d{2})?)?")


class Row:
    """The fields of one line. An empty string and null count as absent."""

    def __init__(self, path: Path, line: int, values: Mapping[str, Any], *, inside: str = "") -> None:
        """`inside` is put before a field's name in a refusal: the object that this row is a part of."""
        self.path, self.line, self._values, self._inside = path, line, values, inside

    def refuse(self, field: str, problem: str) -> IntakeError:
        return IntakeError(self.path, self.line, self._inside + field, problem)

    def within(self, field: str) -> "Row":
        """The object in a field, as a row of its own."""
        value = self.get(field)
        if not isinstance(value, dict):
            raise self.refuse(field, "an object is expected")
        return Row(self.path, self.line, value, inside=f"{self._inside}{field}.")

    def has(self, field: str) -> bool:
        return field in self._values

    def get(self, field: str) -> Any:
        value = self._values.get(field)
        return None if value == "" else value

    def text(self, field: str) -> str | None:
        value = self.get(field)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)  # an export that writes a record number as a number
        if not isinstance(value, str):
            raise self.refuse(field, "a string is expected")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise self.refuse(field, "holds half of a surrogate pair; export the file as UTF-8")
        return value

    def required(self, field: str) -> str:
        value = self.text(field)
        if value is None or not value.strip():
            raise self.refuse(field, "is missing or empty")
        return value

    def identifier(self, field: str) -> str:
        """A required id, without the spaces around it: "7" and " 7" are one patient, and two would have two budgets."""
        value = self.required(field).strip()
        if len(value) > MAX_ID_CHARACTERS:
            raise self.refuse(field, f"is longer than {MAX_ID_CHARACTERS} characters: not an id")
        if not value.isprintable():
            raise self.refuse(field, "holds a character that cannot be printed: not an id")
        return value

    def texts(self, field: str) -> list[str]:
        """A list of strings, or one string; in a table the items of a list are separated by `|`."""
        value = self.get(field)
        if not isinstance(value, list):
            single = self.text(field)
            return [] if single is None else [item.strip() for item in single.split("|") if item.strip()]
        return [item for i in range(len(value)) if (item := Row(self.path, self.line, {field: value[i]}).text(field))]

    def date(self, field: str) -> str | None:
        """YYYY, YYYY-MM or YYYY-MM-DD; a time of day after it is cut off."""
        value = self.text(field)
        if value is None:
            return None
        day = re.split(r"[T ]", value.strip())[0]
        if not _PARTIAL_DATE.fullmatch(day):
            raise self.refuse(field, "a date as YYYY-MM-DD is expected")
        try:
            date.fromisoformat(day + "-01-01"[len(day) - 4 :] if len(day) < 10 else day)
        except ValueError:
            raise self.refuse(field, "there is no such day in the calendar") from None
        return day


def note_of(row: Row) -> RawNote | None:
    """The note of a row; None when its text is blank."""
    note_id, patient_id = row.identifier("id"), row.identifier("patient_id")
    if not row.has("text"):
        raise row.refuse("text", "is missing or empty")
    text = row.text("text")
    if text is None or not text.strip():
        return None
    return RawNote(note_id, patient_id, text, row.text("kind") or "note", row.date("date"), _dialogues(row))


def record_of(row: Row, patient_id: str | None = None) -> PatientRecord:
    """The patient's record, by our names or by the usual ones of an index (`mrn`, `dob`, `first_name`, `last_name`, …)."""
    lists = {field: tuple(dict.fromkeys(item for alias in aliases for item in row.texts(alias))) for field, aliases in _LISTS.items()}
    parts = [part for field in _NAME_PARTS if (part := row.text(field))]
    if parts:
        lists["names"] = (" ".join(parts), *lists["names"])
    birth_date = next((day for alias in _SINGLE["birth_date"] if (day := row.date(alias))), None)
    gender = next((value for alias in _SINGLE["gender"] if (value := row.text(alias))), None)
    return PatientRecord(row.identifier("patient_id") if patient_id is None else patient_id, birth_date=birth_date, gender=gender, **lists)


def _dialogues(row: Row) -> tuple[Dialogue, ...]:
    value = row.get("dialogues")
    if value is None:
        return ()
    if not isinstance(value, list):
        raise row.refuse("dialogues", 'a list of {"prompt", "answer"} is expected')
    found = []
    for i, item in enumerate(value):
        if not isinstance(item, dict):
            raise row.refuse(f"dialogues[{i}]", 'an object with "prompt" and "answer" is expected')
        inner = Row(row.path, row.line, item, inside=f"dialogues[{i}].")
        found.append(Dialogue(inner.required("prompt"), inner.required("answer")))
    return tuple(found)
