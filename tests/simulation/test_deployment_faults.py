"""Whole studies over real processes and TLS, with faults that kill, cut, delay and refuse. Minutes long; `pytest -s` prints the figures.

A round is lost when its committed figures are gone or another round stands in its place; an update is lost when a site spent a step on it
and no later round of the line was committed. ε is spent twice when a ledger holds two charges for one step of one round.
"""

import contextlib
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from client.deploy.bundles import approve, open_bundle
from client.hospital.site import Site
from common.journal import Journal
from common.secure.introductions import Invitation
from server.deploy import desk
from server.deploy.folder import Deployment
from server.deploy.nodes import nodes, settle
from server.run_folder import RunFolder
from tests.helpers.deployment import ROOT, Background, World, call, wait_for, world, write_study
from tests.helpers.network import ChaosFront, namespaces

SITES = ("ash", "birch", "cedar", "doum")
PATIENTS_WORDS = (b"what about item", b"item 3 of", b"prompt 3 of")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]


def test_a_study_survives_a_killed_coordinator_a_killed_site_and_a_dropout(tmp_path: Path) -> None:
    faults: Counter[str] = Counter()
    with world(tmp_path) as w:
        w.found(*SITES)
        up, joined = start(w)
        launch = w.background(
            "launch", "wardround-coordinator", "launch", write_study(tmp_path), "--out", tmp_path / "run", "--deployment", w.desk
        )

        # A site dies as soon as it is asked to train: the round closes with the others.
        wait_for(lambda: "train.round" in w.node_log("doum"), 900, "round 0 reaches doum")
        joined["doum"].kill()
        faults["site killed mid-round"] += 1
        wait_for(lambda: committed(tmp_path, "sft") >= 1, 900, "round 0 is committed")
        joined["doum"] = w.join("doum")

        # The power of the coordinator's machine fails after a committed round; the launch that waits goes on by itself.
        before = rows(tmp_path)
        up.kill()
        faults["coordinator killed"] += 1
        up = w.up()
        wait_for(lambda: launch.process.poll() is not None, 1500, "the launch ends")
        assert launch.process.returncode == 0, launch.text()[-3000:]
        assert rows(tmp_path)[: len(before)] == before, "committed rounds stand as they stood"

        # The reward stage without cedar, which has left in good order.
        assert joined["cedar"].stop() == 0
        faults["site left"] += 1
        assert call("wardround-coordinator", "resume", tmp_path / "run", "--deployment", w.desk)["next"] is None
        judge(w, faults, stages={"sft": 2, "reward-0": 1})
        status = call("wardround-coordinator", "status", tmp_path / "run", "--deployment", w.desk)
        assert status["nodes"]["cedar"]["state"] == "offline"
        assert status["lines"][1]["late"] == {"cedar": 1}


