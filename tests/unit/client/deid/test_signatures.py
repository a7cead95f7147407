"""Who wrote, signed, or is called something: initials, chats, nicknames, spelt names, rows."""

import re

import pytest

from client.deid.deidentifier import Deidentifier, Work
from client.deid.rules.signatures import Signatures
from client.deid.scan import Scan
from client.deid.spans import merge
from client.records import PatientRecord, RawNote


def found(text: str) -> list[str]:
    return [text[span.start : span.end] for span in merge(Signatures().find(Scan(text)))]


def masked(text: str) -> str:
    ((cleaned,),) = Deidentifier().clean([Work((RawNote("n", "p", text),), PatientRecord(""), bytes(32))])
    for span in reversed(cleaned.spans[0]):
        text = text[: span.start] + "_" + text[span.end :]
    return text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Aware. OR 9 at 0700. YB, RN", ["YB"]),
        ("0700  cc 120  clear   eb\n0800  cc 90   clear   eb\n0900  cc 60   pink   eb\n", ["eb", "eb", "eb"]),
        ("0700  cc 120  clear   nl\n0800  cc 90   clear   nl\n0900  cc 60   pink   nl\n", []),
        ("report to ICU RN, then ED MD", []),
        ("2 units checked, chk'd FM\nminutes CL\ndone 9/9 tjm\n", ["FM", "CL", "tjm"]),
        ("count correct\ngiven 9/9 prn\nentered in chart", ["prn"]),  # three letters in the place of initials: masked, not asked
        ('call me: "Fes". Sponsor "Preacher". who "Red"', ["Fes", "Preacher", "Red"]),
        ('She said "Never again" and called "twice a day"', []),
        ("[07:41] jrivas: line is red\n[07:43] nurse: ok\ndr_whalen  8:11 AM  LP at noon\n", ["jrivas", "dr_whalen"]),
        ("[07:41] pain: 4/10\n10:15 patient: ate well", []),
        ("on marguerite that's o o i date of birth", ["o o i"]),
        ("get from WIC.\n-jz 8/13\nSafe at home. CLOSED pjs.\nSubject 018, initials K-M, sex M", ["jz", "pjs", "K-M"]),
        ("DESAT 84 ack m.fadipe\nabstractor lpurcell; user error, ack alarm", ["m.fadipe", "lpurcell"]),
        ("signed to avoid delay / kjd\nabdomen soft / ND\ncough / dry", ["kjd"]),
        ("form for Dr. B.\nRSV, Dr B\nDr. Lund", ["B", "B"]),
        ("* Oyster, J. 8120-1 - new a fib\n- Ferritin, A 120", ["Oyster, J.", "Ferritin, A"]),
        ("P R O G R E S S notes; options A B C D E were read. spelled s c r u g g s date", ["s c r u g g s"]),
        ("called to the ward by dlp at 0739", ["dlp"]),
        ("T. Rourke, M.D. SW/bbn 07/14/76\nvo:lth  dict 10/9/71\nTV/hhc d: 8/3/67 1912", ["SW/bbn", "vo:lth", "TV/hhc"]),
        ("given bid/tid 07/14/76, NS:wt 500, mg/kg 50000, ml/hr 07/14/76", []),
    ],
)
def test_marks(text: str, expected: list[str]) -> None:
    assert found(text) == expected


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("| 4A | Musgrave, P 60114275 | NSTEMI |", "| 4A | _ _ | NSTEMI |"),
        ("3  | ONEILL, PAT | 72F | weak, pale and tired", "3  | _ | 72F | weak, pale and tired"),
        ("patient bohannon comma trace medical record 4471902 seen for knee pain", "patient _ medical record _ seen for knee pain"),
        ("Seen with Eun-ji Song (rad onc).", "Seen with _ (rad onc)."),
        (
            "| drug | 0800 | 1400 | Initials |\n|---|---|---|---|\n| Azilect 1 mg | x |  | RO |\n| Senokot 2 tab | x | ref | KD |",
            "| drug | 0800 | 1400 | Initials |\n|---|---|---|---|\n| Azilect 1 mg | x |  | _ |\n| Senokot 2 tab | x | ref | _ |",
        ),
        ("driving with Uncle Vern and Ofcr Rizzo", "driving with Uncle _ and Ofcr _"),
        ('402A "Pinky" RAMIREZ-TODD, hip fracture and pain', '402A "_, hip fracture and pain'),
        ("bed 4Kowalczyk needs a sitter, wife updated", "bed 4_ needs a sitter, wife updated"),
        ("the helicopter lands at Logan 2230 with the patient", "the helicopter lands at _ 2230 with the patient"),
        ("Home is 20 Gas Lane, Cold Brook. Raised toilet seat was fitted", "Home is _. Raised toilet seat was fitted"),
        ("refill at Fred's on Hwy 231 for the knee pain", "refill at _ for the knee pain"),
        ("The Pfizer-led trial and Kim-based plan", "The Pfizer-led trial and _-based plan"),
        ("Read by: J. Torvald, M.D.  fgy/nts\npt/inr, amp/gent, and/or", "Read by: _, M.D.  _\npt/inr, amp/gent, and/or"),
        ("EKG QTc 410 ms. Glucose 88. MR enterography; mr brown, ms. smith", "EKG QTc 410 ms. Glucose 88. MR enterography; mr _, ms. _"),
        ("chemo at MD Anderson, works at sainsbury’s, then Fred Meyer", "chemo at _, works at _, then _"),
        ("fentanyl with relief to 3/10, pain at 4/10. Pain since 3/10", "fentanyl with relief to 3/10, pain at 4/10. Pain since _"),
        ("Brought by Trinity EMS with pain, seen by Marion Hatchell III today", "Brought by _ with pain, seen by _ today"),
    ],
)
def test_a_name_goes_whole(text: str, clean: str) -> None:
    assert masked(text) == clean


@pytest.mark.parametrize("name", ["Chief Wells", "Coach Quistgaard", "Deacon Wells", "Nan Goodall", "Do Thi Mai", "Md Rahman"])
def test_a_patient_whose_name_is_a_role_or_a_credential_too_goes_whole(name: str) -> None:
    note = RawNote("n", "p", f"{name} was seen in clinic for a cough. Discussed with {name}.")
    ((cleaned,),) = Deidentifier().clean([Work((note,), PatientRecord("p", (name,)), bytes(32))])
    assert not set(name.split()) & set(re.findall(r"\w+", cleaned.note.text))


@pytest.mark.parametrize("name", ["Deacon Wells", "Nan Goodall", "Do Thi Mai", "Md. Rahman"])
def test_so_does_such_a_name_that_no_record_holds(name: str) -> None:
    note = RawNote("n", "p", f"{name} was seen in clinic for a cough.")
    ((cleaned,),) = Deidentifier().clean([Work((note,), PatientRecord("p"), bytes(32))])
    assert not set(name.split()) & set(re.findall(r"\w+", cleaned.note.text))
