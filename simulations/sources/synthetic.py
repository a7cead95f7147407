"""Invented hospitals, questions from the public family, and the rubric as judge.

Half of the labelled pairs (`simulation.on_policy_share`) hold one answer that was sampled from the SFT model; `to_sample` says to
which questions. Those questions are shared by the hospitals, each with another answer beside the sampled one, so that few
samples are enough.
"""

import random
import tempfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from client.deid.deidentifier import Deidentifier, Work
from client.intake.jsonl import read_jsonl
from client.records import PatientRecord, Preference
from common.config import StudyConfig
from server.align.pretraining import Pair
from server.evaluate.evaluation import JudgedPair
from server.evaluate.leaks import Planted
from server.evaluate.quality import Example
from simulations.judgement.baselines import Triple
from simulations.judgement.clinicians import Clinician, clinicians, label
from simulations.judgement.pairs import AnswerPair, build_pairs, public_pairs
from simulations.judgement.questions import Question, questions
from simulations.judgement.rubric import rubric
from simulations.patients.notes import HospitalSpec, patients_of, write_hospital
from simulations.seeding import stream
from simulations.sources.source import Asked, Candidates

SHARED_QUESTIONS = 160
"""Most questions that the SFT model is asked for the labelled pairs of all hospitals together."""
PPO_PROMPTS = 512
_HELD_OUT = "held-out"


