"""Tier 1 on Spanish notes, without the network: every identifier whole, and nothing else; and the second reading of Spanish."""

import pytest

from client.deid.scan import Scan
from client.deid.second import disagreements
from tests.helpers.covered import uncovered_and_touched


@pytest.mark.parametrize(
    ("text", "identifiers"),
    [
        ("Dr. Iñaki Goicoechea Arruabarrena atiende a la paciente en la consulta.", ["Iñaki Goicoechea Arruabarrena"]),
        ("Se comenta el caso con la Dra. Beneyto y con el Dr. Ruiz de Alda.", ["Beneyto", "Ruiz de Alda"]),
        ("D. Eleuterio Zamarreño Peláez y Dña. Casilda del Olmo acuden a la consulta.", ["Eleuterio Zamarreño Peláez", "Casilda del Olmo"]),
        ("Nombre: Nuria. Apellidos: Carbajosa Lizarralde. NHC: 0044812", ["Nuria", "Carbajosa Lizarralde", "0044812"]),
        ("Paciente: Nuria Carbajosa Lizarralde, con DNI 44218907-K y el teléfono 612 55 01 47.", ["Nuria Carbajosa Lizarralde", "44218907-K", "612 55 01 47"]),
        ("NIE: X-4418209-L, la tarjeta CIP AN0417882216 y el NASS 30/10448190/22.", ["X-4418209-L", "AN0417882216", "30/10448190/22"]),
        ("Con DNI 12.345.678-Z y pasaporte AAB448190, el paciente ingresa.", ["12.345.678-Z", "AAB448190"]),
        ("CURP: GOMC800101HDFRRL09, el expediente 2023/44819 y la póliza 88-4410.", ["GOMC800101HDFRRL09", "2023/44819", "88-4410"]),
        ("RUT 12.345.678-5, previsión de la paciente.", ["12.345.678-5"]),
        ("Ingresa el 12/03/2021 y es dado de alta el 3 de abril de 2021.", ["12/03/2021", "3 de abril de 2021"]),
        ("Citada el 21/VI/23 para la revisión; intervenida el 03-XI-1956.", ["21/VI/23", "03-XI-1956"]),
        ("Acude el martes 5 de marzo por la tarde; desde enero refiere dolor.", ["martes", "5 de marzo", "enero"]),
        ("Mujer de 94 años que vive sola; su hermana de noventa y dos años la visita.", ["94", "noventa y dos"]),
        ("Domicilio: C/ Fuente del Berro 12, 3º izda., 28009 Madrid", ["C/ Fuente del Berro 12, 3º izda., 28009 Madrid"]),
        ("Vive en la calle Doctor Fleming, 4, bajo B, CP 30710, con su hijo.", ["calle Doctor Fleming, 4, bajo B", "30710"]),
        ("Reside en Avda. de la Constitución nº 44, 2º C, 41001 Sevilla (Sevilla), con la familia.", ["Avda. de la Constitución nº 44, 2º C, 41001 Sevilla (Sevilla)"]),
        ("Natural de Peñaranda de Bracamonte, reside en Getafe desde la infancia.", ["Peñaranda de Bracamonte", "Getafe"]),
        ("Remitida desde el Hospital Comarcal de la Axarquía por disnea.", ["Hospital Comarcal de la Axarquía"]),
        ("Seguimiento en el Centro de Salud Los Alcázares y en la Clínica Santa Elena.", ["Centro de Salud Los Alcázares", "Clínica Santa Elena"]),
        ("Tfno. 953 55 01 28, móvil: +34 612 550 147, fax 953 550129 de la unidad.", ["953 55 01 28", "+34 612 550 147", "953 550129"]),
        ("Fdo.: Dra. Itziar Mendizábal Rey, Col. 23/2304418, el servicio de urgencias.", ["Itziar Mendizábal Rey", "23/2304418"]),
        ("Nº colegiado 28/45112; número de historia 118834 del paciente.", ["28/45112", "118834"]),
        ("Correo: encarna.zubi@correo.example y la web www.salud.example de la consulta.", ["encarna.zubi@correo.example", "www.salud.example"]),
        ("Médico: Joaquín Arriaga Seoane. Enfermera: Pilar Ochoa. El paciente mejora.", ["Joaquín Arriaga Seoane", "Pilar Ochoa"]),
        ("Vehículo con matrícula 4471 KLM, según el informe de la policía.", ["4471 KLM"]),
    ],
)  # fmt: skip
def test_identifiers(text: str, identifiers: list[str]) -> None:
    assert uncovered_and_touched(text, identifiers) == ([], [])


@pytest.mark.parametrize(
    "text",
    [
        "Paciente con enfermedad de Crohn y síndrome de Sjögren, en tratamiento con Imurel y con buena tolerancia.",
        "Signo de Murphy positivo, Blumberg negativo, Lasègue negativo, Glasgow 15/15 en la exploración.",
        "TA 120/70, FC 88 lpm, SatO2 97%, temperatura 36,4 ºC, Barthel 90/100 y la diuresis es normal.",
        "Se pauta amoxicilina-clavulánico 875/125 mg cada 8 horas y paracetamol 1 g si hay dolor.",
        "La analítica muestra Hb 11,2 g/dl, creatinina 0,9 mg/dl, PCR 34 mg/l e INR 2,3 sin otras alteraciones.",
        "Acude con su hija por dolor en el costado; niega fiebre, vómitos y diarrea desde hace 3 días.",
        "Antecedentes: apendicectomía, fiebre reumática, hernia de hiato y fractura de Colles en la infancia.",
        "Ingresa en la Unidad de Cuidados Intensivos del servicio de Medicina Interna y mejora con el tratamiento.",
        "Se solicita Holter, ecocardiograma y TAC; se mantiene Sintrom según INR y se cita en dos semanas.",
        "Con esperanza y buena fe, el paciente hace deporte, come pan y pasea por el campo cada mañana.",
    ],
)
def test_what_stays(text: str) -> None:
    assert uncovered_and_touched(text, []) == ([], [])


def test_terms_that_no_dictionary_holds_hold_no_note_back_and_a_surname_does() -> None:
    terms = "La paciente fue remitida al Servicio de Neumología y a Investigaciones Dacriológicas por la Malformación Percutánea de la paciente."
    scan = Scan(terms)
    assert not [doubt for doubt in disagreements(scan, []) if doubt.grave]
    scan = Scan("La paciente fue remitida a Zebulona Quistgaardez por la tos de la paciente.")
    assert [doubt for doubt in disagreements(scan, []) if doubt.grave]
