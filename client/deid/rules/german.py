"""Tier 1 for German: the headings, titles, addresses, dates and numbers of clinical letters of Germany, Austria and Switzerland.

Protects against: what stands behind a heading ("Name:", "Fallnummer"), a title ("Frau", "Dr. med."), in the shape of a street or a clinic.
Does not protect against: a name in running text that nothing announces; that is for the network and for propagation.
"""

import re
from collections.abc import Iterator

from client.deid.rules.patterns import searched
from client.deid.rules.weighed import weighed
from client.deid.scan import Scan
from client.deid.spans import Kind, Span

_CAP = r"[A-ZÄÖÜ][\wäöüß'’-]*"
_LINK = r"(?:von|van|zu|zur|vom|der|den|de|di|bei|am|an|im|ob)"
_PROPER = rf"{_CAP}(?:[ \t]+(?:{_LINK}[ \t]+){{0,2}}{_CAP}){{0,3}}"
_MONTH = r"(?:Januar|Jänner|Februar|März|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember|Jan|Feb|Mrz|Apr|Jun|Jul|Aug|Sept?|Okt|Nov|Dez)"
_DEGREE = r"(?:(?:med|dent|rer|nat|phil|univ|habil|h\.c|Dipl|Med|PD|Priv|Doz|Ing|Mag)\.?-?[ \t]*)*"

_DATES = (
    re.compile(rf"(?<!\w)(?:\d{{1,2}}\.[ \t]?(?:(?:-|–|bis|und|u\.)[ \t]?\d{{1,2}}\.[ \t]?)?)?{_MONTH}\.?[ \t]+(?:19|20)\d\d(?!\w)"),
    re.compile(rf"(?<!\w)\d{{1,2}}\.[ \t]?{_MONTH}(?!\w)"),
    re.compile(r"(?<![\w.,/])(?:0?[1-9]|[12]\d|3[01])\.(?:0?[1-9]|1[0-2])\.(?:(?:19|20)?\d\d)(?![\w]|[.,]\d)"),
    re.compile(
        r"(?:(?:am|vom|ab|seit|bis|zum|den|dem)[ \t]+|\*[ \t]?|[-–][ \t]?)(?P<found>(?:0?[1-9]|[12]\d|3[01])\.(?:0?[1-9]|1[0-2])\.)(?!\d)"
    ),
    re.compile(rf"\b(?:im|seit|bis|ab|Anfang|Ende|Mitte)[ \t]+(?P<found>{_MONTH})(?!\w)"),
    re.compile(r"\b(?P<found>(?:Mon|Diens|Donners|Frei|Sams|Sonn)tags?|Mittwochs?|Sonnabends?)\b"),
)
_AGE = searched(r"(?<![\d.,])(9\d|1[01]\d)(?:[ \t]*(?:Jahren?|J\.)(?:[ \t]+alt)?|[- ]?jährige[rnms]?)\b(?![ \t]+(?:Verlauf|später))")
_TITLE = searched(
    rf"(?<!\w)(?:Herrn?|HERRN?|Frau|FRAU|Hr\.|Fr\.|Fräulein|Dr\.|Dres\.|Prof\.|Professor|OA|OÄ|CA|CÄ|Oberarzt|Oberärztin|Chefarzt|Chefärztin|Assistenzarzt|Assistenzärztin|Hausarzt|Hausärztin|Kollege[n]?|Kollegin|"
    rf"Schwester|Pfleger|Hebamme|Familie|Fam\.|Notar|Pfarrer)[ \t]+(?:(?:Prof|Dr|PD|Univ)\.?[ \t-]*{_DEGREE})*({_PROPER})"
)
_HEADING = searched(
    rf"(?i:(?<!\w)(?:(?:vor|nach|familien|geburts|zu)?name|vor-?\s*und\s*zuname|patient(?:in)?|hausarzt|hausärztin|(?:über|zu|ein)weis(?:er|ende[rn]?\s+(?:arzt|ärztin))|behandelnde[rn]?\s+(?:arzt|ärztin)|arzt|ärztin|"
    rf"operateur(?:in)?|assistenz|anästhesist(?:in)?|befundet(?:\s+von)?|unterschrift|gezeichnet|gez\.|unterzeichnet(?:\s+von)?|verfasser(?:in)?|angehörige[r]?|ansprechpartner(?:in)?|betreuer(?:in)?|notfallkontakt|"
    rf"ehemann|ehefrau|mutter|vater|sohn|tochter|bruder|schwester)[ \t]*:?[ \t]*(?<=[:.])[ \t]*)(?:(?:Herr|Frau|Prof|Dr|PD)\.?[ \t]+{_DEGREE})*({_PROPER}(?:,[ \t]*(?!\w+[ \t]*:){_PROPER})?)"
)
_BORN = searched(rf"({_CAP}(?:[ \t]+{_CAP}){{0,2}},[ \t]*{_CAP}|{_CAP}[ \t]+{_CAP})(?=,?[ \t]*(?:geb\.|geboren|\*[ \t]?\d|Geburtsdatum))")
_MAIDEN = searched(rf"\b(?:geb\.|geborene[rn]?|verw\.|gesch\.)[ \t]+(?!am\b)({_CAP}(?:-{_CAP})?)(?![\w.]*\d)")
_STREET = searched(
    rf"(?<!\w)(?:{_CAP}[ -])?(?:[A-ZÄÖÜ]\w*(?:straße|strasse|str\.|weg|platz|gasse|allee|ring|damm|ufer|steig|steg|chaussee|promenade|markt|graben|hof|berg|feld|garten|wall)|(?:Straße|Str\.|Weg|Platz|Allee|Ring)|"
    rf"(?:Am|An[ ]der|An[ ]den|Auf[ ]der|Auf[ ]dem|Im|In[ ]der|In[ ]den|Zum|Zur|Unter[ ]den|Hinter[ ]der)[ ]{_CAP})[ \t]*\d{{1,4}}(?:[/-]\d{{1,4}})?[ \t]?[a-h]?(?![\w.,]*\d|[ \t]*(?:mg|ml|Tage|Jahre|cm|mm|%))"
)
_ZIP_TOWN = searched(
    rf"(?<![\w.,/-])(?:[DAF]-|CH-)?(?:[1-9]\d{{3}}|\d{{5}})[ \t]+({_CAP}(?:[ \t]+(?:{_LINK}[ \t]+)+{_CAP}|[-/]{_CAP}|[ \t]+\([\w. ]+\)){{0,2}})"
)
_LIVES = searched(
    rf"\b(?:wohnhaft|wohnt|lebt|geboren|stammt|kommt|gebürtig|Wohnort:?|zieht|Reise|reiste|zurück)[ \t]+(?:derzeit[ \t]+|allein[ \t]+|seit[ \t]+\d+[ \t]+)?(?:in|aus|nach|bei|von)?[ \t]*({_CAP}(?:[ -]{_CAP})?)"
)
_CLINIC = searched(
    rf"(?<!\w)(?:(?:{_CAP}[ -]){{0,2}}(?:Universitätsklinikum|Uniklinikum|Uniklinik|Klinikum|Krankenhaus|Kreiskrankenhaus|Landeskrankenhaus|Spital|Kantonsspital|Inselspital|Rehaklinik|Fachklinik|Gesundheitszentrum|MVZ|Pflegeheim|Seniorenheim|"
    rf"Seniorenresidenz|Hospital|Praxis|Gemeinschaftspraxis|Apotheke|Charité)(?:[ \t]+(?:(?:{_LINK}|für|und|Dr\.)[ \t]+)?{_CAP}){{1,4}}|St\.?[- ]{_CAP}[- ](?:Krankenhaus|Hospital|Klinik|Stift)(?:[ \t]+{_CAP})?|{_CAP}(?:-Klinik|-Klinikum|-Krankenhaus|-Hospital|-Stift|-Apotheke)(?:[ \t]+{_CAP})?)"
)
_NUMBER = searched(
    r"(?i:(?<!\w)(?:(?:fall|patienten|pat\.?-?|aufnahme|versicherten|versicherungs|mitglieds|kranken(?:kassen|versicherungs)|auftrags|labor|akten|konto|personal|ausweis|renten(?:versicherungs)?|sozialversicherungs|serien|"
    r"vertrags|kunden|betriebsstätten|arzt|befund|proben|journal|chargen|kv-?|vers\.?-?|steuer-?)[-\s]?(?:nummer|nr\.?|id|zeichen)|fallnr|pid|iban|blz|lanr|bsnr|kvnr|ahv(?:-nr\.?)?|svnr|kfz(?:-kennzeichen)?|kennzeichen|"
    r"personalausweis|reisepass|führerschein|aktenzeichen|az)\s*[.:#]?\s*)([A-Z]{0,4}[-/ ]?\d[\dA-Za-z]*(?:[ ./-](?:[A-Z][ ])?\d[\dA-Za-z]*){0,6})"
)
_INSURED = searched(
    r"(?<![\w-])[A-Z]\d{9}(?![\w-])|(?<![\w.])756\.\d{4}\.\d{4}\.\d{2}(?!\w)|(?<!\w)[A-ZÄÖÜ]{1,3}-[A-Z]{1,2} ?\d{2,4}(?!\w)"
)
_PHONE = searched(
    r"(?i:\b(?:tel(?:efon)?(?:nummer)?|fax|mobil|handy|durchwahl|ruf|rückruf|erreichbar\s+unter)\b[.:\s]{1,4})(\(?\+?\d[\d ()./\-]{4,18}\d)"
)
_NO_TOWN = frozenset(
    [
        "uhr",
        "tage",
        "tagen",
        "jahre",
        "jahren",
        "mg",
        "ml",
        "wochen",
        "monate",
        "monaten",
        "stunden",
        "minuten",
        "der",
        "die",
        "das",
        "einer",
        "einem",
        "patient",
        "patientin",
        "klinik",
        "anamnese",
        "hause",
        "januar",
    ]
)


