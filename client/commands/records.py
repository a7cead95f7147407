"""What the site has written down of itself: spending, messages that left, and whether the chains hold."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from client.commands.options import Json, SiteFolder, commands
from client.hospital.site import Site
from common.console import plain, print_json, say
from common.privacy.accounting import epsilon
from common.privacy.ledger import Charge
from common.privacy.mechanism import Unit

app = commands()
log_app = typer.Typer(help="The site's hash-chained records.", no_args_is_help=True)
app.add_typer(log_app, name="log")


@app.command()
def budget(folder: SiteFolder = Path(), as_json: Json = False) -> None:
    """What was spent of the patients' privacy, by unit and study, and what is left."""
    with Site.open(folder) as site:
        ledger = site.ledger
        charges = ledger.charges()
        unprotected = ledger.unprotected
        delta = site.policy.max_delta
        # What was spent stays on the account of its unit, also when the policy permits that unit no longer.
        units = dict.fromkeys((*ledger.budgets, *(charge.mechanism.unit for charge in charges)))
        accounts = [
            _Account(
                unit=unit,
                epsilon=None if unprotected else ledger.epsilon(unit, delta=delta),
                budget=ledger.budgets[unit].epsilon if unit in ledger.budgets else 0.0,
                delta=delta,
                left=0.0 if unprotected or unit not in ledger.budgets else ledger.remaining(unit),
                steps=dict(Counter(charge.entry.study for charge in charges if charge.mechanism.unit is unit)),
                studies=_spends([charge for charge in charges if charge.mechanism.unit is unit], delta),
            )
            for unit in units
        ]
    if as_json:
        print_json(
            {"units": [asdict(account) for account in accounts], "not_private": unprotected, "rows": ledger.head[0], "head": ledger.head[1]}
        )
        return
    table = Table("unit", "spent ε", "of", "at δ", "steps by study", "when")
    for account in accounts:
        spent = "∞" if account.epsilon is None else f"{account.epsilon:.3f}"
        studies = ", ".join(f"{study} {steps}" for study, steps in account.steps.items()) or "none"
        when = "; ".join(f"{s.study} {s.stage} {s.first} to {s.last}" for s in account.studies)
        table.add_row(account.unit.value, spent, f"{account.budget:g}", f"{account.delta:g}", studies, when)
    Console().print(table)
    if unprotected:
        say("NOT PRIVATE: this site has trained without privacy")


@app.command()
def egress(folder: SiteFolder = Path(), as_json: Json = False) -> None:
    """Every message that left this hospital: bytes, schema, when, about what; and every request that was refused, with the reason."""
    with Site.open(folder) as site:
        rows = [{"kind": row.kind, **row.body} for row in site.audit.rows() if row.kind in ("egress", "refusal")]
    sent = [row for row in rows if row["kind"] == "egress"]
    if as_json:
        print_json({"messages": len(sent), "bytes": sum(int(str(row["bytes"])) for row in sent), "rows": rows})
        return
    table = Table("when", "what", "bytes", "about")
    for row in rows:
        what = row.get("schema") or f"refused: {row.get('reason')}"
        table.add_row(str(row["at"]), plain(str(what)), str(row.get("bytes", "")), plain(str(row["about"])))
    Console().print(table)
    say(f"{len(sent)} messages, {sum(int(str(row['bytes'])) for row in sent):,} bytes in all")


@log_app.command()
def verify(folder: SiteFolder = Path(), as_json: Json = False) -> None:
    """Check every digest of the ledger and of the audit log."""
    with Site.open(folder) as site:
        site.ledger.verify()
        site.audit.verify()
        heads = {"ledger": site.ledger.head, "audit": site.audit.head}
    if as_json:
        print_json({name: {"rows": rows, "head": head} for name, (rows, head) in heads.items()})
    else:
        for name, (rows, head) in heads.items():
            say(f"{name}: {rows} rows hold; head {head[:16]}")


@dataclass(frozen=True, slots=True)
class _Spend:
    """What one stage of one study did: how many steps, when first and last, ε of those steps alone."""

    study: str
    stage: str
    steps: int
    first: str
    last: str
    epsilon: float


def _spends(charges: Sequence[Charge], delta: float) -> tuple[_Spend, ...]:
    by_stage: dict[tuple[str, str], list[Charge]] = {}
    for charge in charges:
        by_stage.setdefault((charge.entry.study, charge.entry.stage), []).append(charge)
    return tuple(
        _Spend(study, stage, len(found), found[0].at, found[-1].at, epsilon([charge.mechanism for charge in found], delta))
        for (study, stage), found in by_stage.items()
    )


@dataclass(frozen=True, slots=True)
class _Account:
    """One unit's account; `epsilon` is None when it is infinite, `budget` 0 for a unit that the policy does not permit, `steps` are counted by
    study. ε of studies compose; they do not add up."""

    unit: Unit
    epsilon: float | None
    budget: float
    delta: float
    left: float
    steps: dict[str, int]
    studies: tuple[_Spend, ...]
