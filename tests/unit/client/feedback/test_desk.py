"""One annotator's desk: showing, choosing, taking back, going on, withdrawing; never a choice lost or doubled."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client.feedback.acts import Role
from client.feedback.desk import UNDO_DEPTH, Desk
from client.feedback.items import Remarks, Tag, Verdict
from client.feedback.people import Person
from client.feedback.settings import LabelSettings
from client.feedback.settling import State
from client.feedback.store import FeedbackStore
from client.hospital.site import Site
from common.errors import PolicyRefused
from tests.helpers.labelling import add_person, add_questions, questions

NOW = datetime(2026, 1, 1, 8, 0, tzinfo=UTC)
OPEN = LabelSettings(max_share=1.0)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site.create(tmp_path / "north", "north", simulated_seed=1) as site:
        yield site


def desk_of(site: Site, number: int, settings: LabelSettings = OPEN, **kinds: int) -> tuple[Desk, Person, Person]:
    store = FeedbackStore(site)
    ann, ben = (add_person(store, name) for name in ("Ann", "Ben"))
    add_questions(store, questions(number, **kinds))
    return Desk(store, settings), ann, ben


def press(
    desk: Desk, person: Person, now: datetime, verdict: Verdict = Verdict.ANSWER, answer: int = 0, remarks: Remarks | None = None
) -> str:
    """Choose answer number `answer` of the item, wherever it stands. Returns the question's id."""
    screen = desk.screen(person.person_id, now)
    assert screen is not None
    position = screen.order.index(answer) + 1 if verdict is Verdict.ANSWER else None
    assert desk.choose(person.person_id, screen.token, verdict, position, remarks or Remarks(), now + timedelta(seconds=9))[0]
    return screen.item_id


def test_a_page_loaded_again_shows_the_same_question_in_the_same_order(site: Site) -> None:
    desk, ann, _ = desk_of(site, 3, answers=4)
    first = desk.screen(ann.person_id, NOW)
    assert desk.screen(ann.person_id, NOW) == first
    again = Desk(FeedbackStore(site), desk.settings)  # after a restart
    assert again.screen(ann.person_id, NOW) == first


def test_a_choice_names_the_answer_and_not_its_place(site: Site) -> None:
    desk, ann, ben = desk_of(site, 8)
    for n in range(8):
        press(desk, ann, NOW + timedelta(minutes=n), answer=n % 2)
        press(desk, ben, NOW + timedelta(minutes=n))
    ids = [choice.chosen for choice in desk.store.of_person(ann.person_id)]
    assert ids == [0, 1] * 4
    assert {choice.seconds for choice in desk.store.choices()} == {9.0, 60.0}  # the next question is shown as the last is chosen


def test_a_page_sent_twice_counts_once(site: Site) -> None:
    desk, ann, _ = desk_of(site, 3)
    screen = desk.screen(ann.person_id, NOW)
    assert screen is not None
    answers = [desk.choose(ann.person_id, screen.token, Verdict.TIE, None, Remarks(), NOW)[0] for _ in range(3)]
    assert (answers, len(desk.store.choices())) == ([True, False, False], 1)


def test_undo_goes_ten_back_and_no_further(site: Site) -> None:
    desk, ann, _ = desk_of(site, 14)
    for n in range(13):
        press(desk, ann, NOW + timedelta(minutes=n))
    last = desk.store.of_person(ann.person_id)[-1]
    later = NOW + timedelta(hours=1)
    assert desk.progress(ann.person_id, later).undoable == UNDO_DEPTH
    assert desk.undo(ann.person_id, later)
    screen = desk.screen(ann.person_id, later)
    assert screen is not None
    assert (screen.item_id, screen.order) == (last.item_id, last.order)
    undone = 1
    while desk.undo(ann.person_id, later):
        undone += 1
    assert (undone, len(desk.store.of_person(ann.person_id))) == (UNDO_DEPTH, 3)


def test_two_annotators_then_a_third_where_they_differ_then_the_adjudicator(site: Site) -> None:
    desk, ann, ben = desk_of(site, 1)
    eve, ada = add_person(desk.store, "Eve"), add_person(desk.store, "Ada", Role.ADJUDICATOR)
    item_id = press(desk, ann, NOW, answer=0)
    assert press(desk, ben, NOW, answer=1) == item_id
    assert press(desk, eve, NOW, Verdict.TIE) == item_id
    assert desk.outcomes()[item_id].state is State.ADJUDICATE
    assert desk.screen(ada.person_id, NOW) is None
    screen = desk.adjudication_screen(ada.person_id, NOW)
    assert screen is not None
    with pytest.raises(PolicyRefused, match="decides"):
        desk.adjudicate(ada.person_id, screen.token, Verdict.SKIP, None, Remarks(), NOW)
    assert desk.adjudicate(ada.person_id, screen.token, Verdict.ANSWER, screen.order.index(1) + 1, Remarks(), NOW)
    assert not desk.adjudicate(ada.person_id, screen.token, Verdict.TIE, None, Remarks(), NOW)
    assert desk.outcomes()[item_id].winner == 1


def test_an_adjudicator_does_not_judge_their_own_vote(site: Site) -> None:
    desk, ann, ben = desk_of(site, 1, LabelSettings(extra_votes=0, max_share=1.0))
    ada = add_person(desk.store, "Ada", Role.ADJUDICATOR)
    press(desk, ann, NOW, answer=0)
    press(desk, ada, NOW, answer=1)
    assert desk.adjudication_screen(ada.person_id, NOW) is None
    assert desk.screen(ben.person_id, NOW) is None


