"""Where a simulated federation takes its hospitals, questions and truths from: one interface, two members.

`simulations/sources/synthetic.py` invents everything; `simulations/sources/datasets.py` reads real public sets. The study never asks which.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from client.records import Preference
from server.align.pretraining import Pair
from server.evaluate.evaluation import JudgedPair
from server.evaluate.leaks import Planted
from server.evaluate.quality import Example
from simulations.judgement.baselines import Triple


@dataclass(frozen=True, slots=True)
class Asked:
    """A public prompt with a stable name."""

    id: str
    prompt: str


Candidates = Mapping[str, str]
"""What the SFT model answered, by the id of the prompt."""


class Source(Protocol):
    """Everything that a run reads beside what it computes. Each method gives the same for the same configuration."""

    judge_name: str
    """Who judges an answer, in words for the report."""

    def sites(self) -> Sequence[str]:
        """Names of the hospitals, in the order in which cohorts are dealt."""

    def write_export(self, number: int, folder: Path) -> None:
        """Write notes.jsonl and patients.jsonl of hospital `number` into `folder`."""

    def planted(self) -> Sequence[Planted]:
        """Identifiers and canaries that stand in the exports and may be found in nothing that leaves a hospital."""

    def examples(self, count: int) -> Sequence[Example]:
        """Held-out questions and answers of no hospital of the study."""

    def to_sample(self) -> Sequence[Asked]:
        """Prompts that the SFT model must answer before pairs can be labelled; empty where all answers are given."""

    def preferences(self, number: int, patients: Sequence[str], candidates: Candidates, /) -> Sequence[Preference]:
        """The labelled pairs of hospital `number`, each of one of its patients."""

    def training_triples(self, candidates: Candidates, /) -> Sequence[Triple]:
        """All hospitals' pairs as (prompt, chosen, rejected), for the shallow baselines that are printed beside the reward model."""

    def judged_pairs(self, candidates: Candidates, /) -> Sequence[JudgedPair]:
        """Held-out pairs with the truth of which answer is better."""

    def pretraining_pairs(self, count: int) -> Sequence[Pair]:
        """Public pairs for preference-model pretraining at the coordinator."""

    def judge_pairs(self, count: int) -> Sequence[Pair]:
        """Public pairs for the judges of the watch, none of them among `pretraining_pairs`."""

    def ppo_prompts(self) -> Sequence[str]:
        """Public prompts that the policy is trained on."""

    def evaluation_prompts(self, count: int) -> Sequence[str]:
        """Held-out public prompts on which policy and SFT model are compared."""

    def judge(self, index: int, text: str) -> float:
        """Worth of an answer to evaluation prompt `index`. No model ever sees it."""
