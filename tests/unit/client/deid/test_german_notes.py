"""Tier 1 on German notes, without the network: every identifier whole, and nothing else."""

import pytest

from tests.helpers.covered import uncovered_and_touched


@pytest.mark.parametrize(
    ("text", "identifiers"),
    [
        ("Herr Müller wurde von Frau Dr. med. Öztürk-Lange untersucht.", ["Müller", "Öztürk-Lange"]),
        ("Frau Prof. Dr. med. h.c. Annegret von der Heydt hat die Patientin gesehen.", ["Annegret von der Heydt"]),
        ("Wir berichten über Herrn Klaus-Dieter Gläser und seine Beschwerden.", ["Klaus-Dieter Gläser"]),
        ("Der Befund wurde mit OA Dr. Brzezinski besprochen und dokumentiert.", ["Brzezinski"]),
        ("Schwester Ingeborg und Pfleger Tjark haben den Patienten versorgt.", ["Ingeborg", "Tjark"]),
        ("Hausarzt: Dr. Wolfram Pfefferkorn, der die Behandlung fortsetzt.", ["Wolfram Pfefferkorn"]),
        ("Name: Wietzorek, Vorname: Hannelore, die Patientin ist wach.", ["Wietzorek", "Hannelore"]),
        ("Patientin: Hannelore Wietzorek, geb. Sauerbier, geb. 12.03.1957", ["Hannelore Wietzorek", "Sauerbier", "12.03.1957"]),
        ("Thiessen, Uwe, geb. am 12. März 1957, wurde am 3.4. aufgenommen.", ["Thiessen, Uwe", "12. März 1957", "3.4."]),
        ("Thiessen, Uwe *12.03.57, aus der Notaufnahme.", ["Thiessen, Uwe", "12.03.57"]),
        ("Die Aufnahme erfolgte am 02.11.2023, die Entlassung am 09.11.23.", ["02.11.2023", "09.11.23"]),
        ("Er war vom 3. bis 17. Januar 2022 in unserer Behandlung.", ["3. bis 17. Januar 2022"]),
        ("Die Kontrolle ist für Dienstag, den 5. Dez. 2023 geplant.", ["Dienstag", "5. Dez. 2023"]),
        ("Seit Mitte Februar bestehen Schmerzen, im Oktober war er beschwerdefrei.", ["Februar", "Oktober"]),
        ("Die 94-jährige Patientin und ihr 91 Jahre alter Mann wohnen zu Hause.", ["94", "91"]),
        ("wohnhaft Lange Straße 14a, 27232 Sulingen, und er lebt allein.", ["Lange Straße 14a, 27232 Sulingen"]),
        ("Anschrift: Am Sonnenhang 3, 87561 Oberstdorf, der Patient ist mobil.", ["Am Sonnenhang 3, 87561 Oberstdorf"]),
        ("Er wohnt in der Goethestr. 112, D-60313 Frankfurt am Main.", ["Goethestr. 112, D-60313 Frankfurt am Main"]),
        ("Sie lebt mit der Tochter in Wuppertal und stammt aus Breslau.", ["Wuppertal", "Breslau"]),
        ("Versichertennummer: M314159265, die Karte wurde eingelesen.", ["M314159265"]),
        ("Die KV-Nummer A 123 456 780 ist bekannt; Fallnummer 2023-0048812.", ["A 123 456 780", "2023-0048812"]),
        ("Vers.-Nr. 65 170839 J 003, Rentenversicherung der Patientin.", ["65 170839 J 003"]),
        ("Pat.-Nr. 00448190, Auftragsnummer: L-22/118834 und der Befund folgt.", ["00448190", "L-22/118834"]),
        ("Tel.: 0421/55 01 47, Fax 0421-550148, mobil 0151 23456789 und die Mail.", ["0421/55 01 47", "0421-550148", "0151 23456789"]),
        ("Rückruf unter +49 (0)89 550147-22 ist für die Angehörigen möglich.", ["+49 (0)89 550147-22"]),
        ("Der Patient wurde aus dem Klinikum Bad Salzungen verlegt.", ["Klinikum Bad Salzungen"]),
        ("Vorbehandlung im St.-Elisabeth-Krankenhaus Herten und in der Asklepios-Klinik Seesen.", ["St.-Elisabeth-Krankenhaus Herten", "Asklepios-Klinik Seesen"]),
        ("Nachsorge im MVZ Holstenplatz und in der Praxis Dr. Engelbrecht.", ["MVZ Holstenplatz", "Praxis Dr. Engelbrecht"]),
        ("Mit freundlichen Grüßen\nDr. med. Friederike Sommerlatte\nOberärztin der Klinik", ["Friederike Sommerlatte"]),
        ("gez. Dr. Pospischil, am Tage der Entlassung", ["Pospischil"]),
        ("IBAN DE89 3704 0044 0532 0130 00, das Kfz-Kennzeichen HB-KL 442 ist notiert.", ["DE89 3704 0044 0532 0130 00", "HB-KL 442"]),
        ("Ehefrau: Roswitha Thiessen, sie ist die Betreuerin.", ["Roswitha Thiessen"]),
        ("E-Mail: u.thiessen@post.example, die Praxis ist unter www.praxis-sulingen.example erreichbar.", ["u.thiessen@post.example", "www.praxis-sulingen.example"]),
    ],
)  # fmt: skip
def test_identifiers(text: str, identifiers: list[str]) -> None:
    assert uncovered_and_touched(text, identifiers) == ([], [])


