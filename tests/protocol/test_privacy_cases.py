"""What hospitals and coordinators do in practice that could break the guarantee: each is refused, charged, or stated as not covered."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import client.train.examples
from client.federate.credentials import witness
from client.hospital.policy import HospitalPolicy
from client.hospital.site import Site
from client.records import CleanNote, Dialogue
from client.train.dp_sgd import clip_bound, clipped_integers, unit_gradients
from client.train.engines import FastEngine, Task
from client.train.examples import SftData, poisson_sample
from client.train.noise import SeededNoise
from client.train.objectives import CompletionLoss
from client.train.round_work import NoisyUpdate, RoundWork
from client.train.update import ADAPTER, run_round
from common.adapters import Adapter
from common.bases import load_base
from common.config import AdapterConfig, ModelConfig, PrivacyConfig, Stage, StudyConfig, TrainingConfig
from common.errors import JournalBroken, ProtocolError, TrainingRefused
from common.models import SharedBase
from common.privacy.heads import LedgerHead
from common.privacy.ledger import State
from common.privacy.mechanism import Unit
from tests.helpers.sites import PATIENTS, make_site, sign

RATE, SIGMA, GRID = 0.25, 3.0, 2.0**-16
STUDY = StudyConfig(
    privacy=PrivacyConfig(sampling_rate=RATE, noise_multiplier=SIGMA), sft=TrainingConfig(adapter=AdapterConfig(rank=2, alpha=4.0))
)


@pytest.fixture(scope="module")
def base() -> SharedBase:
    return load_base("tiny", "float32")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    make_site(tmp_path / "north", policy=HospitalPolicy(max_epsilon=10.0))
    return Site.open(tmp_path / "north")


def work_of(base: SharedBase, **changes: object) -> RoundWork:
    work = RoundWork(STUDY, Stage.SFT, None, 0, 0, base.spec(STUDY.sft.adapter).initial(), SIGMA, RATE * PATIENTS, 4)
    return replace(work, **changes)  # type: ignore[arg-type]  # fields by name


def train(site: Site, base: SharedBase, **changes: object) -> NoisyUpdate:
    return run_round(work_of(base, **changes), site, base, noise=SeededNoise(3, site.name))


def data_of(site: Site, base: SharedBase) -> SftData:
    return SftData(site.vault, site.gate, base, ModelConfig(), Unit.PATIENT)


def ingest_again(site: Site, base: SharedBase) -> None:
    """Charged: the ledger is the site's, not the data set's. The same patients under new notes pay on top of what they paid."""
    train(site, base)
    before = site.ledger.epsilon(Unit.PATIENT)
    site.vault.put_notes(CleanNote(f"again-{p}", f"p{p}", "text", dialogues=(Dialogue("what now", "rest"),)) for p in range(PATIENTS))
    sign(site)
    assert site.ledger.epsilon(Unit.PATIENT) == before
    train(site, base, round=1)
    assert [m.steps for m in site.ledger.spent(Unit.PATIENT)] == [2]
    assert site.ledger.epsilon(Unit.PATIENT) > before


def two_record_numbers(site: Site, base: SharedBase) -> None:
    """Stated: such a patient is two units, adds up to 2·C, and the module that forms units says so."""
    site.vault.put_notes([CleanNote("twin", "p0-again", "text", dialogues=(Dialogue("what about item 0 of north", "take 0 tablets"),))])
    sign(site)
    assert len(data_of(site, base).units()) == PATIENTS + 1
    assert "one patient under two record numbers is two units" in (client.train.examples.__doc__ or "")


def restored_ledger(site: Site, base: SharedBase) -> None:
    """Refused by the site itself: the vault knows a later ledger."""
    old = (site.folder / "ledger.jsonl").read_bytes() if (site.folder / "ledger.jsonl").exists() else b""
    train(site, base)
    site.close()
    (site.folder / "ledger.jsonl").write_bytes(old)
    with pytest.raises(JournalBroken, match="older or foreign copy"), Site.open(site.folder) as reopened:
        reopened.ledger  # noqa: B018  # opening it is the check


def head_of(site: Site) -> LedgerHead:
    rows, digest = site.ledger.head
    return LedgerHead(rows, bytes.fromhex(digest))


def restored_site(site: Site, base: SharedBase) -> None:
    """Refused by the peers: vault and ledger went back together, and only others can tell."""
    snapshot = site.folder.parent / "snapshot"
    train(site, base)
    shutil.copytree(site.folder, snapshot)
    train(site, base, round=1)
    make_site(site.folder.parent / "peer")
    with Site.open(site.folder.parent / "peer") as peer, Site.open(snapshot) as restored:
        witness(peer, {"north": head_of(site)})
        assert restored.ledger.epsilon(Unit.PATIENT) < site.ledger.epsilon(Unit.PATIENT)
        with pytest.raises(ProtocolError, match="`north` went back"):
            witness(peer, {"north": head_of(restored)})


def cloned_site(site: Site, base: SharedBase) -> None:
    """Refused by the peers: two copies with the same number of rows and other keys in them."""
    clone = site.folder.parent / "clone"
    site.ledger.verify()
    shutil.copytree(site.folder, clone)
    run_round(work_of(base), site, base)
    make_site(site.folder.parent / "peer")
    with Site.open(site.folder.parent / "peer") as peer, Site.open(clone) as twin:
        run_round(work_of(base), twin, base)
        assert twin.ledger.head[0] == site.ledger.head[0]
        witness(peer, {"north": head_of(site)})
        with pytest.raises(ProtocolError, match="rows as before and they are others"):
            witness(peer, {"north": head_of(twin)})


def noise_on_another_model(site: Site, base: SharedBase) -> None:
    """Charged: a step reserved for one model is not replayed on another. Its row stays spent, and the new step has a key of its own."""
    work = work_of(base)
    other = Adapter(work.adapter.spec, {n: t + np.float32(0.01) for n, t in work.adapter.tensors.items()})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("client.train.update.private_step", _stop)
        with pytest.raises(KeyboardInterrupt):
            run_round(work, site, base)
    run_round(replace(work, adapter=other), site, base)
    first, second = site.ledger.charges()
    assert (first.state, second.state) == (State.SKIPPED, State.COMMITTED)
    assert first.key_digest != second.key_digest
    assert site.vault.get("ledger-step-0") is None, "the key of the abandoned step must be gone"


def _stop(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def rate_from_the_data(site: Site, base: SharedBase) -> None:
    """Refused: the divisor is q times the declared number; one more patient in the vault moves neither."""
    site.vault.put_notes([CleanNote("more", "p-more", "text", dialogues=(Dialogue("hello", "rest"),))])
    sign(site)
    counted = RATE * len(data_of(site, base).units())
    with pytest.raises(TrainingRefused, match="declared 5"):
        train(site, base, expected_units=counted)
    assert site.ledger.charges() == []
    assert train(site, base).expected_units == RATE * PATIENTS


def a_thousand_rows(site: Site, base: SharedBase) -> None:
    """Bounded: at most k rows of a unit are drawn, and all of it together adds at most C."""
    site.vault.put_notes(CleanNote(f"many-{i}", "p0", "text", dialogues=(Dialogue(f"question {i}", f"answer {i}"),)) for i in range(1000))
    sign(site)
    batch = poisson_sample(data_of(site, base), rate=1.0, rows_per_unit=2, key=bytes(32))
    assert len(batch) == PATIENTS
    assert max(len(unit.rows) for unit in batch) == 2
    base.put(ADAPTER, work_of(base).adapter)
    task = Task(base, ADAPTER, work_of(base).adapter.spec.trained(0), CompletionLoss())
    for gradients in unit_gradients(task, FastEngine(), batch[:3], 4000):
        integers, _ = clipped_integers(gradients, clip_bound(1.0, GRID, task.dimensions), GRID, 1.0)
        assert float(integers.double().norm(dim=1).max()) * GRID <= 1.0


CASES: dict[str, Callable[[Site, SharedBase], None]] = {
    "patients are ingested again": ingest_again,
    "one patient under two record numbers": two_record_numbers,
    "an older ledger is put back": restored_ledger,
    "a snapshot of the whole site is restored": restored_site,
    "a site is cloned": cloned_site,
    "noise is reused on another model": noise_on_another_model,
    "q is computed from the data": rate_from_the_data,
    "a unit has a thousand rows": a_thousand_rows,
}


@pytest.mark.parametrize("case", CASES)
def test_each_is_refused_charged_or_stated(case: str, site: Site, base: SharedBase) -> None:
    CASES[case](site, base)
