"""A labelling page as small as it can be: a site with questions and people, and the page itself in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from client.feedback.acts import Format, PairsAdded, PersonAdded, Role
from client.feedback.items import Candidate, Item, Origin
from client.feedback.people import Person, new_person
from client.feedback.store import FeedbackStore
from client.hospital.site import Site
from common.events import Handle

PASSWORD = "quiet harbour lantern"
QUESTIONS = (
    "My mother is 72 and takes warfarin. She has had a headache since this morning. May she take ibuprofen?",
    "I am 30 weeks pregnant and my hands and face are swollen since yesterday. Is that normal?",
    "My son has had a fever of 38.6 for two days but is drinking and playing. When should we come in?",
    "I was told to take metformin with food. I forgot this morning’s tablet. Should I take two tonight?",
)
BETTER = (
    "Please do not give ibuprofen: with warfarin it can cause bleeding. Paracetamol is the safer choice. A new headache on warfarin "
    "should be looked at today, so please call us or the out-of-hours service.",
    "Swelling of hands and face late in pregnancy needs to be checked today, because it can be a sign of raised blood pressure. "
    "Please call the maternity unit now, and at once if you have a headache or see flashes.",
    "It sounds as if he is coping well. Offer drinks often and let him rest. Come in if the fever lasts beyond three days, if he drinks "
    "little, is hard to wake, or has a rash that does not fade.",
    "No, please do not double the dose. Leave the missed tablet out and take the next one at the usual time with food. "
    "If you miss several, give us a call.",
)
WORSE = (
    "Yes, ibuprofen is a common painkiller and works well for headaches. Two tablets with a glass of water should be fine.",
    "Swelling is completely normal in pregnancy and there is no reason at all to worry. Put your feet up and drink plenty of water.",
    "Any fever in a child is an emergency. You must go to hospital immediately, without waiting for anything.",
    "Taking two tablets tonight will make up for it. That is always the right thing to do with any medicine.",
)


def questions(number: int, *, answers: int = 2, calibration: int = 0, patients: int = 0) -> list[Item]:
    """`number` questions, the last `calibration` of them with a known answer, dealt to so many patients if any."""
    found = []
    for n in range(number):
        i, known = n % len(QUESTIONS), n >= number - calibration
        texts = [BETTER[i], WORSE[i], BETTER[(i + 1) % 4], WORSE[(i + 2) % 4]][:answers]
        found.append(
            Item(
                item_id=Handle.draw(),
                prompt=QUESTIONS[i] if n < len(QUESTIONS) else f"{QUESTIONS[i]} (case {n})",
                answers=tuple(Candidate(text, f"model-{k}", sampled=k == 0) for k, text in enumerate(texts)),
                patient_id=f"p{n % patients}" if patients else None,
                task=("medicines", "pregnancy", "children", "medicines")[i],
                origin=Origin.CALIBRATION if known else Origin.RANDOM,
                known_best=0 if known else None,
                reason="It names the danger and says what to do today." if known else "",
            )
        )
    return found


def add_questions(store: FeedbackStore, items: Sequence[Item]) -> None:
    store.add_items(items, PairsAdded(len(items), 0, Format.JSONL))


def add_person(store: FeedbackStore, name: str, role: Role = Role.ANNOTATOR) -> Person:
    person = new_person(name, role, PASSWORD)
    store.save_person(person, PersonAdded(person.person_id, role))
    return person


def make_labelling_site(folder: Path, items: Sequence[Item], people: Sequence[tuple[str, Role]], settings: str = "") -> None:
    with Site.create(folder, "north", simulated_seed=1) as site:
        store = FeedbackStore(site)
        for name, role in people:
            add_person(store, name, role)
        add_questions(store, items)
    (folder / "labelling.toml").write_text(settings)


@contextmanager
def open_page(folder: Path) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """(address, process) of `wardround-site label` on a free port; ends it afterwards if it still runs."""
    command = [sys.executable, "-c", "from client.cli import main; main()", "label", "--site", str(folder), "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    try:
        assert process.stdout is not None
        told: dict[str, Any] = json.loads(process.stdout.readline())
        yield str(told["address"]).rstrip("/"), process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()
