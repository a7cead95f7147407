"""How a hospital runs its labelling: FOLDER/labelling.toml, every key optional. What is not there has the default."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from common.settings import Frozen, read_toml, validated

FILE = "labelling.toml"
GUIDELINES = "guidelines.txt"
Language = Literal["en", "es", "de"]


class LabelSettings(Frozen):
    votes_per_pair: int = Field(default=2, ge=1, le=9, description="annotators who see every question before anything is settled")
    extra_votes: int = Field(default=1, ge=0, le=5, description="further annotators where the first differ")
    agreement_threshold: float = Field(default=0.6, gt=0.5, le=1, description="share of votes that settles; below it goes to adjudication")
    skips_to_adjudicate: int = Field(default=2, ge=1, le=9, description="so many skips bring a question before the adjudicator")
    max_share: float = Field(default=0.5, gt=0, le=1, description="the most of all planned votes that one annotator may give")
    calibration_every: int = Field(default=10, ge=2, le=1000, description="a calibration item at the start and after so many choices")
    ratings: bool = Field(default=False, description="ask for accuracy, safety, clarity and empathy of each answer")
    break_after_minutes: float = Field(default=25.0, gt=0, le=480, description="remind of a break after so long without one")
    idle_minutes: float = Field(default=30.0, gt=0, le=720, description="sign out after so long without a request")
    session_hours: float = Field(default=12.0, gt=0, le=24)
    disagreement_threshold: float = Field(default=0.15, ge=0, le=0.5, description="a prompt whose ensemble disagrees more is always asked")
    random_floor: float = Field(default=0.2, ge=0, le=1, description="share of all other prompts that is asked as well, drawn at random")
    language: Language = Field(default="en", description="of the page before somebody has chosen one")
    content_language: str = Field(
        default="en", pattern=r"^[a-z]{2,3}(-[A-Z]{2})?$", description="of prompts and answers, for screen readers"
    )


def load_settings(folder: Path) -> LabelSettings:
    """The site's settings, or the defaults when it has no such file. Raises ConfigError naming file and key."""
    path = folder / FILE
    return validated(str(path), read_toml(path, "every key is optional"), LabelSettings) if path.exists() else LabelSettings()