class German:
    """Everything that the language gives away."""

    def find(self, scan: Scan) -> Iterator[Span]:
        return weighed(scan, self._all(scan))

    def _all(self, scan: Scan) -> Iterator[Span]:
        if "de" not in scan.languages:
            return
        text = scan.text
        for pattern in _DATES:
            group = "found" if "found" in pattern.groupindex else 0
            for match in pattern.finditer(text):
                yield Span(match.start(group), match.end(group), Kind.DATE)
        for pattern, kind in (
            (_AGE, Kind.AGE),
            (_TITLE, Kind.NAME),
            (_HEADING, Kind.NAME),
            (_BORN, Kind.NAME),
            (_MAIDEN, Kind.NAME),
            (_NUMBER, Kind.ID),
            (_PHONE, Kind.PHONE),
        ):
            for match in pattern.finditer(text):
                yield Span(match.start(1), match.end(1), kind)
        for pattern, kind in ((_STREET, Kind.LOCATION), (_CLINIC, Kind.ORGANIZATION), (_INSURED, Kind.ID)):
            for match in pattern.finditer(text):
                yield Span(match.start(), match.end(), kind)
        for pattern in (_ZIP_TOWN, _LIVES):
            for match in pattern.finditer(text):
                if match.group(1).lower() not in _NO_TOWN:
                    yield Span(match.start() if pattern is _ZIP_TOWN else match.start(1), match.end(1), Kind.LOCATION)
