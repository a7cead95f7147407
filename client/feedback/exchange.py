"""Questions and choices to and from other tools, and counts for the study board.

    label-studio   JSON list of tasks: data {prompt, answer1 … answer4}, a pairwise or choices result an annotation
    argilla        JSON lines: fields {prompt, response1 … response4}, a ranking `preference` with one response a user
    jsonl          JSON lines of our own: {prompt, answers: [{text, source?, sampled?}], task?, patient_id?, known_best?, reason?}
    counts         CSV: figures of questions and annotators, no text

Protects against: an identifier that comes in with a foreign file: every text goes through the same de-identification as a note, and a
question whose text is held back is left aside and counted.
Does not protect against: a file that was exported. It holds text in the clear: it is written for its owner alone, and its way from
there is the hospital's to watch.
"""

import csv
import io
import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from client.feedback.acts import Format
from client.feedback.items import MAX_ANSWERS, MIN_ANSWERS, Candidate, Choice, Item, Origin, Tag, Verdict
from client.feedback.report import Agreement
from client.intake.export import readable
from client.intake.jsonl import objects
from client.records import Dialogue, PatientRecord, RawNote
from client.sealed.sealing import KEY_BYTES
from client.sealed.vault import Vault
from common.errors import IntakeError
from common.events import Handle

MAX_CHARACTERS = 20_000


@dataclass(frozen=True, slots=True, repr=False)
class Imported:
    """Questions that came in, and how many were left aside because an identifier could not be replaced with confidence."""

    items: tuple[Item, ...]
    left_aside: int
    replaced: int

    def __repr__(self) -> str:
        return f"Imported({len(self.items)}, {self.left_aside} left aside)"


# -- reading -----------------------------------------------------------------------------------------------------------


def read_items(path: Path, kind: Format, draw: Callable[[int], int] = secrets.randbelow) -> list[Item]:
    """The questions of a file, their answers in a fresh random order. Raises IntakeError by file, line and field.

    Choices that the file holds are not taken over: who made them, and whether blindly, is not known here.
    """
    rows = _tasks(path) if kind is Format.LABEL_STUDIO else objects(path)
    read = {Format.LABEL_STUDIO: _from_label_studio, Format.ARGILLA: _from_argilla, Format.JSONL: _from_ours}[kind]
    return [_shuffled(read(path, number, row), draw) for number, row in rows]


def cleaned(items: Sequence[Item], vault: Vault) -> Imported:
    """The questions after de-identification, each with what the vault knows of its patient. See the head of the module."""
    from client.deid.deidentifier import Deidentifier, Work  # its libraries take seconds to load

    works = []
    for item in items:
        unit = None if item.patient_id is None else vault.unit_of(item.patient_id)
        record, secret = (PatientRecord(""), secrets.token_bytes(KEY_BYTES)) if unit is None else vault.patient(unit)
        texts = [item.prompt, item.reason, *(answer.text for answer in item.answers)]
        texts += [""] * (len(texts) % 2)
        dialogues = tuple(Dialogue(a, b) for a, b in zip(texts[::2], texts[1::2], strict=True))
        works.append(Work((RawNote(item.item_id, item.patient_id or "", "", dialogues=dialogues),), record, secret))
    found, left_aside, replaced = [], 0, 0
    for item, (done,) in zip(items, Deidentifier().clean(works), strict=True):
        if done.reason is not None:
            left_aside += 1
            continue
        replaced += sum(done.note.counts.values())
        texts = [text for dialogue in done.note.dialogues for text in (dialogue.prompt, dialogue.answer)]
        answers = tuple(replace(answer, text=text) for answer, text in zip(item.answers, texts[2:], strict=False))
        found.append(replace(item, prompt=texts[0], reason=texts[1], answers=answers))
    return Imported(tuple(found), left_aside, replaced)


