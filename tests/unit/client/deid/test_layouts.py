"""Identifiers told by where they stand."""

import pytest

from client.deid.rules.layouts import Layouts
from client.deid.scan import Scan
from client.deid.spans import merge


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "PID|1||4471|88|DOE^JANE^Q||19500102|F|||1 ELM ST^^OMAHA^NE^68101||4025550147|||M||990|",
            ["4471", "88", "DOE", "JANE", "Q", "19500102", "1 ELM ST", "OMAHA", "NE", "68101", "4025550147", "990"],
        ),
        ("MSH|^~\\&|LAB|NORTH|EHR|SOUTH|202301021530||ORU^R01|M1|P|2.3", ["NORTH", "SOUTH", "202301021530", "M1"]),
        ("PV1||O|||||277^ROE^ANN^^^DR|||MED", ["277", "ROE", "ANN"]),
        ("NK1|1|ROE^MAX~ROE^TIM|SPO", ["ROE", "MAX", "ROE", "TIM"]),
        ("OBX|1|NM|718-7^Hemoglobin||13.2|g/dL|13.5-17.5|L|||F", []),
        ("pt_name=Jane Roe;dob=1990-06-02;mrn=ZK204;hr=72;plan=PPO", ["Jane Roe", "1990-06-02", "ZK204"]),
        ('{"lastName": "Roe", "birthDate": "1990-06-02", "egfr": "52"}', ["Roe", "1990-06-02"]),
        ("Name | MRN | Na | K\nRoe, Jane | 3001 | 139 | 4.1\nPoe, Max | 3002 | 128 | 5.6", ["Roe, Jane", "3001", "Poe, Max", "3002"]),
        ("mrn,last,first,sbp\n882,Okpara,Ifeoma,142\n883,Sokolov,Pyotr,151", ["882", "Okpara", "Ifeoma", "883", "Sokolov", "Pyotr"]),
        ("Name | Result | Range\nSodium | 139 | 135-145\nGlucose | 99 | 70-99", []),
        ("Address: Apt 6, The Maltings, Carrick, Co. Tipperary  Tel", ["Apt 6, The Maltings, Carrick, Co. Tipperary"]),
        ("R/o VPO Rurka Kalan, Teh. Phillaur 144031\nPh", ["VPO Rurka Kalan, Teh. Phillaur 144031"]),
        ("We will address this with 20 mg today. Sodium, potassium, and chloride were normal.", []),
    ],
)
def test_layouts(text: str, expected: list[str]) -> None:
    assert [text[span.start : span.end] for span in merge(Layouts().find(Scan(text)))] == expected