class SyntheticSource:
    """A `Source` made of nothing but the study's configuration and its seed."""

    judge_name = "the simulated clinicians' rubric"

    def __init__(self, config: StudyConfig) -> None:
        self.config, self.simulation, self.seed = config, config.simulation, config.seed

    def sites(self) -> list[str]:
        return [f"hospital-{number + 1}" for number in range(self.simulation.hospitals)]

    # -- notes ---------------------------------------------------------------------------------------------------------

    def _spec(self, number: int) -> HospitalSpec:
        return HospitalSpec(self.sites()[number], number, self.simulation.patients, self.simulation.canaries)

    def write_export(self, number: int, folder: Path) -> None:
        write_hospital(folder, self._spec(number), self.seed)

    def planted(self) -> list[Planted]:
        """Canaries, and for each patient the full name, record number, telephone, address of mail and of the house."""
        found: list[Planted] = []
        for number in range(self.simulation.hospitals):
            people, canaries = patients_of(self._spec(number), self.seed)
            found += [Planted("canary", canary.secret) for canary in canaries]
            for one in people:
                values = {
                    "name": one.person.full,
                    "phone": one.phone,
                    "email": one.email,
                    "address": one.street,
                    "record number": one.record_number,
                }
                found += [Planted(kind, value) for kind, value in values.items()]
        return found

    def examples(self, count: int) -> list[Example]:
        """Dialogues of patients who belong to no hospital of the study, written by all habits and de-identified like the rest."""
        found: list[Example] = []
        number = 0
        while len(found) < count:
            with tempfile.TemporaryDirectory() as folder:
                write_hospital(Path(folder), HospitalSpec(f"{_HELD_OUT}-{number}", number, max(2, count // 16), 0), self.seed)
                export = read_jsonl(Path(folder))
                notes, records = list(export.notes), list(export.records)
            work = [
                Work(tuple(n for n in notes if n.patient_id == record.patient_id), record, _secret(record, self.seed)) for record in records
            ]
            cleaned = [c.note for patient in Deidentifier().clean(work) for c in patient if c.reason is None]
            found += [Example(d.prompt, d.answer) for note in cleaned for d in note.dialogues]
            number += 1
        # Whole hospitals come one after the other; a shuffle lets a small count see several habits.
        random.Random(stream("examples", self.seed)).shuffle(found)
        return found[:count]

    # -- preferences ---------------------------------------------------------------------------------------------------

    @cached_property
    def _shared(self) -> list[Question]:
        wanted = self._on_policy_pairs * self.simulation.hospitals
        return questions("train", min(SHARED_QUESTIONS, wanted), stream("shared", self.seed))

    @property
    def _on_policy_pairs(self) -> int:
        return round(self.simulation.on_policy_share * self.simulation.pairs)

    @cached_property
    def _test_questions(self) -> list[Question]:
        return questions("test", self.config.evaluation.reward_pairs, stream("test pairs", self.seed))

    def _test_to_sample(self) -> list[Question]:
        return self._test_questions[: round(self.simulation.on_policy_share * len(self._test_questions))]

    def to_sample(self) -> list[Asked]:
        return [Asked(q.id, q.text) for q in (*self._shared, *self._test_to_sample())]

    def _labelled(self, number: int, patients: Sequence[str], candidates: Candidates) -> Iterator[tuple[AnswerPair, Clinician, Preference]]:
        site = self.sites()[number]
        own = questions("train", self.simulation.pairs - self._on_policy_pairs, stream("own", site, self.seed))
        start = number * self._on_policy_pairs
        shared = [self._shared[(start + i) % len(self._shared)] for i in range(self._on_policy_pairs)]
        asked = [*own, *shared]
        draw = random.Random(stream("labels", site, self.seed))
        order = draw.sample(range(len(asked)), len(asked))
        pairs = build_pairs([asked[i] for i in order], "train", stream("pairs", site, self.seed), candidates)
        judges = clinicians(site, number, self.simulation.label_noise)
        for place, pair in enumerate(pairs):
            judge = judges[place % len(judges)]
            swap = draw.random() < 0.5  # which answer is shown first
            shown = (pair.worse, pair.better) if swap else (pair.better, pair.worse)
            first = label(pair.question, *shown, judge, draw) == "a"
            chosen, rejected = shown if first else shown[::-1]
            yield pair, judge, Preference(
                pair_id=f"{site}-{place}", prompt=pair.question.text, chosen=chosen, rejected=rejected, annotator_id=judge.id,
                patient_id=patients[place % len(patients)], on_policy=pair.on_policy,
            )  # fmt: skip

    def preferences(self, number: int, patients: Sequence[str], candidates: Candidates) -> list[Preference]:
        return [preference for _, _, preference in self._labelled(number, patients, candidates)]

    def training_triples(self, candidates: Candidates) -> list[Triple]:
        rows = (p for number in range(self.simulation.hospitals) for p in self.preferences(number, ("nobody",), candidates))
        return [(p.prompt, p.chosen, p.rejected) for p in rows]

    def judged_pairs(self, candidates: Candidates) -> list[JudgedPair]:
        pairs = build_pairs(self._test_questions, "test", stream("test", self.seed), candidates)
        return [
            JudgedPair(
                p.question.text,
                p.better,
                p.worse,
                {"on_policy": "yes" if p.on_policy else "no", "fault": p.fault.value if p.fault else "on-policy"},
            )
            for p in pairs
        ]

    def pretraining_pairs(self, count: int) -> list[Pair]:
        return public_pairs(count, stream("public", self.seed))

    def judge_pairs(self, count: int) -> list[Pair]:
        seen = set(self.pretraining_pairs(self.config.reward.pretraining.pairs))
        drawn = public_pairs(2 * count, stream("judges", self.seed))
        return [pair for pair in drawn if pair not in seen][:count]

    # -- prompts -------------------------------------------------------------------------------------------------------

    def ppo_prompts(self) -> list[str]:
        return list(dict.fromkeys(q.text for q in questions("ppo", PPO_PROMPTS, stream("ppo", self.seed))))

    @cached_property
    def _evaluation_questions(self) -> list[Question]:
        return questions("test", self.config.evaluation.prompts, stream("evaluation", self.seed))

    def evaluation_prompts(self, count: int) -> list[str]:
        return [q.text for q in self._evaluation_questions[:count]]

    def judge(self, index: int, text: str) -> float:
        return rubric(self._evaluation_questions[index], text).score


def _secret(record: PatientRecord, seed: int) -> bytes:
    """Key of the surrogates of a held-out patient, who is invented: nothing hangs on it."""
    return stream("secret", record.patient_id, seed).to_bytes(8, "big") * 4
