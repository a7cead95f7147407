"""Tier 1 on English notes of many kinds and countries, without the network: every identifier whole, and nothing else."""

import pytest

from tests.helpers.covered import uncovered_and_touched


@pytest.mark.parametrize(
    ("text", "identifiers"),
    [
        ("the patient is seen by rn t. mbeki and her son kayode for the visit", ["t. mbeki", "kayode"]),
        ("abena osei is a 58-year-old who is here for the visit", ["abena osei"]),
        ("this was reviewed with mr. walker and the plan is unchanged // jhalvorsen", ["walker", "jhalvorsen"]),
        ("Officer D. Yellowtail was at the scene of the fall.", ["D. Yellowtail"]),
        ("The note was transcribed and sent.\nHIR/kmw", ["HIR/kmw"]),
        ("User ID: tnakash2, the operator of the study.", ["tnakash2"]),
        ("He was struck by a car with plate TX KLM-4471 on Boxing Day and on Friday the 16th.", ["TX KLM-4471", "Boxing Day", "Friday the 16th"]),
        ("She is off work until Monday 6/3 and was last well in 05.2019.", ["Monday 6/3", "05.2019"]),
        ("Her husband died at 101. Her sister, ninety-three, is well.", ["101", "ninety-three"]),
        ("Write to a . okafor @ mail . example or to jroe at lawmail dot example for the records.", ["a . okafor @ mail . example", "jroe at lawmail dot example"]),
        ("The number is (816) 555-\n0170 for the clinic.", ["(816) 555-\n0170"]),
        ("He lives at the home in Moorooka QLD 4105 with his son.", ["Moorooka QLD 4105"]),
        ("The postcode is E32 XY47, and that of the other is V2C 3R7.", ["E32 XY47", "V2C 3R7"]),
        ("The PHN 9698 658 215, the UHID AHC.0007741236 and the PPS 4719280TA are on the card.", ["9698 658 215", "AHC.0007741236", "4719280TA"]),
        ("Medicare 4951 70293 1 (ref 2) and Grp 0044871-10 are on the card.", ["4951 70293 1", "0044871-10"]),
        ("He was refilled at the store on central ave and fell near Airline Hwy last week.", ["central ave", "Airline Hwy"]),
        ("Films are from Quixley Imaging and the slides from Pathology Associates of Chautauqua.", ["Quixley Imaging", "Pathology Associates of Chautauqua"]),
        ("He gets his mail at St. Vincent's and was at Our Lady of the Lake.", ["St. Vincent's", "Our Lady of the Lake"]),
    ],
)  # fmt: skip
def test_identifiers(text: str, identifiers: list[str]) -> None:
    assert uncovered_and_touched(text, identifiers) == ([], [])


@pytest.mark.parametrize(
    "text",
    [
        "Exam: Murphy's sign positive, Rovsing negative, no Cullen or Grey Turner discoloration, Babinski downgoing.",
        "Osgood-Schlatter, Ehlers-Danlos and Dix-Hallpike were considered; Beighton 6/9, Braden 17, Morse 45, TIMI 3.",
        "The Foley was removed on day 3, a Richardson retractor and Kocher clamps were used for the repair.",
        "Meds: Eliquis 5 mg BID, Entresto 49/51, Toujeo 30 U qHS, Breo Ellipta 100/25, Keppra 750 and Lexapro 20.",
        "Home with PT/OT. Disp: NDC 00093-2264-01, CPT 99213. The VTE ppx is Heparin 5000 U SC q8h, MS severe, GBS neg.",
        "A 19-year-old G1P0000 who received the 1st dose of MMR has Neisseria on culture; Arthrocentesis is planned for the knee.",
        "Threshold 0.5 V @ 0.4 ms, the battery is at 7.4 years and the lead impedance is 512 ohm.",
        "w pain in the knee, son is at home, daughter drives, rn aware, pt with cough and fever, np to see in clinic",
    ],
)
def test_what_stays(text: str) -> None:
    assert uncovered_and_touched(text, []) == ([], [])
