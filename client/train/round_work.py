"""What one round asks of a site and what it gives out, and what training needs of the site."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from client.train.examples import Gate, TrainingVault
from common.adapters import Adapter
from common.config import Stage, StudyConfig
from common.journal import Journal
from common.privacy.ledger import Ledger
from common.privacy.mechanism import Unit
from common.secure.context import line_name


class TrainingSite(Protocol):
    """What training needs of a site."""

    @property
    def name(self) -> str: ...
    @property
    def folder(self) -> Path: ...
    @property
    def vault(self) -> TrainingVault: ...
    @property
    def ledger(self) -> Ledger: ...
    @property
    def audit(self) -> Journal: ...
    @property
    def gate(self) -> Gate: ...
    def declared_units(self, unit: Unit) -> int: ...


@dataclass(frozen=True, slots=True)
class RoundWork:
    """What one round asks of this site, as the coordinator's message says it.

    member            which reward model; None in the SFT stage
    noise_multiplier  σ (ignored with `engine = "none"`)
    expected_units    L = q·N_s, public
    sites             sites of the sum, which bounds the words
    """

    study: StudyConfig
    stage: Stage
    member: int | None
    round: int
    attempt: int
    adapter: Adapter
    noise_multiplier: float
    expected_units: float
    sites: int

    @property
    def line(self) -> str:
        """`sft`, `reward-0`, …"""
        return line_name(self.stage, self.member)


@dataclass(frozen=True, slots=True, repr=False)
class NoisyUpdate:
    """words: int32 multiples of `grid` (d,): local learning rate times the sum over L units of their clipped negative gradients, plus noise.

    private is False when the study's engine is `none`: then these words are NOT PRIVATE. simulated: the noise came from a known seed.
    """

    words: NDArray[np.int32]
    grid: float
    expected_units: float
    private: bool
    simulated: bool

    def __repr__(self) -> str:
        return f"NoisyUpdate({self.words.size} words{'' if self.private else ', NOT PRIVATE'}{', simulated' if self.simulated else ''})"
