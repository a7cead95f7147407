"""What the coordinator's desk is told when it types something wrong: the value, what it may be, and what to do; exit 2 for usage, 1 for a refusal."""

import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
import tomli_w

from client.hospital.identity import make_card, make_keys
from server import cli
from server.deploy import desk
from server.deploy.folder import Deployment, Settings
from server.run_folder import RunFolder
from tests.helpers.deployment import ROOT, free_port
from tests.unit.server.test_federated_stages import config


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """(exit code, all that was printed) of one command."""

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["wardround-coordinator", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        shown = capsys.readouterr()
        return int(stopped.value.code or 0), shown.out + shown.err

    return run


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    settings = Settings(consortium="north", host="localhost", port=free_port(), superlink_port=free_port())
    return desk.found(tmp_path / "desk", settings, now=datetime.now(UTC))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--host", "wr.example:8443"), "`host`: a name or an IPv4 address, without a port"),
        (("--host", ""), "`host`: a name or an IPv4 address, without a port"),
        (("--host", "a" * 254), "`host`: a name or an IPv4 address, without a port"),
        (("--host", "localhost", "--consortium", "North of Rivers!"), "`consortium`: use at most 63 of a-z, 0-9 and -"),
        (("--host", "localhost", "--listen", "300.1.1.1"), "`listen`: an IPv4 address of this machine"),
        (("--host", "localhost", "--port", "8443", "--superlink-port", "8443"), "both 8443"),
        (("--host", "localhost", "--port", "0"), "not in the range"),
    ],
)
def test_a_wrong_setting_founds_nothing(say, tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    code, shown = say("init", tmp_path / "desk", *options)
    assert (code, words in " ".join(shown.split())) == (2, True), shown
    assert not (tmp_path / "desk").exists()


@pytest.mark.parametrize(
    ("key", "value"), [("listen", "nowhere"), ("port", 0), ("port", True), ("consortium", "A"), ("host", "a b"), ("prot", 1)]
)
def test_a_setting_that_was_edited_wrongly_is_named_with_its_file(say, deployment: Deployment, key: str, value: object) -> None:
    file = deployment.path / "coordinator.toml"
    file.write_text(tomli_w.dumps({**tomllib.loads(file.read_text()), key: value}))
    code, shown = say("up", "--check", "--deployment", deployment.path)
    assert (code, f"{file}: `{key}`: " in shown) == (1, True), shown


def test_a_site_that_is_not_in_the_roster(say, deployment: Deployment, tmp_path: Path) -> None:
    code, shown = say("roster", "revoke", "st-mary", "--deployment", deployment.path)
    assert (code, "which holds none; a new one is admitted with `roster add CARD`" in shown) == (1, True), shown
    make_keys(tmp_path / "ash")
    card = tmp_path / "ash.card"
    card.write_bytes(make_card(tmp_path / "ash", "ash"))
    assert "no site `ash`" in say("roster", "rotate", card, "--deployment", deployment.path)[1]
    assert say("roster", "add", card, "--deployment", deployment.path)[0] == 0
    assert "which holds ash;" in say("roster", "revoke", "st-mary", "--deployment", deployment.path)[1]


def test_status_says_where_a_run_stands_while_the_superlink_is_down(say, deployment: Deployment, tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", config())
    code, shown = say("status", run.path, "--deployment", deployment.path)
    assert (code, "does not answer; start it with `wardround-coordinator up`" in shown) == (0, True), shown
    found = json.loads(say("status", run.path, "--deployment", deployment.path, "--json")[1])
    assert (found["superlink"], found["nodes"], found["next"]) == (False, {}, "sft")
    assert json.loads(say("status", run.path, "--json")[1])["superlink"] is None


@pytest.mark.parametrize("name", ["wardround_2", "1-wardround", "wardround.git", "w" * 33])
def test_a_checkout_in_a_folder_that_flower_does_not_take(say, deployment: Deployment, tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    code, shown = say("bundle", "--app", tmp_path / name, "--deployment", deployment.path)
    assert (code, "rename or copy it" in shown) == (1, True), shown