@pytest.mark.parametrize(
    "text",
    [
        "Die Parkinson-Krankheit ist bekannt, der Morbus Crohn ist in Remission, die Hashimoto-Thyreoiditis wird behandelt.",
        "Das Murphy-Zeichen ist negativ, Zeichen nach Trousseau und Babinski beidseits nicht auslösbar, Lasègue bei 60 Grad.",
        "Der Patient stellte sich mit Übelkeit, Erbrechen, Schwindel und Kopfschmerzen in der Notaufnahme vor.",
        "Die Sonographie des Abdomens zeigt eine Gallenblase ohne Steine, die Milz misst 11 cm, kein Aszites.",
        "Hb 12,4 g/dl, Kreatinin 1,1 mg/dl, INR 2,3, CRP 112 mg/l, TSH 1,45 mU/l und die Leukozyten sind normal.",
        "Medikation: Ramipril 5 mg 1-0-0, Marcumar nach Plan, Novalgin 30 Tropfen bei Bedarf, Pantoprazol 40 mg.",
        "Die Kontrolle ist in 3 Wochen geplant, die Therapie wird für 7 bis 10 Tage fortgeführt, der Verband ist trocken.",
        "Arbeitsunfähigkeit, Pflegegrad und Rehabilitation wurden mit der Patientin und dem Sozialdienst besprochen.",
        "Klinik für Innere Medizin, Abteilung für Gastroenterologie, Zentrale Notaufnahme, Station und Ambulanz.",
        "Der Vater hatte einen Herzinfarkt mit 54 Jahren, die Mutter ist an einem Mammakarzinom gestorben.",
        "RR 135/85 mmHg, Puls 78/min, Temperatur 37,2 °C, GCS 15, SpO2 97 %, NYHA II und der BMI ist 27,4.",
        "EKG: Linkstyp, Sinusrhythmus, PQ 0,16 s. Echokardiographie: Normale Pumpfunktion, die Klappen sind zart.",
        "Röntgen-Thorax in 2 Ebenen: Kein Infiltrat, kein Erguss, das Herz ist nicht verbreitert.",
        "Der Stuhl ist braun, die Haut warm, der Hals frei und das Herz schlägt regelmäßig.",
    ],
)
def test_what_stays(text: str) -> None:
    assert uncovered_and_touched(text, []) == ([], [])
