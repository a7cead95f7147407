"""FHIR R4 bulk exports: NDJSON files of `Patient`, `DocumentReference` and `Encounter`, one type a file.

Accepted is FHIR R4 (4.0.1): resources are validated with the classes of R4B (4.3.0), in which these three types are unchanged.
A resource that only another release allows (STU3, R5) is refused by name of that release. A note is a text attachment inside
its DocumentReference (`text/plain`, or `text/html` without its tags); attachments that only point to a Binary, and PDFs or
images, are left aside and counted. `Encounter` gives a note its day where the document has none.
"""

import base64
import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from fhir.resources import STU3
from fhir.resources import get_fhir_model_class as r5_class
from fhir.resources.R4B.documentreference import DocumentReference
from fhir.resources.R4B.encounter import Encounter
from fhir.resources.R4B.patient import Patient
from pydantic import ValidationError

from client.intake.export import Export, Reading, once
from client.intake.jsonl import objects
from client.records import PatientRecord, RawNote
from common.errors import IntakeError

_TYPES: dict[str, Any] = {"Patient": Patient, "DocumentReference": DocumentReference, "Encounter": Encounter}
_FIELD_NAME = re.compile(r"[A-Za-z_]{1,40}")
_BLOCK_TAGS = {"p", "div", "br", "li", "tr", "table", "ul", "ol", "h1", "h2", "h3", "h4", "h5", "h6", "section", "pre"}


def read_fhir(path: Path) -> Export:
    """A folder of *.ndjson files, or one such file."""
    left_aside, reading = Counter[str](), Reading()
    files = _by_type(path, left_aside)
    notes = once(_notes(files["DocumentReference"], files["Encounter"], left_aside, reading), reading)
    in_order = (*files["Patient"], *files["Encounter"], *files["DocumentReference"])
    return Export(notes, _patients(files["Patient"], reading), in_order, left_aside, reading)


def _by_type(path: Path, left_aside: Counter[str]) -> dict[str, list[Path]]:
    """The files of each type, told by their first line; files of other types are left aside."""
    files = sorted(file for file in path.iterdir() if file.suffix in (".ndjson", ".jsonl", ".json")) if path.is_dir() else [path]
    if not files:
        raise IntakeError(path, None, None, "the folder holds no .ndjson file")
    found: dict[str, list[Path]] = {name: [] for name in _TYPES}
    for file in files:
        for line, value in objects(file):
            name = value.get("resourceType")
            if not isinstance(name, str):
                raise IntakeError(file, line, "resourceType", "is missing: not a FHIR resource")
            if name == "Bundle":
                raise IntakeError(file, line, "resourceType", "a Bundle; export as bulk data: NDJSON, one resource a line, one type a file")
            if name in found:
                found[name].append(file)
            else:
                left_aside["files of other resource types"] += 1
            break
    return found


def _resources(file: Path, name: str, reading: Reading) -> Iterator[tuple[int, Any, dict[str, Any]]]:
    """(line, validated model, the object as it stood) of each resource."""
    for line, value in objects(file, reading):
        if value.get("resourceType") != name:
            raise IntakeError(file, line, "resourceType", f"this file began with {name}; a bulk export holds one type a file")
        try:
            yield line, _TYPES[name].model_validate(value), value
        except ValidationError as error:
            release = _other_release(name, value)
            because = f"the resource is of FHIR {release}" if release else "the field is missing, unknown or has another type"
            raise IntakeError(file, line, _field(error), f"not a FHIR R4 {name}: {because}; export as R4 (4.0.1)") from None


def _field(error: ValidationError) -> str:
    # neither message nor input is shown, and a key only when it looks like a FHIR element: a value may stand in either
    place = error.errors(include_input=False, include_context=False, include_url=False)[0]["loc"]
    return ".".join(str(part) for part in place if isinstance(part, int) or (_FIELD_NAME.fullmatch(part) and part != "root")) or "resource"


def _other_release(name: str, value: dict[str, Any]) -> str | None:
    for release, lookup in (("R5", r5_class), ("STU3", STU3.get_fhir_model_class)):
        try:
            lookup(name).model_validate(value)
        except ValidationError:
            continue
        return release
    return None


