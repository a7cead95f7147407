"""Dictation, jottings and rows: dates, ages, numbers and names in the forms in which people do not fill in forms."""

import re

import pytest

from client.deid import deidentifier
from client.deid.deidentifier import Deidentifier, Work
from client.deid.detectors import Detector
from client.deid.joined import joined
from client.deid.propagation import propagate
from client.deid.rules import names, places
from client.deid.rules.dates import Ages, Dates
from client.deid.rules.guard import guarded_by_words
from client.deid.rules.layouts import Layouts
from client.deid.rules.names import Names
from client.deid.rules.numbers import BareNumbers, LabelledNumbers, NetworkAddresses, Phones
from client.deid.rules.places import Addresses, Facilities
from client.deid.rules.small_letters import SmallLetters
from client.deid.scan import Scan
from client.deid.second import disagreements
from client.deid.spans import Kind, Span, merge
from client.deid.vocabulary.words import by_hand, dictionary, everyday, words
from client.records import PatientRecord, RawNote


def found(detector: Detector, text: str) -> list[str]:
    return [text[span.start : span.end] for span in merge(detector.find(Scan(text)))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12Nov 0800 and 12NOV2023", ["12Nov", "12NOV2023"]),
        ("eleven March twenty twenty-two", ["eleven March twenty twenty-two"]),
        ("on the third of june she", ["the third of june"]),
        ("she may first try two march fractures", []),
        ("Labs 9/4: Hgb 10.2. MRI (4/12): tear. Strength 4/5: weak. Culture 2/2: MRSA. CT 2/3 of it", ["9/4", "4/12"]),
        ("Last fill 8.19. dob 5.8.79, adm 11.8.22", ["8.19", "5.8.79", "11.8.22"]),
        ("K 4.5, on 2.5 L, 1.2.34 of the protocol", []),
        ("DOS 08/30/22-09/05/22. Duty 5/15-6/26, no", ["08/30/22-09/05/22", "5/15-6/26"]),
        ("return Thur 1/26, sent 4/24", ["Thur 1/26", "4/24"]),
        ("nodes 2/14, MMSE 11/30, strength 4/5, sat 94/95, 2/14 nodes", []),
        ("since Nov, works Feb-Apr", ["Nov", "Feb-Apr"]),
        ("signed 02/03/2024 08:02", ["02/03/2024"]),
        ("s/p repair 7/10, digital. Pain 7/10, seen by 2/4. Recert 3/18", ["7/10", "3/18"]),
        ("SN visit 3-18, wound 3-4 cm, due 2-3 weeks", ["3-18"]),
        ("turned 91 on April Fool's", ["April Fool's"]),
        ("chair 4, Dec 2 2024 and the 4, December", ["Dec 2 2024", "4, December"]),
        ("study night 9/22-23/2024, rows 9/22-23", ["9/22-23/2024"]),
        ("Seen 4/18. UDS 7/1 neg, Kenalog x1 2/20. Apgars 8/9, pain 3/8, film count 9/9, str 4/5", ["4/18", "7/1", "2/20"]),
        ("Seen 18/4. Cough 5/7, bloods 4/9 and fever x 3/7", ["18/4"]),
        ("event 2024/10/02 03:14 VTACH", ["2024/10/02"]),
        ("bloods Fri 7th; clinic on the 12th, since the 3rd so", ["Fri 7th", "the 12th", "the 3rd"]),
        ("pain on the 5th toe, by the 3rd attempt, since the 2nd dose, sat 7 h", []),
        (
            "11 Junie 2024, le 10 mars, 3. März 2024, 12 de octubre de 2023",
            ["11 Junie 2024", "10 mars", "3. März 2024", "12 de octubre de 2023"],
        ),
        ("pain 5/12 ago, 2 sets, 12 min", []),
        ("sober since Labor Day 2023, off Memorial Day wknd, eve of Pongal", ["Labor Day 2023", "Memorial Day wknd", "Pongal"]),
        ("St Patrick's Day parade, St. Stephen's Hospital, Christmas tree, Children's Day Unit", ["St Patrick's Day"]),
        ("date of birth nine fourteen seventy four account four four", ["nine fourteen seventy four"]),
        ("born two three weeks early, may twenty minutes pass", []),
        ("we look at may twenty second period", ["may twenty second"]),
        ("hearing of the 6th, photos. Due the 20th\nand the 25th at noon, the 5th toe, the 90th", ["the 6th", "the 20th", "the 25th"]),
        ("born 3.xi.51, 6-VIII-66, ETF du 5.XI: normale. II/VI murmur, 3/VI, L 1.5", ["3.xi.51", "6-VIII-66", "5.XI"]),
        ("Thu, Nov 2 and Ash Wednesday of 2019", ["Thu, ", "Nov 2", "Ash Wednesday of 2019"]),
        ("CPAP 14/6, day 11/14 of nafcillin, plates 12/14, seen 11/14", ["11/14"]),
        ("DATE OF NOTE: MAR 14, 2024@10:32, 2024 Dec 14 1822", ["MAR 14, 2024@10:32", "2024 Dec 14"]),
        ("SVT on 2/5 and 2/12, 3/1. Doses due 4/2, 4/9, 4/16", ["2/5", "2/12", "3/1", "4/2", "4/9", "4/16"]),
        ("seen 2/5 and 5/5 strength, 3/4 in of tape. On 4/2, 3/5 nodes were", ["2/5", "4/2"]),
        ("Next session 11/15 at 4 PM, last infusion 4/5, first session 11/15", ["11/15", "4/5"]),
        ("A1c 8.1, down from 9.4. Fell from 9.8. Since 9.4, from 8.9", ["9.4", "8.9"]),
        ("Dr. Stryker, Thurs 6/9/66. Order 3/3, ER 3/3", ["Thurs 6/9/66"]),
    ],
)
def test_dates(text: str, expected: list[str]) -> None:
    assert found(Dates(), text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Pt 96, widowed", ["96"]),
        ("mother (Opaline, 92) alive", ["92"]),
        ("grandmother alive at 96.", ["96"]),
        ("he made it to ninety-two.", ["ninety-two"]),
        ("b. 1931/11/30 (92)", ["92"]),
        ("She's 94. He was 97 and still walking. W 93F fell", ["94", "97", "93"]),
        ("She was 94 on 2 L, he is 93% and 98.6 F", []),
        ("SpO2 94, HR 98; pt 94 % on RA; wife 98.6 F", []),
        ("4 | Ruiz, Ana | 95 M | fall\n#NOF (93f) home; 91M s/p fall | 102 |", ["95", "93", "91", "102"]),
        ("97F from home, 92M found down, 91 F in by ambulance. 98F from a fever", ["97", "92", "91"]),
        ("Uncle died in Lowell at 92, aunt died of MI at 93, died in 92 days", ["92", "93"]),
        ("T 94F, temp to 95F, ran 90 m, 98 | 99% | 4.2, febrile (99 F), 38.9 C (102 F), 34.4 C (94 F)", []),
    ],
)
def test_ages(text: str, expected: list[str]) -> None:
    assert found(Ages(), text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hospital number nine nine three zero two six date", ["nine nine three zero two six"]),
        ("one two three doses", []),
        ("prisoner no. 88 417.", ["88 417"]),
        ("Index No. XKQT3A9F D:", ["XKQT3A9F"]),
        ("MR 6093-55. MRI 3 T", ["6093-55"]),
        ("paid by Visa ending 4419", ["4419"]),
        ("VRM NK19 XRB", ["NK19 XRB"]),
        ("UDI (01)09321502038812(21)10204388", ["(01)09321502038812(21)10204388"]),
        ("SSN last four 4471, last4 5518, last 4 doses", ["4471", "5518"]),
        ("record 2 2 0 9 1 7 date, pupils 3 3 2 2", ["2 2 0 9 1 7"]),
        ("lot K7R2PD, lot size, serial M20QW, s/n on file", ["K7R2PD", "M20QW"]),
        ("unit W0412 24 118077 F hung, W2024 24 118834 K", ["W0412 24 118077 F", "W2024 24 118834 K"]),
        ("Charge: Dawnelle *4471, Deputy Sauceda #217, tooth #217, key safe 2580", ["*4471", "#217", "2580"]),
        ("count with me one two three four five", []),
        ("Jarai interp 77140, interp. of 3 films", ["77140"]),
        ("hospital number r e 4 4 0 1 8 scanned; grade r e d d e r", ["r e 4 4 0 1 8"]),
        ("her number is 3 0 3, 5 5 5, 0 1 1 6 and steps 1, 2, 3, 4, 5, 6, 7", ["3 0 3, 5 5 5, 0 1 1 6"]),
        ("access code QK7RB2LD, portal key: 7KQ2X-MMWP4; access code given", ["QK7RB2LD", "7KQ2X-MMWP4"]),
        ("app login elongoria79, login failed, user interface", ["elongoria79"]),
        ("CPT no. 99213, NDC no 00093-2264-01, tooth #14, no 4 of 10", []),
    ],
)
def test_numbers(text: str, expected: list[str]) -> None:
    assert found(LabelledNumbers(), text) == expected


