"""wardround-site: the desk of one hospital.

    wardround-site init DIR                                   a site: vault, key, policy, declared units
    wardround-site ingest PATH --format fhir|csv|jsonl        an export into the vault
    wardround-site deidentify                                 every pending note, then the gate
    wardround-site deidentify IN.jsonl OUT.jsonl              one file, without a site
    wardround-site label · agreement · people … · pairs …      clinicians' choices: the page, and what goes in and out of it
    wardround-site doctor · budget · egress · withdraw PATIENT · purge · log verify

Commands on a site take it from --site, from WARDROUND_SITE, or from the current folder. Every command takes --json: one JSON object on
standard output, nothing else there. Exit codes: 0 done, 1 refused or failed with the reason and the remedy on standard error, 2 wrong usage.
"""

import typer

from client.commands import desk, labelling, notes, records
from client.deploy import commands as deployment
from common.console import run_command

app = typer.Typer(
    name="wardround-site",
    help="One hospital's side: take in notes, de-identify them, see what was spent and what left.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for subject in (desk, notes, labelling, records, deployment):
    app.add_typer(subject.app)


def main() -> None:
    run_command(app, "wardround-site")


if __name__ == "__main__":
    main()
