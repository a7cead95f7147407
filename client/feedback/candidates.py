"""New questions for the clinicians: prompts of this hospital's own patients, answered here by the current models, and kept where they disagree.

    released prompts → answers sampled on this machine → margins of the reward members → those worth asking → de-identified → items

Protects against: a prompt from a note that did not pass the gate (checked first); an identifier that a model remembered (answers go
through the de-identification too); one patient's prompts pushed out by another's (see `pairs.py`).
Does not protect against: prompts that are alike in many patients; a model whose answers are all poor, which shows as ties.
"""

import random
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from client.feedback.exchange import Imported, cleaned
from client.feedback.items import MAX_ANSWERS, MIN_ANSWERS, Candidate, Item, Origin
from client.feedback.pairs import disagreement, shown_order, worth_asking
from client.feedback.settings import LabelSettings
from client.hospital.site import Site
from common.adapters import Adapter
from common.config import ModelConfig
from common.errors import ConfigError
from common.events import Handle
from common.models import SharedBase
from common.progress import Progress

BATCH = 8


@dataclass(frozen=True, slots=True, repr=False)
class Prompt:
    """A released prompt and the patient whose it is."""

    text: str
    patient_id: str
    task: str

    def __repr__(self) -> str:
        return f"Prompt(<{len(self.text)} chars>)"


@dataclass(frozen=True, slots=True, repr=False)
class Asked:
    """What came of it: questions by their origin, and prompts whose answers were all the same."""

    items: Imported
    prompts: int
    by_disagreement: int
    at_random: int
    alike: int

    def __repr__(self) -> str:
        return f"Asked({len(self.items.items)} of {self.prompts})"


def released_prompts(site: Site, known: Sequence[Item], most: int) -> list[Prompt]:
    """Prompts of released notes that were not asked before, at most so many, in the order of the vault. Raises GateRefused without a token."""
    site.gate(site.vault.digest())
    asked = {(item.prompt, item.patient_id) for item in known}
    found: dict[tuple[str, str], Prompt] = {}
    for note in site.vault.notes():
        for dialogue in note.dialogues:
            key = (dialogue.prompt, note.patient_id)
            if key not in asked and dialogue.prompt.strip():
                found.setdefault(key, Prompt(dialogue.prompt, note.patient_id, note.kind))
    return list(found.values())[:most]


def sample(
    base: SharedBase, adapter: str | None, prompts: Sequence[str], model: ModelConfig, *, temperature: float, seed: int
) -> list[str]:
    """One answer to each prompt from the base with an adapter (None: the base alone), at most `model.max_answer_tokens` long."""
    answers: list[str] = []
    with torch.no_grad(), base.using(adapter), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for start in range(0, len(prompts), BATCH):
            rows = [base.encode_prompt(prompt, model.max_prompt_tokens) for prompt in prompts[start : start + BATCH]]
            batch = base.pad(rows, side="left")
            made = base.lm.generate(  # type: ignore[operator]  # transformers types `generate` as a tensor or module
                input_ids=batch.ids, attention_mask=batch.mask, do_sample=True, temperature=temperature, top_p=1.0, top_k=0,
                max_new_tokens=model.max_answer_tokens, eos_token_id=base.end_id, pad_token_id=base.pad_id,
            )  # fmt: skip
            answers += [base.decode(row[batch.ids.shape[1] :].tolist()) for row in made]
    return answers


def margins(base: SharedBase, members: Sequence[str], prompt: str, first: str, second: str, model: ModelConfig) -> list[float]:
    """Each reward member's r(first) − r(second), read as its adapter says."""
    bounds = {"max_prompt_tokens": model.max_prompt_tokens, "max_answer_tokens": model.max_answer_tokens}
    found = []
    for member in members:
        shape = base.get(member).spec.config
        with torch.no_grad():
            scores = base.rewards([member], [base.encode_for(shape, prompt, answer, **bounds) for answer in (first, second)])[0]
        found.append(float(scores[0] - scores[1]))
    return found


def ask(
    site: Site,
    base: SharedBase,
    policies: Sequence[Path],
    members: Sequence[Path],
    known: Sequence[Item],
    settings: LabelSettings,
    model: ModelConfig,
    *,
    answers: int,
    most: int,
    temperature: float,
    progress: Progress,
    draw: Callable[[int], int] = secrets.randbelow,
) -> Asked:
    """Questions on new prompts. With several policies their answers stand against each other, with one it answers so many times.

    Raises ConfigError for a number of answers or members that cannot be used, GateRefused when the notes have no valid token.
    """
    if not MIN_ANSWERS <= answers <= MAX_ANSWERS:
        raise ConfigError(f"{answers} answers cannot be compared; ask for {MIN_ANSWERS} to {MAX_ANSWERS}")
    if len(members) == 1:
        raise ConfigError("one reward member never disagrees with itself; name two or more, or none to ask at random")
    prompts = released_prompts(site, known, most)
    writers: list[tuple[str | None, str]] = [*_install(base, policies, "writer", head=False)] or [(None, "base")]
    judges = [name for name, _ in _install(base, members, "judge", head=True)]
    progress.start("write answers", answers + 1)
    texts: list[list[Candidate]] = [[] for _ in prompts]
    for number in range(answers):
        adapter, source = writers[number % len(writers)]
        written = sample(base, adapter, [p.text for p in prompts], model, temperature=temperature, seed=draw(2**31))
        for place, text in zip(texts, written, strict=True):
            if text and text not in [candidate.text for candidate in place]:
                place.append(Candidate(text, source, sampled=True))
        progress.advance()
    items, alike = [], 0
    for prompt, candidates in zip(prompts, texts, strict=True):
        if len(candidates) < MIN_ANSWERS:
            alike += 1
            continue
        differ = disagreement(margins(base, judges, prompt.text, candidates[0].text, candidates[1].text, model)) if judges else None
        why = worth_asking(differ, random.Random(draw(2**62)).random(), settings)
        if why is not None:
            order = shown_order(len(candidates), draw)
            items.append(Item(Handle.draw(), prompt.text, tuple(candidates[i] for i in order), prompt.patient_id, prompt.task, why))
    progress.advance()
    by = sum(item.origin is Origin.DISAGREEMENT for item in items)
    return Asked(cleaned(items, site.vault), len(prompts), by, len(items) - by, alike)


def _install(base: SharedBase, folders: Sequence[Path], stem: str, *, head: bool) -> list[tuple[str, str]]:
    """Put each adapter on the base. Returns (name there, name of its folder). Raises ConfigError for an adapter of another kind or base."""
    names: list[tuple[str, str]] = []
    for number, folder in enumerate(folders):
        name, adapter = f"{stem}-{number}", Adapter.load(folder)
        if adapter.spec.base != base.name or adapter.spec.head != head:
            wanted = "a reward member" if head else "a policy"
            raise ConfigError(f"{folder}: not {wanted} of the base model `{base.name}`; look at its adapter_config.json")
        base.put(name, adapter)
        names.append((name, folder.name))
    return names