def test_codes_of_a_row_of_commas_and_files_and_hosts() -> None:
    assert found(BareNumbers(), "WC-10441,yes,no, BR24:33981 at 12:30, F 24/7713, 10/2023") == ["WC-10441", "BR24:33981", "24/7713"]
    assert found(BareNumbers(), "LEONIE J 09-33-71, CAS 118/12/2024, range 20-30, 2-2-0, 12/2024, GU: 50-2000/HR, E0431, J1885") == [
        "09-33-71",
        "118/12/2024",
    ]
    assert found(NetworkAddresses(), "DSC_0452.NEF, iris-3362.bin, help.echo.example/t/65013.") == [
        "DSC_0452.NEF",
        "iris-3362.bin",
        "help.echo.example/t/65013",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("this is doctor anoush petrosyan dictating", ["anoush petrosyan"]),
        ("seen by the doctor yesterday", []),
        ("admits go to dr k. good luck, dr a little late", ["k"]),
        ("w/ PACT pharm Dr. Oh.\nDr. So, who; Dr. So asked, Dr. Oh said", ["Oh", "So"]),
        ("his dtr Hyacinth. INR", ["Hyacinth"]),
        ("Father May have had it. friend May need", []),
        ("d/w Drs. Foley, Kocher-Lund and Whipple. Foley in place", ["Foley", "Kocher-Lund", "Whipple"]),
    ],
)
def test_names(text: str, expected: list[str]) -> None:
    assert ", ".join(found(Names(), text)) == ", ".join(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("off I-80 near mile marker 211, I-131 given", ["I-80", "mile marker 211"]),
        ("PO Box 118, Neguac, N.B. E9G 1S4.", ["PO Box 118, Neguac, N.B. E9G 1S4"]),
        ("Last known 411 N 7th Ave. by bus, 22 Elm St, Apt B", ["411 N 7th Ave.", "22 Elm St, Apt B"]),
        ("CT at 7.40am 88 Nullarbor Tce. Fast", ["88 Nullarbor Tce."]),
        ("14 oocytes, 11 MII, 9 PN", []),
    ],
)
def test_places(text: str, expected: list[str]) -> None:
    assert found(Addresses(), text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("accepting at St. Vitus: yes. St. Vitus dance, St. John's wort, ST. depression", ["St. Vitus"]),
        ("letters from VFW Post 3873. Local 1145. Local 5 cm", ["VFW Post 3873", "Local 1145"]),
        ("sent to the cvs and Walgreens, not CVS 2/6 SEM", ["cvs", "Walgreens"]),
        ("fishing on Lac Bellefleur, Lac operon", ["Lac Bellefleur"]),
        ("NIGHTINGALE SLEEP DIAGNOSTICS   split-night study\nMOUTH CARE", ["NIGHTINGALE SLEEP DIAGNOSTICS"]),
    ],
)
def test_facilities(text: str, expected: list[str]) -> None:
    assert found(Facilities(), text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("E. Thorvald, MD pgr 20-884. BP 120-884", ["20-884"]),
        ("call GI (Sunil, 4-0092), Page 1180. Page 2 of 3, p. 14", ["4-0092", "1180"]),
        ("call me at 423 uh 555 0170 thanks", ["423 uh 555 0170"]),
        ("R. Peters-Dane RD x5-3320, x2-3 days", ["x5-3320"]),
        ("call heme p5531\nMoya MD (p 8-1190), called back 0121, HO bleep 620, ext 2, p 2024, ext 30 degrees", ["p5531", "8-1190", "620"]),
        ("range 2-1000, give 4-0092 units", []),
        ("1130 100/h; 1200 140/h; 0815 118/66", []),
        ("1400 412 -> 6.2; door, needle, groin 1302 1320 1351; ring 0131 496 0142", ["0131 496 0142"]),
        ("tPA 50 IVP 0631. Sick call 0640, on call 1900", []),
        ("VS 0400 138/86, 07/19/24 1904, 03/02/2024 10:41, ARR 07/19 2214, ph 20/50, 0800/1400, shift 1900-0700", []),
    ],
)
def test_phones(text: str, expected: list[str]) -> None:
    assert found(Phones(), text) == expected


