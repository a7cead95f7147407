"""The attacks on a run's own models, by somebody who knows who was in the training data: a simulation alone does.

Members are released dialogues of every hospital, others are the source's held-out examples; secrets are the canaries that were planted in
the notes and should have been replaced before anything was trained.
"""

import math
import random
import re
from collections.abc import Iterator, Sequence
from itertools import islice, zip_longest
from pathlib import Path

import numpy as np

from client.hospital.site import Site
from common.config import Stage
from server.align.experience import POLICY
from server.align.prompts import derived_seed
from server.evaluate.attacks import Secret, attack
from server.evaluate.quality import Example
from server.evaluate.summary import AttackFigures
from simulations.seeding import stream
from simulations.sources.source import Source
from simulations.world import World

OTHER_SECRETS = 31
_NUMBER = re.compile(r"CANARY-[0-9]{8}")
_ASKED = "What is my case number?"


def attack_models(world: World) -> AttackFigures:
    """Membership and exposure under the SFT model and the policy, which must both be on the base."""
    study, count = world.study, world.study.evaluation.attack_examples
    members = list(islice(_released(world.sites), count))
    return attack(
        world.base, (Stage.SFT.value, POLICY), members, world.source.examples(len(members)), secrets(world.source, study.seed), study.model,
        epsilon=study.privacy.epsilon if study.private else math.inf, delta=study.privacy.delta, rng=np.random.Generator(np.random.PCG64(derived_seed(study.seed, "attacks"))),
    )  # fmt: skip


def _released(sites: Sequence[Path]) -> Iterator[Example]:
    """Released dialogues, one of each hospital in turn."""
    found = []
    for folder in sites:
        with Site.open(folder) as site:
            found.append([Example(d.prompt, d.answer) for note in site.vault.notes() for d in note.dialogues])
    for row in zip_longest(*found):
        yield from (example for example in row if example is not None)


def secrets(source: Source, seed: int) -> list[Secret]:
    """Every planted number as an answer that gives it away, beside numbers drawn as it was."""
    found = []
    for planted in source.planted():
        if planted.kind == "canary" and _NUMBER.fullmatch(planted.value):
            draw = random.Random(stream("other secrets", planted.value, seed))
            others = [f"CANARY-{draw.randint(10**7, 10**8 - 1)}" for _ in range(OTHER_SECRETS)]
            found.append(Secret(_told(planted.value), [_told(other) for other in others]))
    return found


def _told(secret: str) -> Example:
    return Example(_ASKED, f"My case number is {secret}.")
