"""Which private steps a study asked of its sites, and the studies that it goes on from: the coordinator's account, without any ledger.

An upper bound: a site that missed a round is charged for it all the same. Under placement `sum` a repeated round is a new step, under `site`
it is the same one (`client/train/update.py`).
"""

import json
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path

from common.errors import ModelUnavailable, StorageError
from common.privacy.mechanism import Mechanism, Placement, Unit
from common.privacy.schedule import round_steps, step_mechanism
from common.storage import storage_errors, write_atomic
from server.evaluate.accounts import Accounts, PrivateStep
from server.registry import Version
from server.run_folder import RunFolder, federated_lines, parse_line

TAKEN_OVER = "taken_over_from"
"""Key of a version's figures: the earlier study that trained it."""


def own_lines(run: RunFolder) -> list[Version]:
    """The federated lines that this study trained itself. Raises ModelUnavailable when one of the study's lines is not there."""
    return [version for version in map(run.registry.latest, federated_lines(run.study)) if TAKEN_OVER not in version.figures]


def asked_of_sites(run: RunFolder) -> Accounts:
    """Every private step that the study, and those it goes on from, asked of each site. Raises ModelUnavailable before the sites enrolled."""
    study, enrolment = run.study, run.enrolment()
    if enrolment is None:
        raise ModelUnavailable(f"{run.path}: no site has enrolled yet; train the study's lines first")
    accounts: defaultdict[str, list[PrivateStep]] = defaultdict(list, {site: [] for site in enrolment.declared})
    for site, steps in _read_earlier(run).items():
        accounts[site] += steps
    for version in own_lines(run):
        stage, member = parse_line(version.line)
        sigma = float(str(version.figures["noise_multiplier"]))
        again = study.privacy.placement is Placement.SUM
        times = sum(1 + (int(str(row["attempt"])) if again else 0) for row in run.metrics.rows(version.line)) * round_steps(study, stage)
        for site, expected_units in enrolment.cohort(study, stage, member).expected_units.items():
            mechanism = step_mechanism(study, stage, expected_units=expected_units, sigma=sigma)
            accounts[site] += [PrivateStep(version.line, mechanism, simulated=False)] * times
    return dict(sorted(accounts.items()))


def keep_earlier(run: RunFolder, accounts: Accounts) -> None:
    """Write down in `run` what the study it goes on from asked of the sites."""
    rows = [
        {"site": site, "line": step.line, "times": times, "mechanism": asdict(step.mechanism)}
        for site, steps in sorted(accounts.items())
        for step, times in Counter(steps).items()
    ]
    write_atomic(_path(run), json.dumps(rows, indent=1) + "\n", mode=0o644)


def _read_earlier(run: RunFolder) -> Accounts:
    if not _path(run).exists():
        return {}
    with storage_errors(_path(run), "read what the earlier study asked of the sites"):
        text = _path(run).read_text(encoding="utf-8")
    found: defaultdict[str, list[PrivateStep]] = defaultdict(list)
    try:
        for row in json.loads(text):
            of = row["mechanism"]
            mechanism = Mechanism(**{**of, "unit": Unit(of["unit"]), "placement": Placement(of["placement"])})
            found[row["site"]] += [PrivateStep(row["line"], mechanism, simulated=False)] * int(row["times"])
    except (ValueError, KeyError, TypeError):
        raise StorageError(f"{_path(run)}: cannot be read; make the run again from the earlier one") from None
    return found


def _path(run: RunFolder) -> Path:
    return run.path / "federation" / "earlier.json"