def _patients(files: list[Path], reading: Reading) -> Iterator[PatientRecord]:
    for file in files:
        for line, patient, _ in _resources(file, "Patient", reading):
            if not patient.id:
                raise IntakeError(file, line, "id", "is missing or empty")
            telecom = patient.telecom or []
            contacts = patient.contact or []
            addresses = [part for address in patient.address or [] for part in _address(address)]
            yield PatientRecord(
                patient_id=patient.id,
                names=_all(_name(name) for name in patient.name or []),
                birth_date=_day(patient.birthDate),
                record_numbers=_all(identifier.value for identifier in patient.identifier or []),
                phones=_all(
                    t.value
                    for t in (*telecom, *(t for c in contacts for t in c.telecom or []))
                    if t.system in ("phone", "fax", "sms", "pager")
                ),
                emails=_all(t.value for t in telecom if t.system in ("email", "url", "other")),
                addresses=_all(addresses),
                relatives=_all(_name(contact.name) for contact in contacts if contact.name),
                gender=patient.gender,
            )


def _notes(documents: list[Path], encounters: list[Path], left_aside: Counter[str], reading: Reading) -> Iterator[RawNote]:
    days = {e.id: _day(e.period.start) for file in encounters for _, e, _ in _resources(file, "Encounter", reading) if e.id and e.period}
    for file in documents:
        for line, document, raw in _resources(file, "DocumentReference", reading):
            if not document.id:
                raise IntakeError(file, line, "id", "is missing or empty")
            patient_id = _reference(document.subject, "Patient")
            if patient_id is None:
                raise IntakeError(file, line, "subject", "does not refer to a Patient; a note without a patient cannot be protected")
            context = document.context
            seen_at = next(
                (day for e in (context and context.encounter) or [] if (day := days.get(_reference(e, "Encounter") or ""))), None
            )
            kind = document.type and (document.type.text or next((c.display for c in document.type.coding or [] if c.display), None))
            texts = []
            for i, content in enumerate(document.content):
                data = raw["content"][i]["attachment"].get("data")
                text = _text(content.attachment.contentType, data, file, line, f"content.{i}.attachment")
                if text is None:
                    left_aside["attachments that hold no text"] += 1
                elif text.strip():
                    texts.append(text)
            if texts:
                yield RawNote(document.id, patient_id, "\n".join(texts), kind or "note", seen_at or _day(document.date))
            else:
                left_aside["documents without text"] += 1


def _text(content_type: str | None, data: str | None, file: Path, line: int, field: str) -> str | None:
    """The attachment's text; None when it holds none."""
    media, _, parameters = (content_type or "text/plain").partition(";")
    media = media.strip().lower()
    if data is None or media not in ("text/plain", "text/html"):
        return None
    charset = re.search(r"charset\s*=\s*\"?([\w.-]+)", parameters, re.IGNORECASE)
    try:
        # decoded strictly, from what stood in the file: the models' decoder drops characters that do not belong there
        text = base64.b64decode("".join(data.split()), validate=True).decode(charset.group(1) if charset else "utf-8")
    except LookupError:
        raise IntakeError(file, line, f"{field}.contentType", "names a character set that is not known") from None
    except UnicodeDecodeError:
        raise IntakeError(file, line, f"{field}.data", "is not text in the character set of its contentType") from None
    except ValueError:
        raise IntakeError(file, line, f"{field}.data", "is not valid base64") from None
    return _plain(text) if media == "text/html" else text


class _Tags(HTMLParser):
    """The text of a page; tags of blocks become line breaks, scripts and styles vanish."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs  # a document's attributes hold layout, not text
        self._hidden += tag in ("script", "style")
        if tag in _BLOCK_TAGS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style") and self._hidden > 0
        if tag in _BLOCK_TAGS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)


def _plain(html: str) -> str:
    tags = _Tags()
    tags.feed(html)
    tags.close()
    return re.sub(r"\n{3,}", "\n\n", "".join(tags.parts)).strip()


def _reference(reference: Any, name: str) -> str | None:
    """The id in `Patient/123`, `https://…/Patient/123` or `Patient/123/_history/2`."""
    found = re.search(rf"(?:^|/){name}/([A-Za-z0-9.-]{{1,64}})(?:/_history/.*)?$", (reference and reference.reference) or "")
    return found.group(1) if found else None


def _name(name: Any) -> str | None:
    parts = [*(name.given or []), *([name.family] if name.family else [])]
    return " ".join(part for part in parts if part) or name.text


def _address(address: Any) -> list[str | None]:
    return [*(address.line or []), address.city, address.district, address.postalCode, address.text]


def _day(value: Any) -> str | None:
    """YYYY, YYYY-MM or YYYY-MM-DD of whatever the validated model made of a FHIR date."""
    return None if value is None else str(value.isoformat() if hasattr(value, "isoformat") else value)[:10]


def _all(values: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))