@pytest.mark.parametrize(
    ("text", "pieces", "whole"),
    [
        ("PhilHealth # 12-050881123-4.", [("12-050881123", Kind.ID)], ["12-050881123-4"]),
        ("MRN 4471-a note", [("4471", Kind.MRN)], ["4471"]),
        ("Métis woman from St. Laurent, MB referred", [("St. Laurent", Kind.LOCATION)], ["St. Laurent, MB"]),
        ("Desert Willow Estates, sp 44, pain", [("Desert Willow Estates", Kind.LOCATION)], ["Desert Willow Estates, sp 44"]),
        (
            "to Winn-Dixie on 27th. Rexall on 2 L",
            [("Winn-Dixie", Kind.ORGANIZATION), ("Rexall", Kind.ORGANIZATION)],
            ["Winn-Dixie on 27th", "Rexall"],
        ),
        ("K'Sor, Pen-y-Bryn", [("Sor", Kind.NAME), ("Pen", Kind.LOCATION)], ["K'Sor", "Pen-y-Bryn"]),
        ("Seen. Joy McLeod came, Will McLeod come", [("McLeod", Kind.NAME)], ["Joy McLeod"]),
        (
            "member LPH 88201937, ID: SLH 9930, ID MRN 44710",
            [("88201937", Kind.ID), ("9930", Kind.ID), ("44710", Kind.MRN)],
            ["LPH 88201937", "SLH 9930", "44710"],
        ),
        ("then St. Marguerite d'Or, was", [("Marguerite", Kind.NAME)], ["St. Marguerite"]),
        ("609 Featherstone 91 DNR", [("Featherstone", Kind.NAME)], ["Featherstone", "91"]),
        ("Foley 90 ml, Ruiz 95%", [("Foley", Kind.NAME), ("Ruiz", Kind.NAME)], ["Foley", "Ruiz"]),
        ("T-boned at Fulkerson and 19th. Denies", [("Fulkerson", Kind.LOCATION)], ["Fulkerson and 19th"]),
        ("home in Newquay, TR7. Newquay, CT ok", [("Newquay", Kind.LOCATION)], ["Newquay, TR7"]),
    ],
)
def test_what_belongs_to_a_piece_goes_with_it(text: str, pieces: list[tuple[str, Kind]], whole: list[str]) -> None:
    spans = [Span(text.index(piece), text.index(piece) + len(piece), kind) for piece, kind in pieces]
    assert [text[s.start : s.end] for s in joined(Scan(text), spans)] == whole


