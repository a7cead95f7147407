"""What every test may use: where the real public data lies, and the rule that its tests may not all be skipped in CI."""

import os
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real, licensed public data sets beside the project; skips where it is missing."""
    if not DATA.is_dir():
        pytest.skip(f"the public data sets are not at {DATA}")
    return DATA


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """With WARDROUND_REQUIRE_DATA set, a full run in which every data test was skipped has failed."""
    if not os.environ.get("WARDROUND_REQUIRE_DATA"):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    reports = [r for key in ("passed", "failed", "skipped") for r in reporter.stats.get(key, [])]
    data = [r for r in reports if "data" in r.keywords]
    if data and all(r.skipped for r in data):
        reporter.write_line(f"all {len(data)} tests on real data were skipped", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
