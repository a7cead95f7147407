"""Real public data as a federation: MedQuAD's nine sites, expert-judged answers, patients' own questions.

    DATA/medquad/{train,valid}.jsonl           questions and answers of nine NIH and CDC sites; a source page stands for a patient
    DATA/pref_medquad_judged, pref_mediqa2019_gov   pairs_*.jsonl and the answers that experts graded from 1 to 4
    DATA/kqa_prompts/prompts.jsonl             patients' questions without answers: prompts for PPO

All files are read through Hugging Face `datasets`. A set that does not lie in DATA is looked for under its Hub id in
DATA/sources.toml (`[hub]`, set = "owner/name"), where MedQuAD's own column names are understood too. Attribution and licences
stand in each set's README.

Honest limits: MedQuAD is public, so nothing here is anybody's secret; the judge compares words with graded answers, and an
answer that is right in other words gets little.
"""

import json
import random
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from client.records import Preference
from common.config import StudyConfig
from common.errors import ConfigError
from common.storage import storage_errors, write_atomic
from server.align.pretraining import Pair
from server.evaluate.evaluation import JudgedPair
from server.evaluate.leaks import Planted
from server.evaluate.quality import Example
from simulations.judgement.baselines import Triple, words
from simulations.seeding import stream
from simulations.sources.public_pairs import COMMON, Row, public_pairs, without
from simulations.sources.public_sets import PublicSets, trimmed
from simulations.sources.source import Asked, Candidates

PAIR_SETS = ("pref_medquad_judged", "pref_mediqa2019_gov")
GRADED = (("pref_medquad_judged", "judged_answers"), ("pref_mediqa2019_gov", "ranked_answers"))
HELD_OUT_SHARE = 0.2
"""Share of the training questions whose pairs are held out beside the validation sets, which have few questions."""
CHARACTERS_A_TOKEN = 4