@pytest.mark.parametrize(
    ("text", "name", "whole"),
    [
        ("to Gotham Liver Svc for", "Gotham", "Gotham Liver Svc"),
        ("per Norman PD ofc", "Norman", "Norman PD"),
        ("Dr. Norman PD ofc", "Norman", "Norman"),
        ("Norman Was PD positive", "Norman", "Norman"),
    ],
)
def test_a_name_in_front_of_an_institutions_word_is_the_institutions(text: str, name: str, whole: str) -> None:
    (span,) = joined(Scan(text), [Span(text.index(name), text.index(name) + len(name), Kind.NAME, 1)])
    assert text[span.start : span.end] == whole


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("she moved to shaker heights in may", ["shaker heights"]),
        ("20 min from milwaukee, back to work, transferred to floor", ["milwaukee"]),
    ],
)
def test_towns_in_small_letters(text: str, expected: list[str]) -> None:
    assert found(SmallLetters(), text) == expected


def test_pieces_of_one_place_are_joined_and_an_institution_is_covered_to_its_end() -> None:
    text = "to 61 Sawmill Rd, Lot 9, Berea. Seen at Two Harbors Cardiac Wellness, and by Big Earl's Kitchen for Lasix"
    street, town = text.index("61"), text.index("Berea")
    harbors, earl = text.index("Two"), text.index("Big")
    spans = [
        Span(street, street + 13, Kind.LOCATION),
        Span(town, town + 5, Kind.LOCATION),
        Span(harbors, harbors + 11, Kind.LOCATION),
        Span(earl, earl + 10, Kind.NAME),
    ]
    whole = joined(Scan(text), spans)
    assert [text[s.start : s.end] for s in whole] == ["61 Sawmill Rd, Lot 9, Berea", "Two Harbors Cardiac Wellness", "Big Earl's Kitchen"]
    assert [s.kind for s in whole] == [Kind.LOCATION, Kind.LOCATION, Kind.ORGANIZATION]


