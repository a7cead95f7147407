"""The rules of the house: who may import whom, whose names these are, and what the documents may not claim."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("common", "client", "server", "simulations")
PAGES = sorted(p for p in ROOT.rglob("*.md") if not {".venv", "runs", "node_modules"} & set(p.relative_to(ROOT).parts))


def test_import_contracts_hold() -> None:
    result = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-3000:]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_foreign_package_of_the_same_name(package: str) -> None:
    """The folders are imported by plain names, so a package of that name elsewhere on the path would be loaded in their place."""
    found = importlib.import_module(package).__file__
    assert found is not None
    assert Path(found).parent == ROOT / package


OVERCLAIMS = re.compile(
    r"HIPAA[- ]compliant|GDPR[- ]compliant|fully anonymous|guarantees? anonymity|100 ?% (?:safe|private)|impossible to re-?identify",
    re.IGNORECASE,
)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_documents_do_not_overclaim(page: Path) -> None:
    claims = [
        line
        for line in page.read_text(encoding="utf-8").splitlines()
        if OVERCLAIMS.search(line) and "never" not in line.lower() and "not " not in line.lower()
    ]
    assert not claims, claims


def test_the_overclaim_rule_can_fail() -> None:
    assert OVERCLAIMS.search("Wardround is HIPAA compliant.")