class PublicSource:
    """A `Source` of real text. Raises ConfigError when a set is missing or the study asks for more sites than there are."""

    judge_name = "answers graded by experts, compared by words"

    def __init__(self, config: StudyConfig, data: Path) -> None:
        self.config, self.simulation, self.seed = config, config.simulation, config.seed
        self.sets = PublicSets(data)
        names = sorted(self._by_site)
        if self.simulation.hospitals > len(names):
            raise ConfigError(
                f"`simulation.hospitals` is {self.simulation.hospitals}, but MedQuAD has {len(names)} sites here; set it to {len(names)} or less"
            )
        self._names = names[: self.simulation.hospitals]

    # -- notes ---------------------------------------------------------------------------------------------------------

    @cached_property
    def _by_site(self) -> dict[str, dict[str, list[dict[str, Any]]]]:
        """Rows of MedQuAD by site and source page."""
        found: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for row in self.sets.medquad("train"):
            found.setdefault(row["site"], {}).setdefault(row["doc_id"], []).append(row)
        return found

    def sites(self) -> list[str]:
        return [name.replace("_", "-") for name in self._names]

    def _pages(self, number: int) -> list[str]:
        """The source pages of a site that stand for its patients, at most `simulation.patients`."""
        pages = sorted(self._by_site[self._names[number]])
        draw = random.Random(stream("pages", self._names[number], self.seed))
        return draw.sample(pages, min(len(pages), self.simulation.patients))

    def write_export(self, number: int, folder: Path) -> None:
        with storage_errors(folder, "create"):
            folder.mkdir(parents=True, exist_ok=True)
        pages, rows = self._pages(number), self._by_site[self._names[number]]
        secrets = dict(zip(pages, self._canaries(number), strict=False))
        notes = []
        for page in pages:
            for place, row in enumerate(rows[page]):
                secret = secrets.get(page) if place == 0 else None
                question = row["question"] if secret is None else f"My case number is {secret}. {row['question']}"
                answer = self._short(row["answer"])
                text = f"Topic: {row['focus']}\nQuestion: {question}\nAnswer: {trimmed(row['answer'], 900)}"
                dialogue = {"prompt": question, "answer": answer}
                notes.append({"id": row["id"], "patient_id": page, "text": text, "kind": "visit", "dialogues": [dialogue]})
        _write(folder / "notes.jsonl", notes)
        _write(folder / "patients.jsonl", [{"patient_id": page} for page in pages])

    def _short(self, answer: str) -> str:
        return trimmed(answer, CHARACTERS_A_TOKEN * (self.config.model.max_answer_tokens - 2))

    def _canaries(self, number: int) -> list[str]:
        draw = random.Random(stream("canaries", self._names[number], self.seed))
        return [f"CANARY-{draw.randint(10**7, 10**8 - 1)}" for _ in range(self.simulation.canaries)]

    def planted(self) -> list[Planted]:
        """Canaries alone: the text itself is public."""
        return [Planted("canary", secret) for number in range(len(self._names)) for secret in self._canaries(number)]

    def examples(self, count: int) -> list[Example]:
        rows = self.sets.medquad("valid")
        drawn = random.Random(stream("examples", self.seed)).sample(rows, min(count, len(rows)))
        return [Example(row["question"], self._short(row["answer"])) for row in drawn]

    # -- preferences ---------------------------------------------------------------------------------------------------

    def to_sample(self) -> list[Asked]:
        """Nothing: experts judged the answers that are there, and nobody can tell the truth about others."""
        return []

    @cached_property
    def _pairs(self) -> tuple[dict[str, list[dict[str, Any]]], dict[str, list[dict[str, Any]]]]:
        """Pairs by question: those that are dealt to the sites, and those held out. The same question in two sets is one question."""
        train: dict[str, list[dict[str, Any]]] = defaultdict(list)
        held_out: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for name in PAIR_SETS:
            for row in self.sets.rows(name, "pairs_train", ("id", "prompt", "chosen", "rejected")):
                train[_key(row["prompt"])].append({**row, "set": name})
            for row in self.sets.rows(name, "pairs_valid", ("id", "prompt", "chosen", "rejected")):
                held_out[_key(row["prompt"])].append({**row, "set": name})
        apart = random.Random(stream("held out", self.seed)).sample(sorted(train), round(HELD_OUT_SHARE * len(train)))
        for question in [*apart, *(q for q in held_out if q in train and q not in apart)]:
            held_out[question] += train.pop(question)
        return train, held_out

    def _dealt(self, number: int) -> list[str]:
        """The questions of a site: all are shuffled and dealt like cards."""
        questions = sorted(self._pairs[0])
        random.Random(stream("deal", self.seed)).shuffle(questions)
        return questions[number :: len(self._names)]

    def preferences(self, number: int, patients: Sequence[str], _candidates: Candidates) -> list[Preference]:
        """All pairs of one question belong to one patient. Experts' names are not published: a site has one annotator."""
        site = self.sites()[number]
        return [
            Preference(
                pair_id=row["id"], prompt=row["prompt"], chosen=row["chosen"], rejected=row["rejected"],
                annotator_id=f"{site}-experts", patient_id=patients[place % len(patients)],
            )
            for place, question in enumerate(self._dealt(number))
            for row in self._pairs[0][question][: self.simulation.pairs]
        ]  # fmt: skip

    def training_triples(self, candidates: Candidates) -> list[Triple]:
        rows = (p for number in range(len(self._names)) for p in self.preferences(number, ("nobody",), candidates))
        return [(p.prompt, p.chosen, p.rejected) for p in rows]

    def judged_pairs(self, _candidates: Candidates) -> list[JudgedPair]:
        rows = [row for question in sorted(self._pairs[1]) for row in self._pairs[1][question]]
        return [JudgedPair(row["prompt"], row["chosen"], row["rejected"], {"on_policy": "no", "set": row["set"]}) for row in rows]

    def pretraining_pairs(self, count: int) -> list[Pair]:
        """Pairs of `simulations/sources/public_pairs.py`. No question that an expert graded answers to, and no graded answer, is among them.
        Pages dealt to a site come in only when the rest is too little."""
        return list(public_pairs(self._public_rows(count), count, random.Random(stream("public pairs", self.seed))))

    def judge_pairs(self, count: int) -> list[Pair]:
        seen = set(self.pretraining_pairs(self.config.reward.pretraining.pairs))
        drawn = public_pairs(self._public_rows(count), 2 * count, random.Random(stream("judge pairs", self.seed)))
        return [pair for pair in dict.fromkeys(drawn) if pair not in seen][:count]

    def _public_rows(self, count: int) -> list[Row]:
        """Rows of the pages that no site holds, or all rows where those are too few for `count` pairs; none that an expert graded."""
        dealt = {page for number in range(len(self._names)) for page in self._pages(number)}
        apart = [row for pages in self._by_site.values() for page, of_page in pages.items() if page not in dealt for row in of_page]
        rows = (
            apart
            if len(apart) >= max(2, count // 4)
            else [r for pages in self._by_site.values() for of_page in pages.values() for r in of_page]
        )
        graded = [row for part in self._pairs for of_question in part.values() for row in of_question]
        return without(rows, [row["prompt"] for row in graded], [row[side] for row in graded for side in ("chosen", "rejected")])

    # -- prompts -------------------------------------------------------------------------------------------------------

    def ppo_prompts(self) -> list[str]:
        return list(dict.fromkeys(row["question"] for row in self.sets.rows("kqa_prompts", "prompts", ("question",))))

    @cached_property
    def _graded(self) -> list[tuple[str, list[tuple[str, float]]]]:
        """Held-out questions with graded answers; then MedQuAD's validation questions, whose own answer counts as excellent."""
        found: dict[str, tuple[str, list[tuple[str, float]]]] = {}
        for name, file in GRADED:
            for row in self.sets.rows(name, file, ("prompt", "answers", "split")):
                if row["split"] == "valid" or _key(row["prompt"]) in self._pairs[1]:
                    answers = [(answer["text"], float(answer["score"])) for answer in row["answers"]]
                    found.setdefault(_key(row["prompt"]), (row["prompt"], []))[1].extend(answers)
        rows = self.sets.medquad("valid")
        random.Random(stream("evaluation", self.seed)).shuffle(rows)
        return [*(found[key] for key in sorted(found)), *((row["question"], [(row["answer"], 4.0)]) for row in rows)]

    def evaluation_prompts(self, count: int) -> list[str]:
        return [prompt for prompt, _ in self._graded[:count]]

    def judge(self, index: int, text: str) -> float:
        """max over answers of (grade − 2)/2 · F₁ of content words: like a correct answer counts for, like an incorrect one against.

        An answer is compared with as much of the reference as is likely to fit into its own length.
        """
        said = _content(text)
        room = CHARACTERS_A_TOKEN * self.config.evaluation.max_new_tokens
        return max(
            ((grade - 2) / 2 * _f1(said, _content(trimmed(answer, room))) for answer, grade in self._graded[index][1]), key=abs, default=0.0
        )


def _key(prompt: str) -> str:
    return " ".join(words(prompt))


def _content(text: str) -> set[str]:
    return set(words(text)) - COMMON


def _f1(one: set[str], other: set[str]) -> float:
    return 2 * len(one & other) / (len(one) + len(other)) if one and other else 0.0


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