def test_two_people_in_a_row_and_a_place_beside_a_word_of_capitals_stay_apart() -> None:
    text = "Ann Lee, Salem; BOSTON BAG, Salem"
    spans = [Span(0, 7, Kind.NAME), Span(9, 14, Kind.LOCATION), Span(28, 33, Kind.LOCATION)]
    assert joined(Scan(text), spans) == spans


def test_what_a_name_owns_and_the_credentials_behind_it_stand() -> None:
    note = RawNote("n", "p", "Dr. Quistgaard's plan: rest.\nSigned Zebulon Quistgaard, M.D.")
    ((cleaned,),) = Deidentifier().clean([Work((note,), PatientRecord(""), bytes(32))])
    assert [note.text[s.start : s.end] for s in cleaned.spans[0]] == ["Quistgaard", "Zebulon Quistgaard"]


def test_a_name_goes_with_the_word_inside_it_and_over_the_end_of_its_line() -> None:
    text = "Pt Lakota Standing Elk-Moreau, Dr. Mukher-\njee, Ann Tuesday Lee"
    spans = [
        Span(text.index(piece), text.index(piece) + len(piece), Kind.NAME) for piece in ("Lakota", "Elk-Moreau", "Mukher", "Ann", "Lee")
    ]
    assert [text[s.start : s.end] for s in joined(Scan(text), spans)] == ["Lakota Standing Elk-Moreau", "Mukher-\njee", "Ann Tuesday Lee"]


def test_a_place_goes_with_the_words_that_begin_and_end_it() -> None:
    text = "Taken to North Tees by road. On Leratong TB ward since. Old Tees, no."
    spans = [
        Span(text.index("Tees"), text.index("Tees") + 4, Kind.LOCATION),
        Span(text.index("Leratong"), text.index("Leratong") + 8, Kind.LOCATION),
    ]
    assert [text[s.start : s.end] for s in joined(Scan(text), spans)] == ["North Tees", "Leratong TB ward"]


