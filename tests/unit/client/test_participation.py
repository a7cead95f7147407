"""What a hospital checks before it takes part, as tables; and that nothing is trained when it refuses."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from client.federate.participation import say_hello, take_part
from client.hospital.policy import HospitalPolicy
from client.hospital.site import Site
from common.bases import shared_base
from common.config import Stage, StudyConfig
from common.errors import BudgetExhausted, ConfigError, PolicyRefused, ProtocolError, WardroundError
from common.models import SharedBase
from common.privacy.mechanism import Unit
from common.protocol import HelloRequest, RoundRequest, travelling
from common.secure.context import RoundContext
from common.secure.fixedpoint import grid_step, limit, words_from_bytes

STUDY = StudyConfig.model_validate(
    {
        "study_id": "toy",
        "model": {"base": "tiny", "dtype": "float32"},
        "secure": {"exchange": "plain"},
        "privacy": {"noise_multiplier": 1.0, "sampling_rate": 0.1, "clip_norm": 0.5},
        "sft": {"rounds": 5},
        "reward": {"rounds": 5, "members": 2},
        "simulation": {"hospitals": 6},
    }
)


PERMITS_PLAIN = HospitalPolicy(allowed_exchanges=("plain",))
SITES = ("ash", "birch", "cedar", "doum", "elm", "fir")


@dataclass(frozen=True)
class Made:
    words: np.ndarray
    grid: float
    expected_units: float


class Trainer:
    """Counts how often it was asked to train, and gives known integers."""

    def __init__(self) -> None:
        self.calls: list[RoundRequest] = []
        self.grid, self.value = grid_step(0.5), 7

    def __call__(self, request: RoundRequest, adapter: object, site: Site, base: SharedBase) -> Made:
        self.calls.append(request)
        spec = base.spec(request.study.stage(request.context.stage).adapter, head=request.context.stage is Stage.REWARD)
        return Made(np.full(spec.size(request.context.round), self.value, np.int32), self.grid, request.expected_units)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site.create(tmp_path / "ash", "ash", PERMITS_PLAIN, declared_units={Unit.PATIENT: 90})


def base(study: StudyConfig) -> SharedBase:
    return shared_base(study.model.base, study.model.dtype)


def request(round_number: int = 0, member: int | None = None, study: StudyConfig = STUDY, **fields: object) -> RoundRequest:
    stage = Stage.SFT if member is None else Stage.REWARD
    spec = base(study).spec(study.stage(stage).adapter, head=stage is Stage.REWARD)
    adapter = spec.initial()
    adapter = adapter.with_vector(adapter.vector(round_number) + np.float32(0.01) * round_number, round_number)
    sites = SITES if member is None else SITES[:3]
    context = RoundContext(study.digest, stage, member, round_number, 0, sites, adapter.digest, base(study).digest, noise_multiplier=1.0)
    made = RoundRequest(context, "update", b"", study, 0.1 * 90, grid_step(0.5), travelling(adapter))
    about = {name: value for name, value in fields.items() if hasattr(context, name)}
    return replace(made, context=replace(context, **about), **{k: v for k, v in fields.items() if k not in about})  # type: ignore[arg-type]


def part(site: Site, asked: RoundRequest, trainer: Trainer | None = None) -> bytes:
    """Over the wire, as it would arrive."""
    return take_part(site, RoundRequest.from_record(asked.to_record()), load_base=base, train=trainer or Trainer()).body


def test_hello_tells_what_was_asked_for_and_no_more(site: Site, tmp_path: Path) -> None:
    other = Site.create(tmp_path / "birch", "birch", declared_units={Unit.PATIENT: 40, Unit.PAIR: 300})
    assert say_hello(other, HelloRequest((Unit.PAIR,))).declared_units == {Unit.PAIR: 300}
    with pytest.raises(ConfigError, match="has not declared its number of pairs"):
        say_hello(site, HelloRequest((Unit.PAIR, Unit.PATIENT)))


@pytest.mark.parametrize("member", [None, 1])
def test_an_admitted_round_is_trained_and_answered(site: Site, member: int | None) -> None:
    trainer = Trainer()
    body = part(site, request(member=member), trainer)
    assert set(words_from_bytes(body, len(body) // 4).tolist()) == {7}
    assert len(trainer.calls) == 1


def test_an_update_is_clamped_to_its_share_and_never_refused(site: Site) -> None:
    trainer = Trainer()
    trainer.value = 2**31 - 1
    body = part(site, request(), trainer)
    assert set(words_from_bytes(body, len(body) // 4).tolist()) == {limit(6)}


def other_study(**privacy: object) -> StudyConfig:
    return StudyConfig.model_validate({**STUDY.model_dump(), "study_id": "other", "privacy": {**STUDY.privacy.model_dump(), **privacy}})


TABLE: dict[str, tuple[Callable[[], RoundRequest], type[WardroundError], str]] = {
    "another cohort": (lambda: request(sites=("birch", "cedar", "doum")), ProtocolError, "is not in the cohort"),
    "a round too many": (lambda: request(5), ProtocolError, "round 5 of `sft` is beyond the study's 5"),
    "a member too many": (lambda: request(member=2), ProtocolError, "reward member 2 does not exist"),
    "another grid": (lambda: request(grid=1e-9), ProtocolError, "is not the public one"),
    "a heavier weight": (lambda: request(expected_units=90.0), ProtocolError, "counts 90 units for this site and it declared 9"),
    "a lighter weight": (lambda: request(expected_units=1.0), ProtocolError, "counts 1 units"),
    "another base": (lambda: request(base_digest="0" * 64), ProtocolError, "base model `tiny` has other weights here"),
    "another adapter": (lambda: request(adapter_digest="0" * 64), ProtocolError, "not the one its digest names"),
    "another exchange": (lambda: request(exchange="masked"), ProtocolError, "travels by the exchange `masked` and the study says `plain`"),
    "another phase": (lambda: request(phase="unmask"), ProtocolError, "one phase, `update`"),
    "two sites": (lambda: request(sites=("ash", "birch")), ProtocolError, "2 sites would be summed, and the study describes sums of 6"),
    "too much epsilon": (lambda: request(study=other_study(epsilon=9.5)), PolicyRefused, "epsilon 9.5 is above this hospital's 8"),
    "noise in shares": (lambda: request(study=other_study(placement="sum")), ConfigError, "shows the coordinator each update"),
    "no privacy": (
        lambda: request(study=other_study(engine="none", noise_multiplier=None), noise_multiplier=0.0), PolicyRefused, "trains without privacy",
    ),
    "an undeclared unit": (lambda: request(study=other_study(unit="record")), ConfigError, "has not declared its number of records"),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLE, ids=str)
def test_a_hospital_refuses(site: Site, case: str) -> None:
    make, error, words = TABLE[case]
    trainer = Trainer()
    with pytest.raises(error, match=words):
        part(site, make(), trainer)
    assert not trainer.calls, "nothing may be trained for a refused request"


def test_a_stricter_policy_refuses_the_same_request(tmp_path: Path) -> None:
    for name, change in {"strict": {"min_sites": 4}, "sft-only": {"allowed_stages": (Stage.SFT,)}}.items():
        policy = PERMITS_PLAIN.model_copy(update=change)
        site = Site.create(tmp_path / name, "ash", policy, declared_units={Unit.PATIENT: 90})
        with pytest.raises(PolicyRefused):
            part(site, request(member=0))


# -- what the site remembers -------------------------------------------------------------------------------------------


def test_a_repeated_request_is_answered_and_an_old_one_is_not(site: Site) -> None:
    part(site, request(0))
    part(site, request(2))
    part(site, request(2))
    with pytest.raises(ProtocolError, match=r"round 1, attempt 0 of `sft` is over here; round 2, attempt 0 was asked since"):
        part(site, request(1))
    part(site, request(2, attempt=1))
    with pytest.raises(ProtocolError, match="is over here"):
        part(site, request(2))


@pytest.mark.parametrize("fields", [{"sites": (*SITES[:5], "zapote")}, {"base_digest": "0" * 64}, {"adapter_digest": "0" * 64}])
def test_another_model_or_cohort_for_the_same_round_is_refused(site: Site, fields: dict[str, object]) -> None:
    part(site, request(1))
    trainer = Trainer()
    with pytest.raises(ProtocolError, match="was asked before with another model, cohort or base"):
        part(site, request(1, **fields), trainer)
    assert not trainer.calls


@pytest.mark.parametrize("fields", [{"base_digest": "0" * 64}, {"adapter_digest": "0" * 64}])
def test_a_mistake_of_the_coordinator_can_be_mended(site: Site, fields: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        part(site, request(1, **fields))
    assert part(site, request(1)), "nothing was trained on the wrong model, so the round is still open"


def test_a_study_keeps_its_figures(site: Site) -> None:
    part(site, request(0))
    changed = StudyConfig.model_validate({**STUDY.model_dump(), "seed": 1})
    with pytest.raises(ProtocolError, match="study `toy` is known here with other figures"):
        part(site, request(1, study=changed))
    part(site, request(0, study=StudyConfig.model_validate({**STUDY.model_dump(), "seed": 1, "study_id": "toy-2"})))


def test_a_patient_meets_the_reward_stage_once(site: Site) -> None:
    part(site, request(0, member=1))
    with pytest.raises(ProtocolError, match="trains reward member 1 of study `toy`, and no other"):
        part(site, request(0, member=0))
    part(site, request(1, member=1))


def test_memory_survives_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "ash"
    with Site.create(folder, "ash", PERMITS_PLAIN, declared_units={Unit.PATIENT: 90}) as site:
        part(site, request(3))
    with Site.open(folder) as site, pytest.raises(ProtocolError, match="is over here"):
        part(site, request(2))
    assert b"toy" not in (folder / "vault.db").read_bytes(), "what the site remembers is sealed"


class Steps:
    """An exchange of two phases, the first of which leaves a secret for the second."""

    name, hides_updates = "steps", False

    def reply(
        self, context: RoundContext, phase: str, request: bytes, state: bytes, words: Callable[[], np.ndarray]
    ) -> tuple[bytes, bytes]:
        if phase == "keys":
            return b"a fresh secret", b"public"
        assert state == b"a fresh secret"
        return b"", words().tobytes()[:4]


def test_what_an_exchange_keeps_is_sealed_and_then_erased(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.federate.participation.site_exchange", lambda name, credentials: Steps())
    folder, trainer = tmp_path / "ash", Trainer()
    first = request(2, phase="keys", tensors=None)
    key = "exchange/toy/sft"
    with Site.create(folder, "ash", PERMITS_PLAIN, declared_units={Unit.PATIENT: 90}) as site:
        assert part(site, first, trainer) == b"public"
        assert not trainer.calls
    assert all(b"a fresh secret" not in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    with Site.open(folder) as site:
        with pytest.raises(ProtocolError, match="is over here"):
            part(site, request(1, phase="keys", tensors=None))
        assert site.vault.get(key) == b"a fresh secret"
        assert part(site, request(2, phase="words"), trainer) == (7).to_bytes(4, "little")
        assert site.vault.get(key) is None


def test_a_failure_in_training_is_passed_on_and_can_be_repeated(site: Site) -> None:
    def broke(*_: object) -> Made:
        raise BudgetExhausted("no budget")

    with pytest.raises(BudgetExhausted):
        take_part(site, request(0), load_base=base, train=broke)
    assert part(site, request(0))


def test_an_update_on_another_grid_does_not_leave(site: Site) -> None:
    trainer = Trainer()
    trainer.grid = 1.0
    with pytest.raises(ProtocolError, match="another grid or weight"):
        part(site, request(0), trainer)