def test_a_study_over_calls_that_are_repeated_cut_delayed_and_lost(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.found(*SITES)
        w.up()
        deployment = Deployment.open(w.desk)
        front = ChaosFront(deployment.tls / "server.crt", deployment.keys / "server.key", deployment.ca_certificate, w.port)
        key = desk.load_key(deployment)
        led_there = Invitation("north", key.public, f"localhost:{front.port}", deployment.ca_certificate.read_text())
        deployment.invitation_file.write_bytes(led_there.sign(key))
        w.words = led_there.fingerprint
        for name in SITES:
            w.join(name)
        w.wait_joined(*SITES, seconds=600)
        # Flower hands a request out once. When that very answer gets lost, the deadline closes the phase without the site, or the round is repeated.
        study = write_study(tmp_path, sft={"rounds": 1, "round_timeout_seconds": 120.0})
        call("wardround-coordinator", "launch", study, "--out", tmp_path / "run", "--deployment", w.desk)
        faults = Counter({name: count for name, count in front.done.items() if name != "passed"})
        assert set(faults) == {"repeated", "cut", "delayed", "lost"}, front.done
        judge(w, faults, stages={"sft": 1})
        front.close()


@pytest.mark.parametrize("network", ["loopback", "namespaces"])
def test_a_two_stage_study_with_one_reward_member_and_one_dropout(network: str, tmp_path: Path) -> None:
    """Four sites over TLS. Across the namespaces 50 ms there and back and 1 % loss; one site goes through its hospital's web proxy."""
    with contextlib.ExitStack() as stack:
        bad = stack.enter_context(namespaces(tmp_path, round_trip_seconds=0.05, loss=0.01)) if network == "namespaces" else None
        w = stack.enter_context(world(tmp_path, host=bad.address) if bad else world(tmp_path))
        w.found(*SITES, listen="0.0.0.0" if bad else "127.0.0.1")
        options: tuple[object, ...] = ()
        if bad:
            w.prefix = {"coordinator": bad.here, **dict.fromkeys(SITES, bad.there)}
            proxy = w.module("proxy", "tests.helpers.network", where="ash")
            wait_for(lambda: bool(proxy.text()), 60, "the proxy's port")
            options = ("--proxy", f"http://127.0.0.1:{int(proxy.text().split()[0])}")
        w.up()
        joined = {name: w.join(name, *(options if name == "ash" else ())) for name in SITES}
        w.wait_joined(*SITES, seconds=600)
        began = time.monotonic()
        study = write_study(tmp_path, sft={"rounds": 1})
        w.call("coordinator", "wardround-coordinator", "launch", study, "--out", tmp_path / "run", "--deployment", w.desk)
        # The dropout: doum's power fails while the reward member's round runs.
        asked = w.node_log("doum").count("train.round")
        rest = w.background(
            "resume", "wardround-coordinator", "resume", tmp_path / "run", "--deployment", w.desk, where="coordinator"
        )  # fmt: skip
        wait_for(lambda: w.node_log("doum").count("train.round") > asked, 600, "the reward round reaches doum")
        joined["doum"].kill()
        wait_for(lambda: rest.process.poll() is not None, 1500, "the line ends")
        assert rest.process.returncode == 0, rest.text()[-3000:]
        assert list(rows(tmp_path)[1]["missing"]) == ["doum"], rows(tmp_path)[1]
        note = f"two namespaces, {bad.carried}, TLS" if bad else "loopback, TLS"
        judge(
            w,
            Counter({"site killed mid-round": 1}),
            stages={"sft": 1, "reward-0": 1},
            note=f"{note}, {time.monotonic() - began:.0f} s in all",
        )


def test_refusals_name_their_reason(tmp_path: Path) -> None:
    """An unapproved bundle, an old roster and a wrong clock are refused at the site; pause, resume and abort at the coordinator."""
    with world(tmp_path) as w:
        w.found(*SITES)
        start(w)
        # doum did not approve the coordinator's bundle, but another one.
        approve(w.site("doum"), open_bundle(with_another_file(w.bundle.content)))
        launch = w.background(
            "launch", "wardround-coordinator", "launch", write_study(tmp_path), "--out", tmp_path / "run", "--deployment", w.desk
        )
        wait_for(lambda: any("did not approve" in str(row.body.get("reason")) for row in audit(w, "doum")), 600, "doum refuses the bundle")
        approve(w.site("doum"), w.bundle)
        wait_for(
            lambda: (tmp_path / "run" / "federation" / "enrolment.json").exists() or launch.process.poll() is not None, 900, "all say hello"
        )
        assert launch.process.poll() is None, launch.text()[-2000:]
        call("wardround-coordinator", "pause", tmp_path / "run")
        wait_for(lambda: launch.process.poll() is not None, 1200, "the line pauses")
        assert launch.process.returncode == 0, launch.text()[-2000:]
        assert committed(tmp_path, "sft") == 1
        call("wardround-coordinator", "abort", tmp_path / "run", "--yes")
        again = call("wardround-coordinator", "resume", tmp_path / "run", "--deployment", w.desk, code=1)
        assert "aborted" in str(again["error"])
        # A site that is revoked is turned away at once, and can say why.
        deployment = Deployment.open(w.desk)
        desk.revoke(deployment, "birch", now=datetime.now(UTC))
        settle(deployment, desk.node_keys(deployment))
        assert "birch" not in {node.site for node in nodes(deployment)}
        wait_for(lambda: "supernode ended" in (tmp_path / "join-birch.log").read_text(), 300, "birch is turned away")
        old = call("wardround-site", "roster", "pin", w.folder / "old.json", "--yes", "--site", w.site("ash"), code=1)
        assert "not newer than the pinned version" in str(old["error"])
        tell(
            "refused with their reason: an unapproved bundle, a revoked site, an old roster, an aborted run; paused after a committed round: 1 line"
        )


def test_a_slow_site_is_named_and_a_full_disk_leaves_the_round(tmp_path: Path) -> None:
    with world(tmp_path) as w, small_disk(w.site("cedar")):
        w.found(*SITES)
        _, joined = start(w)
        study = write_study(tmp_path, sft={"rounds": 1})
        launch = w.background("launch", "wardround-coordinator", "launch", study, "--out", tmp_path / "run", "--deployment", w.desk)
        wait_for(lambda: (tmp_path / "run" / "federation" / "enrolment.json").exists(), 900, "all say hello")
        fill(w.site("cedar"))
        wait_for(lambda: "train.round" in w.node_log("doum"), 900, "round 0 reaches doum")
        stopped = joined["doum"].family()
        for process in stopped:
            process.suspend()
        try:
            # Everybody else has answered this phase, or never will: whom the desk sees as late is the one that was stopped.
            wait_for(lambda: late(w) == ["doum"], 900, "status names doum")
        finally:
            for process in stopped:
                process.resume()
        wait_for(lambda: launch.process.poll() is not None, 1500, "the line ends")
        assert launch.process.returncode == 0, launch.text()[-2000:]
        assert rows(tmp_path)[0]["missing"] == {"cedar": "storage"}, rows(tmp_path)
        (w.site("cedar") / "filler").unlink()
        judge(w, Counter({"slow site": 1, "full disk": 1}), stages={"sft": 1})


def test_a_wrong_clock_is_refused_and_named(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.found("ash")
        w.up()
        skewed = tmp_path / "skew"
        skewed.mkdir()
        (skewed / "sitecustomize.py").write_text(
            "import datetime, flwr.supercore.date as d\nreal = d.now\nd.now = lambda: real() + datetime.timedelta(seconds=60)\n"
        )
        ash = w.join("ash", extra={"PYTHONPATH": f"{skewed}:{ROOT}"})
        wait_for(lambda: "supernode ended" in ash.text(), 180, "the clock is refused")
        assert "the clock here is wrong" in ash.text(), ash.text()
        ash.stop()
        w.join("ash")
        w.wait_joined("ash", seconds=180)
        tell("a clock 60 s ahead is refused with the reason; with the right clock the site joins")


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A disk of 64 MB at `folder`. Skips where it cannot be mounted."""
    folder.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", folder], capture_output=True, check=False).returncode:
        pytest.skip("a small disk needs root rights to mount a tmpfs")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=False)


def fill(folder: Path) -> None:
    with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


def late(w: World) -> list[str]:
    waiting = call("wardround-coordinator", "status", w.folder / "run")["waiting"]
    return waiting["sites"] if waiting else []


def start(w: World) -> tuple[Background, dict[str, Background]]:
    up = w.up()
    joined = {name: w.join(name) for name in SITES}
    w.wait_joined(*SITES, seconds=600)
    return up, joined


def rows(folder: Path) -> list[dict]:
    path = folder / "run" / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def committed(folder: Path, line: str) -> int:
    return sum(row.get("stage", row.get("line")) == line for row in rows(folder))


def audit(w: World, site: str) -> tuple:
    return Journal.open(w.site(site) / "audit.jsonl").rows()


def with_another_file(content: bytes) -> bytes:
    import io
    import zipfile

    stream = io.BytesIO(content)
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("client/another.py", "# a line that the coordinator's bundle does not have\n")
    return stream.getvalue()


def judge(w: World, faults: Counter[str], *, stages: dict[str, int], note: str = "loopback, TLS") -> None:
    """Every round once, no charge twice, no step without a later commit, no text of a patient at the coordinator; prints the figures."""
    run = RunFolder.open(w.folder / "run")
    lost = 0
    for line, wanted in stages.items():
        version = run.registry.latest(line)
        found = [row["step"] for row in rows(w.folder) if row.get("stage", row.get("line")) == line]
        assert found == list(range(wanted)), (line, found)
        assert version.figures["rounds"] == wanted
        assert int(str(version.figures["fewest_survivors"])) >= 3
    charges = 0
    for name in SITES:
        with Site.open(w.site(name)) as site:
            entries = [charge.entry for charge in site.ledger.charges()]
            spent = Counter((entry.stage, entry.round, entry.attempt, entry.step) for entry in entries)
            assert not [key for key, count in spent.items() if count > 1], spent
            lost += sum(entry.round >= stages.get(entry.stage, 0) for entry in entries)
            charges += len(entries)
            site.ledger.verify()
            site.audit.verify()
    assert lost == 0
    for path in w.desk.rglob("*"):
        if path.is_file() and "apps" not in path.parts and path.parts[-2] != "app":
            data = path.read_bytes()
            assert not [word for word in PATIENTS_WORDS if word in data], path
    seconds = sum(float(row.get("seconds", 0)) for row in rows(w.folder))
    tell(
        f"{note}: {sum(stages.values())} rounds of {len(stages)} lines in {seconds:.0f} s; faults injected {dict(faults)}; {charges} charges, 0 twice; updates lost = {lost}"
    )


def tell(figures: str) -> None:
    sys.stdout.write(f"\n{figures}\n")
    sys.stdout.flush()