def test_an_everyday_surname_in_a_row_of_surnames_is_one() -> None:
    text = "Noble (CHF), Church (SBO), Snow (cold), Winterbourne (COPD), Murphy (sign). Denies pain."
    scan = Scan(text)
    named = [Span(text.index(name), text.index(name) + len(name), Kind.NAME) for name in ("Noble", "Winterbourne", "Murphy")]
    (again,) = propagate([scan], [named])
    assert [text[s.start : s.end] for s in again if text[s.start : s.end] not in ("Noble", "Winterbourne", "Murphy")] == ["Church", "Snow"]
    (alone,) = propagate([scan], [named[:1]])
    assert [text[s.start : s.end] for s in alone] == ["Noble"]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("m r n oh nine oh double two seven next line", ["oh nine oh double two seven"]),
        ("plate h k m four four oh one comma in lot c", ["h k m four four oh one"]),
        ("claim number seven four one dash two two dash nine, examined", ["seven four one dash two two dash nine"]),
        ("count one two three four five. pain four to five, one to two tablets", []),
        ("receipt 0447, booking PTS 60-41177, envelope 31", ["0447", "PTS 60-41177", "31"]),
        ("sample 2 of 3, courier 5 mg, receipt of 2019", []),
    ],
)
def test_numbers_that_are_dictated_or_belong_to_a_thing(text: str, numbers: list[str]) -> None:
    assert found(LabelledNumbers(), text) == numbers


def test_an_everyday_word_is_somebody_again_where_the_network_thinks_it_possible() -> None:
    texts = ["Ms. Burrow came early.", "You tell me there is no Burrow. A burrow on the wrist, linear."]
    scans = [Scan(text) for text in texts]
    named = [Span(4, 10, Kind.NAME)]
    _, again = propagate(scans, [named, []])
    assert [(texts[1][s.start : s.end], s.start) for s in again] == [("Burrow", 24)]
    _, alone = propagate(scans, [[], []])
    assert not alone


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("Dizzy since the 19th. BPs since: 20th 138/84, 21st 141/90. The 5th toe.", ["20th", "21st"]),
        ("Gewicht 12.9. 94,1 kg, 15.9. 90,3 kg, 19.9. 87,6 kg. INR 2.8. Am 14.9. mit 200 J.", ["12.9", "15.9.", "19.9.", "14.9"]),
        ("3-XII K 5.2; 5-XII 4.9; 10-XII 4.4. Grade 2-III.", ["3-XII", "5-XII", "10-XII"]),
        ("Seen 9/13. Stage 2 on 9/16 and stage 3 9/21. Strength 4/5, 11/12 nodes, GCS 14/15.", ["9/13", "9/16", "9/21"]),
    ],
)
def test_days_that_are_written_alike_go_together(text: str, days: list[str]) -> None:
    (result,) = Deidentifier().clean([Work((RawNote("n", "p", text),), PatientRecord("p"), bytes(32))])
    (spans,) = result[0].spans
    assert [text[s.start : s.end] for s in spans if s.kind is Kind.DATE and text[s.start].isdigit()] == days


def test_a_surname_of_the_dictionary_is_one_between_an_initial_and_a_credential() -> None:
    assert found(Names(), "Qty 30. -- N. Pasternak CPhT") == ["N. Pasternak"]
    assert found(Names(), "TC from pt's son Will. The son Nguyen Duc will drive. Her son Will drive.") == ["Will", "Nguyen Duc"]


def test_an_address_ends_with_its_sentence() -> None:
    text = "Lives at 61 Sawmill Rd, Berea. dtr Hyacinth visits. Labs sent."
    assert found(Layouts(), text) == ["61 Sawmill Rd, Berea"]


SENTENCES = ("{} denies chest pain and is eating well.", "{} was seen today by the team.", "{} reports that the cough is better.")
AS_SOMEBODY = (
    "Discussed with {} at bedside, who agrees.",
    "d/w {} re plan.",
    "Per {}, hold the dose tonight.",
    "Handed over to {} at 7.",
    "Plan reviewed by {} and team.",
    "{} came in today with a cough.",
    "I met {} and his wife in the waiting room.",
    "cc: {}",
)
AS_SOMETHING = (
    "{} sign negative.",
    "Positive {} test on the left.",
    "{} score 14.",
    "No {} phenomenon.",
    "{} forceps and a suture were used.",
    "{} grade II on imaging.",
    "History of {} disease.",
)