def test_calibration_comes_first_and_every_so_many_and_tells_the_panels_word(site: Site) -> None:
    desk, ann, _ = desk_of(site, 12, LabelSettings(calibration_every=5, max_share=1.0), calibration=2)
    calibrated = []
    for n in range(11):
        screen = desk.screen(ann.person_id, NOW)
        assert screen is not None
        wrong = screen.order.index(1) + 1
        _, feedback = desk.choose(ann.person_id, screen.token, Verdict.ANSWER, wrong, Remarks(), NOW + timedelta(seconds=n))
        if feedback is not None:
            calibrated.append(n)
            assert (feedback.right, feedback.best) == (False, 3 - wrong)
    assert calibrated == [0, 5]


def test_nobody_gives_more_than_their_share(site: Site) -> None:
    desk, ann, _ = desk_of(site, 10, LabelSettings(max_share=0.2))
    for _ in range(4):
        press(desk, ann, NOW)
    assert desk.screen(ann.person_id, NOW) is None
    assert desk.progress(ann.person_id, NOW).left == 0


def test_progress_pace_and_the_reminder_of_a_break(site: Site) -> None:
    desk, ann, _ = desk_of(site, 40)
    assert desk.progress(ann.person_id, NOW).seconds is None
    for n in range(30):
        press(desk, ann, NOW + timedelta(minutes=n))
    told = desk.progress(ann.person_id, NOW + timedelta(minutes=30))
    assert (told.done, told.left, told.seconds, told.minutes_left, told.rest) == (30, 10, 60.0, 10.0, True)
    assert not desk.progress(ann.person_id, NOW + timedelta(minutes=40)).rest


def test_withdrawn_choices_leave_nothing_for_training(site: Site) -> None:
    desk, ann, ben = desk_of(site, 4)
    for n in range(4):
        press(desk, ann, NOW + timedelta(minutes=n))
        press(desk, ben, NOW + timedelta(minutes=n))
    assert desk.store.settle_all(desk.settings) == (4, 8)
    assert desk.store.withdraw(ann.person_id, desk.settings) == 4
    assert list(site.vault.preferences()) == []  # one vote is left on each, too few to settle
    assert desk.store.of_person(ann.person_id) == []
    assert all(outcome.state is State.OPEN for outcome in desk.outcomes().values())


def test_pairs_are_settled_again_without_withdrawn_votes(site: Site) -> None:
    desk, ann, ben = desk_of(site, 2, LabelSettings(votes_per_pair=3, max_share=1.0))
    eve = add_person(desk.store, "Eve")
    for person, answer in ((ann, 1), (ben, 0), (eve, 0)):
        press(desk, person, NOW, answer=answer)
        press(desk, person, NOW, answer=0)
    settings = LabelSettings()
    desk.store.settle_all(settings)
    before = sorted(row.weight for row in site.vault.preferences() if row.weight)
    desk.store.withdraw(ann.person_id, settings)
    after = list(site.vault.preferences())
    assert before == pytest.approx([0.4, 1.0])
    assert sorted(row.weight for row in after if row.weight) == [1.0, 1.0]
    assert {row.annotator_id for row in after} == {ben.person_id, eve.person_id}


def test_what_my_choices_changed(site: Site) -> None:
    desk, ann, ben = desk_of(site, 3)
    eve = add_person(desk.store, "Eve")
    for _ in range(3):
        press(desk, ann, NOW, answer=0)
    for n in range(3):
        press(desk, ben, NOW + timedelta(minutes=n), answer=int(n == 2))
    press(desk, eve, NOW + timedelta(hours=1), answer=0)
    changed = desk.changed(ann.person_id)
    assert (changed.choices, changed.settled, changed.agreed, changed.decisive, changed.turned) == (3, 3, 3, 3, 0)
    assert desk.changed(eve.person_id).decisive == 1


def test_a_withdrawn_patient_takes_the_questions_along(site: Site) -> None:
    desk, ann, ben = desk_of(site, 4, patients=2)
    for person in (ann, ben):
        for n in range(3):
            press(desk, person, NOW + timedelta(minutes=n))
    with Site.open(site.folder) as elsewhere:
        elsewhere.vault.withdraw("p0")
    with desk.store.locked():
        assert {item.patient_id for item in desk.store.items.values()} == {"p1"}
        assert all(choice.item_id in desk.store.items for choice in desk.store.choices())


def test_a_choice_that_does_not_fit_is_refused_and_changes_nothing(site: Site) -> None:
    desk, ann, _ = desk_of(site, 1)
    screen = desk.screen(ann.person_id, NOW)
    assert screen is not None
    for verdict, position, remarks in (
        (Verdict.ANSWER, 3, Remarks()),
        (Verdict.ANSWER, None, Remarks()),
        (Verdict.SET_ASIDE, None, Remarks()),
        (Verdict.TIE, None, Remarks(tags=((7, Tag.UNCLEAR),))),
    ):
        with pytest.raises(PolicyRefused):
            desk.choose(ann.person_id, screen.token, verdict, position, remarks, NOW)
    assert desk.store.choices() == []


def test_the_audit_log_knows_every_act_and_no_text(site: Site) -> None:
    desk, ann, _ = desk_of(site, 3)
    press(desk, ann, NOW, remarks=Remarks(other="a secret remark", correction="a secret correction"))
    desk.undo(ann.person_id, NOW)
    press(desk, ann, NOW)
    desk.store.withdraw(ann.person_id, desk.settings)
    kinds = [row.kind for row in site.audit.rows()]
    assert kinds[-4:] == ["Chosen", "Undone", "Chosen", "ChoicesWithdrawn"]
    written = (site.folder / "audit.jsonl").read_text()
    assert not any(word in written for word in ("secret", "ibuprofen", "Ann"))
    stored = b"".join(path.read_bytes() for path in site.folder.glob("vault.db*"))
    assert b"ibuprofen" not in stored
    assert b"secret" not in stored
