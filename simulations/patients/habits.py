"""How a hospital writes: its headings, dates, abbreviations, tone and layout. Eight habits, taken in turn by the sites."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Habit:
    """The style of one hospital.

    headings       what its sections are called: reason, history, exam, assessment, plan
    upper, join    whether headings are shouted, and what stands between sections
    date_format    for `date.strftime`
    name_style     how the header names the patient: "{first} {last}", "{last}, {first}", …
    abbreviations  words its clinicians shorten, in the order they are replaced
    sign_off       how a note ends; {clinician} is marked as a name
    greets, signs  whether its answers to patients open with the name and close with the clinician's
    safety_net     share of its answers to patients that say when to come back: the habit a policy can improve on
    """

    hospital: str
    headings: Mapping[str, str]
    upper: bool
    join: str
    date_format: str
    name_style: str
    abbreviations: Mapping[str, str]
    sign_off: str
    greets: bool
    signs: bool
    safety_net: float


def _headings(reason: str, history: str, exam: str, assessment: str, plan: str) -> dict[str, str]:
    return {"reason": reason, "history": history, "exam": exam, "assessment": assessment, "plan": plan}


HABITS: tuple[Habit, ...] = (
    Habit("Alder Creek Medical Center", _headings("Chief complaint", "History", "Exam", "Assessment", "Plan"), True, "\n",
          "%m/%d/%Y", "{last}, {first}", {"patient": "pt", "history": "hx", "without": "w/o"},
          "Electronically signed by {clinician}, MD", False, True, 0.5),
    Habit("St. Brendan's Hospital", _headings("Reason for contact", "Background", "On examination", "Impression", "Management"), False, "\n\n",
          "%d %B %Y", "{first} {last}", {"blood pressure": "BP", "on examination": "O/E"}, "Yours sincerely, Dr {clinician}", True, False, 0.6),
    Habit("Juniper Valley Clinic", _headings("CC", "HPI", "PE", "A", "P"), True, " | ",
          "%m-%d-%y", "{last} {first}", {"patient": "Pt", "history of": "h/o", "with": "w/", "follow-up": "f/u", "twice a day": "BID"},
          "{clinician}, NP", False, False, 0.35),
    Habit("Northgate General Hospital", _headings("Presenting problem", "History of presenting problem", "Findings", "Diagnosis", "Treatment"), False, "\n",
          "%Y-%m-%d", "{first} {last}", {"diagnosis": "Dx", "treatment": "Tx"}, "-- {clinician} (attending)", False, True, 0.5),
    Habit("Harbour View Infirmary", _headings("Seen for", "Story", "Looked at", "Opinion", "Next steps"), False, "\n",
          "%d.%m.%Y", "{first} {last}", {}, "Signed: {clinician}", True, True, 0.45),
    Habit("Mercy Ridge Health Center", _headings("Subjective", "Interval history", "Objective", "Assessment", "Plan"), True, "\n\n",
          "%b %d, %Y", "{last}, {first}", {"shortness of breath": "SOB", "temperature": "temp", "patient": "pt"}, "Dictated by Dr. {clinician}", False, False, 0.4),
    Habit("Willow Park Community Hospital", _headings("Problem", "History", "Examination", "Summary", "Advice"), False, "\n",
          "%d/%m/%Y", "{first} {last}", {"medications": "meds", "weeks": "wks"}, "Kind regards, {clinician}", True, False, 0.55),
    Habit("Cedar Falls Regional Hospital", _headings("Reason for visit", "Present illness", "Physical", "Assessment", "Recommendations"), True, "\n",
          "%B %d, %Y", "{last}, {first}", {"history": "hx", "normal": "WNL"}, "Authenticated by {clinician}, DO", False, True, 0.5),
)  # fmt: skip


def habit(site_number: int) -> Habit:
    return HABITS[site_number % len(HABITS)]