def unlisted_eponyms() -> list[str]:
    """Eponyms that are in no list of names or places: nothing but the sentence tells that one is somebody."""
    lists = words()
    names = [word for word in lists.eponyms if len(word) > 4 and not (lists.is_name(word) or word in lists.places)]
    return sorted(set(names) - by_hand("roles"))


def test_a_list_of_eponyms_hides_nobody_who_speaks_or_is_seen() -> None:
    """Whoever gave a sign its name had a family: each eponym that is in no list of names, as the subject of three sentences."""
    surnames = [word for word in unlisted_eponyms() if not words().is_drug(word)]
    assert len(surnames) > 600
    left = [word for word in surnames for sentence in SENTENCES if not found(Names(), sentence.format(word.capitalize()))]
    assert left == []


def masked_share(forms: tuple[str, ...], names: list[str]) -> float:
    """Of the sentences made from each form and name, those in which the name goes."""
    texts = [form.format(name) for form in forms for name in names]
    named = [text.index(name) for text, name in zip(texts, names * len(forms), strict=True)]
    works = [Work((RawNote("n", "p", text),), PatientRecord(""), bytes(32)) for text in texts]
    cleaned = [one for (one,) in Deidentifier().clean(works)]
    return sum(any(s.start <= at < s.end for s in c.spans[0]) for at, c in zip(named, cleaned, strict=True)) / len(texts)


def test_an_eponym_is_somebody_or_something_by_its_sentence() -> None:
    """The bare surname of an eponym in passing, and the same word as the thing it names. The list alone would let all of them stand."""
    sample = [word.capitalize() for word in unlisted_eponyms()[::12]]
    assert masked_share(AS_SOMEBODY, sample) >= 0.92
    assert masked_share(AS_SOMETHING, sample) <= 0.03


def test_a_dictionary_that_holds_surnames_hides_nobody() -> None:
    """It counts words of film subtitles, so that Dotson is one; nobody writes it in small letters."""
    surnames = ("Dotson", "Holman", "Clemons", "Wynn", "Rutledge", "Talley", "Lehman", "Puckett", "Pasternak", "Donahue")
    assert {name.lower() for name in surnames} <= dictionary("en")
    assert not {name.lower() for name in surnames} & everyday("en")
    assert {"foreman", "workman", "battle", "sweet"} <= everyday("en") | words().common
    assert masked_share((*AS_SOMEBODY, *SENTENCES, "Mary {} was admitted.", "Told {} that the biopsy is benign."), list(surnames)) >= 0.98
    assert masked_share(("A {} came by.", "She is a {} by trade."), ["foreman", "workman"]) == 0


def test_a_list_of_brands_hides_nobody_with_a_title_or_a_given_name() -> None:
    brands = [word.capitalize() for word in sorted(words().brands)[::60] if len(word) > 4]
    assert masked_share(("Mr. {} slept well.", "Dr. {} saw her.", "Mary {} was admitted."), brands) >= 0.98
    assert masked_share(("Started {} last week with good effect.", "Allergies: {}.", "{} held overnight."), brands) <= 0.05


def test_who_is_called_by_what_he_is_remains() -> None:
    """Son, Child, Priest and Friend are surnames as well, and in a note none of them is."""
    text = "Son reports a fall. Child was seen today. Infant was admitted. Friend says he drinks. Baby was referred. Priest was called. Ward asked."
    assert found(Names(), text) == []
    assert found(Names(), "Rose denies pain. SARA denies pain. ELISA was sent, PATIENT denies pain.") == ["Rose", "SARA"]