def _tasks(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    tree = _parsed(path, None, _text(path))
    if not isinstance(tree, list):
        raise IntakeError(path, None, None, "a Label Studio export is a list of tasks")
    for number, task in enumerate(tree, 1):
        yield number, _object(path, number, task)


def _text(path: Path) -> str:
    try:
        with readable(path):
            return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise IntakeError(path, None, None, "not UTF-8; export the file as UTF-8") from None


def _parsed(path: Path, number: int | None, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise IntakeError(path, number, None, "not valid JSON") from None


def _object(path: Path, number: int, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise IntakeError(path, number, None, "not an object")
    return value


def _from_ours(path: Path, number: int, row: Mapping[str, Any]) -> Item:
    answers = row.get("answers")
    if not isinstance(answers, list):
        raise IntakeError(path, number, "answers", "is not a list")
    known = {"prompt", "answers", "task", "patient_id", "known_best", "reason"}
    if set(row) - known:
        raise IntakeError(path, number, None, f"has keys beside {', '.join(sorted(known))}")
    best = row.get("known_best")
    if best is not None and (isinstance(best, bool) or not isinstance(best, int)):
        raise IntakeError(path, number, "known_best", "is not the index of an answer, from 0")
    candidates = []
    for answer in answers:
        body = {"text": answer} if isinstance(answer, str) else _object(path, number, answer)
        candidates.append(
            Candidate(
                _string(path, number, "answers", body.get("text")), str(body.get("source", "imported"))[:100], body.get("sampled") is True
            )
        )
    return _item(path, number, row, row.get("prompt"), candidates, best)


def _from_label_studio(path: Path, number: int, row: Mapping[str, Any]) -> Item:
    data = _object(path, number, row.get("data"))
    return _item(path, number, data, data.get("prompt"), _numbered(path, number, data, "answer"), None)


def _from_argilla(path: Path, number: int, row: Mapping[str, Any]) -> Item:
    fields = _object(path, number, row.get("fields"))
    metadata = row.get("metadata") if isinstance(row.get("metadata"), dict) else {}
    return _item(path, number, metadata or {}, fields.get("prompt"), _numbered(path, number, fields, "response"), None)


def _numbered(path: Path, number: int, fields: Mapping[str, Any], stem: str) -> list[Candidate]:
    names = [f"{stem}{n}" for n in range(1, MAX_ANSWERS + 1) if fields.get(f"{stem}{n}") is not None]
    return [Candidate(_string(path, number, name, fields[name]), "imported") for name in names]


def _item(path: Path, number: int, row: Mapping[str, Any], prompt: object, candidates: Sequence[Candidate], best: int | None) -> Item:
    if not MIN_ANSWERS <= len(candidates) <= MAX_ANSWERS:
        raise IntakeError(path, number, "answers", f"are {len(candidates)}; a question has {MIN_ANSWERS} to {MAX_ANSWERS}")
    if best is not None and not 0 <= best < len(candidates):
        raise IntakeError(path, number, "known_best", f"is {best} of {len(candidates)} answers, counted from 0")
    patient = row.get("patient_id")
    return Item(
        item_id=Handle.draw(),
        prompt=_string(path, number, "prompt", prompt),
        answers=tuple(candidates),
        patient_id=None if patient is None else _string(path, number, "patient_id", patient),
        task=_task(path, number, row.get("task")),
        origin=Origin.IMPORTED if best is None else Origin.CALIBRATION,
        known_best=best,
        reason="" if row.get("reason") is None or best is None else _string(path, number, "reason", row["reason"]),
    )


def _task(path: Path, number: int, value: object) -> str:
    """A short word of letters, digits and hyphens: it is shown in figures, so no text may hide in it."""
    if value is None:
        return "question"
    if not isinstance(value, str) or not 1 <= len(value) <= 40 or not value.replace("-", "").replace("_", "").isalnum():
        raise IntakeError(path, number, "task", "is not a word of at most 40 letters, digits and hyphens")
    return value


def _string(path: Path, number: int, field: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise IntakeError(path, number, field, "is missing or not text")
    if len(value) > MAX_CHARACTERS:
        raise IntakeError(path, number, field, f"has {len(value)} characters; at most {MAX_CHARACTERS} can be shown")
    return value.strip()


def _shuffled(item: Item, draw: Callable[[int], int]) -> Item:
    """The answers in a random order: a file that lists the better one first must not say so by the index."""
    from client.feedback.pairs import shown_order

    order = shown_order(len(item.answers), draw)
    best = None if item.known_best is None else order.index(item.known_best)
    return replace(item, answers=tuple(item.answers[i] for i in order), known_best=best)


# -- writing -----------------------------------------------------------------------------------------------------------


def to_label_studio(items: Sequence[Item], choices: Callable[[str], Sequence[Choice]], codes: Mapping[str, int]) -> str:
    """Tasks with one annotation a choice; `codes` numbers the annotators. Two answers give a `pairwise` result, others `choices`."""
    tasks = [
        {
            "id": number,
            "data": {"prompt": item.prompt, **{f"answer{n}": a.text for n, a in enumerate(item.answers, 1)}, "task": item.task},
            "annotations": [
                {
                    "completed_by": codes[choice.person_id],
                    "created_at": choice.at,
                    "lead_time": round(choice.seconds, 3),
                    "was_cancelled": choice.verdict is Verdict.SKIP,
                    "ground_truth": choice.adjudication,
                    "result": [] if choice.verdict is Verdict.SKIP else _results(item, choice),
                }
                for choice in choices(item.item_id)
            ],
        }
        for number, item in enumerate(items, 1)
    ]
    return json.dumps(tasks, ensure_ascii=False, indent=1) + "\n"


def _results(item: Item, choice: Choice) -> list[dict[str, Any]]:
    names = ",".join(f"answer{n}" for n in range(1, len(item.answers) + 1))
    if choice.chosen is not None and len(item.answers) == 2:
        first = {"type": "pairwise", "from_name": "better", "to_name": names, "value": {"selected": ("left", "right")[choice.chosen]}}
    else:
        said = f"answer{choice.chosen + 1}" if choice.chosen is not None else choice.verdict.value
        first = {"type": "choices", "from_name": "better", "to_name": "prompt", "value": {"choices": [said]}}
    results = [first]
    for index in range(len(item.answers)):
        tags = [tag.value for i, tag in choice.remarks.tags if i == index]
        if tags:
            results.append(
                {"type": "choices", "from_name": f"tags{index + 1}", "to_name": f"answer{index + 1}", "value": {"choices": tags}}
            )
        for i, scale, rating in choice.remarks.ratings:
            if i == index:
                name = f"{scale.value}{index + 1}"
                results.append({"type": "rating", "from_name": name, "to_name": f"answer{index + 1}", "value": {"rating": rating}})
    if choice.remarks.correction:
        results.append({"type": "textarea", "from_name": "correction", "to_name": "prompt", "value": {"text": [choice.remarks.correction]}})
    return results


def to_argilla(items: Sequence[Item], choices: Callable[[str], Sequence[Choice]], codes: Mapping[str, int]) -> str:
    """Lines with a ranking a user: the chosen answer before the others, all in one rank for a tie or when none is safe."""
    lines = []
    for item in items:
        names = [f"response{n}" for n in range(1, len(item.answers) + 1)]
        responses: dict[str, list[dict[str, Any]]] = {"preference": [], "verdict": []}
        for choice in choices(item.item_id):
            user, status = f"annotator-{codes[choice.person_id]}", "discarded" if choice.verdict is Verdict.SKIP else "submitted"
            ranks = [{"value": name, "rank": 1 if choice.chosen in (None, i) else 2} for i, name in enumerate(names)]
            responses["preference"].append({"user_id": user, "value": ranks, "status": status})
            responses["verdict"].append({"user_id": user, "value": choice.verdict.value, "status": status})
        fields = {"prompt": item.prompt, **{name: a.text for name, a in zip(names, item.answers, strict=True)}}
        lines.append({"id": item.item_id, "fields": fields, "metadata": {"task": item.task}, "responses": responses, "suggestions": {}})
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def to_counts(found: Agreement, choices: Sequence[Choice]) -> str:
    """`figure,group,value` lines: states, verdicts, tags, agreement with its interval, what each annotator gave. No text, no names."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["figure", "group", "value"])
    writer.writerows([["questions", "all", found.questions], ["votes", "all", found.votes]])
    writer.writerows(["state", state, number] for state, number in found.states.items())
    writer.writerows(["verdict", verdict.value, sum(c.verdict is verdict for c in choices)] for verdict in Verdict)
    writer.writerows(["tag", tag.value, sum(tag is given for c in choices for _, given in c.remarks.tags)] for tag in Tag)
    for task, figures in {"all": found.overall, **found.by_task}.items():
        for name in ("percent", "fleiss", "alpha"):
            estimate = getattr(figures, name)
            for end in ("value", "low", "high"):
                number = getattr(estimate, end)
                writer.writerow([name if end == "value" else f"{name} {end}", task, "" if number is None else f"{number:.4f}"])
    for code, speed in found.speed.items():
        writer.writerow(["choices", code, speed.choices])
        writer.writerow(["median seconds", code, "" if speed.median_seconds is None else f"{speed.median_seconds:.1f}"])
    return out.getvalue()