def test_a_noun_of_another_clause_makes_nobody_an_eponym() -> None:
    def guarded(text: str, name: str) -> bool:
        scan = Scan(text)
        i = scan.word_at(text.index(name))
        return i is not None and guarded_by_words(scan, i)

    for name in ("Murphy", "Graves", "Barrett"):
        for form in (
            "{} wants a test tomorrow.",
            "{} has a test on Monday.",
            "{} for a repair at noon.",
            "Talked with {}, who had a stent.",
        ):
            assert not guarded(form.format(name), name)
        for form in ("{} sign absent.", "{} or Apgar score.", "Graded {} III.", "{} eye disease"):
            assert guarded(form.format(name), name)


def test_a_name_ends_before_the_everyday_word_behind_it() -> None:
    """ "Still" and "Down" are eponyms, which the network learns as family names too."""
    for text in ("Gordon still reports cramps.", "Pollard down to one tablet.", "Powell still smokes."):
        ((cleaned,),) = Deidentifier().clean([Work((RawNote("n", "p", text),), PatientRecord(""), bytes(32))])
        assert [text[s.start : s.end] for s in cleaned.spans[0]] == [text.split()[0]]


def test_a_line_in_capitals_that_is_an_institution_goes_whole() -> None:
    body = "\nSeen by the team for the pain that she has had since the fall."
    for line, expected in (
        ("DUNES REGIONAL PATHOLOGY ASSOCIATES", ["DUNES REGIONAL PATHOLOGY ASSOCIATES"]),
        ("DISCHARGE FROM THE CLINIC", []),
        ("PAST SURGICAL HISTORY", []),
    ):
        assert found(Facilities(), line + body) == expected


def test_what_bears_an_eponym_does_nothing_that_people_do() -> None:
    text = "Foley returned clear urine and fell out. Foley was removed. Murphy is negative. Glasgow was 15. Ringer is running. Babinski went up."
    assert found(Names(), text) == []


def test_a_lone_word_that_no_list_knows_stands_where_the_network_rules_it_out(monkeypatch: pytest.MonkeyPatch) -> None:
    unlisted = ("Brunkow", "Hasslund", "Wittrup", "Quellmalz", "Bexfort", "Fesquit", "Plexitor", "Medorin", "Cloviset", "Stentura")
    notes = [RawNote(word, word, f"Repeat the {word} score at the next visit, then flush the line.") for word in unlisted]

    def hidden() -> set[str]:
        works = [Work((note,), PatientRecord(""), bytes(32)) for note in notes]
        return {note.patient_id for note, (cleaned,) in zip(notes, Deidentifier().clean(works), strict=True) if cleaned.spans[0]}

    few = hidden()
    monkeypatch.setattr(deidentifier, "MIN_LIKELIHOOD", 0.0)
    assert hidden() == set(unlisted)
    assert len(few) <= 0.7 * len(unlisted)


def test_what_the_network_rules_out_beside_a_name_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Labs drawn by phlebotomy. Son Vernon called from Omaha at 2."
    assert "Vernon" in found(Names(), text)
    monkeypatch.setattr(names, "NO_LIKELIHOOD", 0.0)
    assert "Son Vernon" in found(Names(), text)


def test_a_name_of_the_record_is_not_shortened_by_the_network() -> None:
    note = RawNote("n", "p", "Labs drawn by phlebotomy. Son Vernon called from Omaha at 2.")
    ((cleaned,),) = Deidentifier().clean([Work((note,), PatientRecord("p", ("Son Vernon",)), bytes(32))])
    assert not {"Son", "Vernon"} & set(re.findall(r"\w+", cleaned.note.text))


def test_a_clock_time_in_front_of_capitals_is_no_house_and_vital_signs_are_no_telephone(monkeypatch: pytest.MonkeyPatch) -> None:
    row = "1200 SITTING UP.\n1430 BISHOP AMOS LAPP VISITED.\n1600 DC TELE. FOLEY OUT, DTV 2200."
    assert found(Addresses(), row) == []
    monkeypatch.setattr(places, "HOUSE_LIKELIHOOD", 0.0)
    assert found(Addresses(), row)
    vitals = "0715 BP 148/80. 0815 118/66, 0850 88/50 cramping"
    assert [d for d in disagreements(Scan(vitals), []) if d.span.kind is Kind.PHONE] == []
