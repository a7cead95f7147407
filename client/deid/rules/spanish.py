"""Tier 1 for Spanish: the headings, titles, addresses, dates and numbers of clinical texts of Spain and Latin America.

Protects against: what stands behind a heading ("Nombre:", "NHC:", "Domicilio:"), a title ("Dra."), the word for a street or a hospital.
Does not protect against: a name in running text that nothing announces; that is for the network and for propagation.
"""

import re
from collections.abc import Iterator

from client.deid.rules.patterns import searched
from client.deid.rules.weighed import weighed
from client.deid.scan import Scan
from client.deid.spans import Kind, Span

_CAP = r"[A-ZÁÉÍÓÚÜÑÀÈÒÇ][\wáéíóúüñàèòç'’·-]*\.?"
_LINK = r"(?:de|del|la|las|los|el|y|e|i|da|do|dos|san|santa|d['’])"
_PROPER = rf"{_CAP}(?:[ \t]+(?:{_LINK}[ \t]+){{0,3}}{_CAP}){{0,5}}"
_NAME = r"(?!(?:Dña|Dra?|Sra?|Srta)\b)(?:[A-ZÁÉÍÓÚÜÑÀÈÒÇ][\wáéíóúüñàèòç]{0,2}\.|[A-ZÁÉÍÓÚÜÑÀÈÒÇ][\wáéíóúüñàèòç'’·-]*)"
"""A part of a person's name: a full stop belongs to it only after an initial or an abbreviation, and a title begins another name."""

_PERSON = rf"{_NAME}(?:[ \t]+(?:{_LINK}[ \t]+){{0,3}}{_NAME}){{0,5}}"
_MONTH = r"(?:enero|febrero|marzo|abril|mayo|junio|julio|agosto|sep?tiembre|octubre|noviembre|diciembre)"

_DATES = (
    searched(rf"(?<!\w)(?:\d{{1,2}}(?:\s*(?:-|y|al?)\s*\d{{1,2}})?\s+(?:de\s+)?)?{_MONTH}(?:\s+(?:del?\s+)?(?:año\s+)?(?:19|20)\d\d)(?!\w)", re.IGNORECASE),
    searched(rf"(?<!\w)\d{{1,2}}\s+de\s+{_MONTH}(?!\w)", re.IGNORECASE),
    searched(r"(?<!\w)\d{1,2}[-/.](?:ene|feb|mar|abr|may|jun|jul|ago|sep|oct|nov|dic)[-/.]\d{2,4}(?!\w)", re.IGNORECASE),
)  # fmt: skip
_MONTH_ALONE = re.compile(rf"\b(?:en|desde|hasta|de|a finales de|a principios de|durante|el mes de)\s+({_MONTH})\b", re.IGNORECASE)
_DAY_NAME = re.compile(r"\b(?:el|los|del?|este|pasado|próximo)\s+(lunes|martes|miércoles|jueves|viernes|sábado|domingo)s?\b", re.IGNORECASE)
_AGE = re.compile(r"(?<![\d.,])((?:9\d|1[01]\d)|noventa(?:\s+y\s+\w+)?|cien(?:to\s+\w+)?)\s+años\b(?!\s+(?:antes|después|de\s+evolución|de\s+seguimiento))", re.IGNORECASE)  # fmt: skip

_TITLE = re.compile(
    rf"(?<!\w)(?:Dr|Dra|DR|DRA|Dres|Sr|Sra|Srta|SR|SRA|Prof|Profa|D|Dª|Dña|D\.ª|Don|Doña|Lic|Fdo)(?:\.ª|\.|ª|:)?[ \t]+((?!(?:de|la|el)\b){_PERSON}|{_LINK}[ \t]+{_PERSON})"
)
_NAME_HEADING = re.compile(
    rf"(?i:(?<!\w)(?:nombres?(?:\s+y\s+apellidos)?|(?:primer\s+|segundo\s+)?apellidos?|paciente|m[ée]dic[oa](?:\s+(?:responsable|de\s+cabecera|solicitante|adjunto))?|facultativ[oa]|"
    rf"remitid[oa]\s+por|remitente|responsable(?:\s+cl[íi]nic[oa])?|firmad[oa](?:\s+por)?|fdo|autor(?:es)?|cirujan[oa]|anestesista|enfermer[oa]|familiar|contacto|acompañante|tutor|madre|padre|"
    rf"espos[oa]|c[óo]nyuge|hij[oa]|herman[oa]|correspondencia)\s*(?::|(?<=fdo)\.)\s*)(?:Dr[ae]?s?\.|D\.|Dña\.|Prof\.)?[ \t]*({_PERSON}(?:[ \t]+y[ \t]+{_PERSON})?)"
)
_PLACE_HEADING = re.compile(
    r"(?i:(?<!\w)(?:domicilio|direcci[óo]n(?:\s+postal)?|localidad(?:\s*/\s*provincia)?|provincia|municipio|poblaci[óo]n|ciudad|lugar\s+de\s+nacimiento|pa[íi]s(?:\s+de\s+nacimiento)?|"
    r"residencia|natural\s+de|procedencia)\s*:[ \t]*)([^\n:;]{2,70}?)(?=\s*(?:\.\s|\.?\n|\.?$|;|\s{2}|[ \t]+(?:CP|C\.P\.|Tel|Provincia|País)\b))"
)
_STREET = searched(
    rf"(?<!\w)(?:C/|c/|C\.[ ]|Calle|calle|Avda?\.?|Avenida|avenida|Paseo|Pº|P\.º|Plaza|plaza|Pza\.?|Pl\.|Plaça|Ctra\.?|Carretera|Camino|Cno\.|Ronda|Traves[íi]a|Trav\.|Glorieta|Vial|Pasaje|Pasadizo|Acceso|CALLE|AVENIDA|AVDA\.?|PASEO|PLAZA|CARRETERA|CAMINO|RONDA|GLORIETA|CUESTA|VIAL|PASAJE|PASADIZO|Urb\.?|Urbanizaci[óo]n|"
    rf"Pol[íi]gono|R[úu]a|Carrer|C\.|Passeig|Rambla|Bulevar|Callej[óo]n|Cuesta|Barrio|Alameda|V[íi]a|Colonia|Col\.)[ \t]*(?:(?:de|del|la|las|los|el)[ \t]+)*{_PROPER}"
    r"(?:[ \t]*,?[ \t]*(?:n[º°o]?\.?[ \t]*\d+|núm\.?[ \t]*\d+|s/n|km\.?[ \t]*[\d,.]+|\d{1,4})(?:[ \t]*[-–,/][ \t]*(?:\d{1,3}[ºª°]?(?:[ ][A-Z](?!\w))?|[A-Za-z](?![\w]))[ºª°]?){0,4}"
    r"(?:[ \t]*,?[ \t]*(?:piso|puerta|esc(?:alera)?\.?|bajo|portal|planta|izq(?:da|\.)?|dcha\.?)[ \t]*\w{0,3}){0,3})?"
)
_ZIP_TOWN = searched(rf"(?<![\w.,/-])(\d{{5}})[ \t]*[-–.,]?[ \t]*\(?({_PROPER})(?:[ \t]*[,(.-][ \t]*({_PROPER})\)?)?")
_ZIP_HEADING = re.compile(r"(?i:\b(?:c\.?\s?p\.?|c[óo]digo\s+postal)\s*:?\s*)(\d{5})\b")
_TOWN_AFTER = re.compile(
    rf"(?i:(?<!\w)(?:natural\s+de|procedente\s+de|residente\s+en|reside\s+en|vive\s+en|nacid[oa]\s+en|originari[oa]\s+de|vecin[oa]\s+de|viaj[eoó]\w*\s+(?:recientes?\s+)?a|viv[ií]a\s+en|trasladad[oa]\s+a))\s+({_PROPER})"
)
_FACILITY = searched(
    rf"(?<!\w)(?:Hospital|HOSPITAL|Hosp\.|H\.U\.|Cl[íi]nica|Policl[íi]nica|Centro[ \t]+(?:de[ \t]+Salud|M[ée]dico|Hospitalario)|Complejo[ \t]+(?:Hospitalario|Asistencial)|Ambulatorio|Fundaci[óo]n|Instituto|"
    rf"Consorcio|Universidad|Facultad|Sanatorio|Residencia|Colegio|Corporaci[óo]n|Mutua)(?:[ \t]+(?:{_LINK}[ \t]+){{0,3}}(?:{_CAP})){{1,7}}(?:[ \t]+[\"“«][^\"”»\n]{{2,40}}[\"”»])?"
)
_NUMBER = re.compile(
    r"(?i:(?<!\w)(?:nhc|n\.h\.c\.|n[ºª°]?\s*h(?:istoria)?\.?\s*c?(?:l[íi]nica)?|historia\s+cl[íi]nica|nass|n\.a\.s\.s\.|cipa?|cip|tsi|sip|dni|d\.n\.i\.|nif|nie|c[ée]dula|curp|rut|pasaporte|"
    r"n[ºª°o.]?\s*(?:de\s+)?col(?:egiad[oa]|\.)?|col\.(?=\s*\d)|colegiad[oa]|episodio|n[ºª°]\s*(?:de\s+)?(?:episodio|afiliaci[óo]n|p[óo]liza|cuenta|expediente|registro|muestra|biopsia)|p[óo]liza|expediente|"
    r"seguridad\s+social|tarjeta\s+sanitaria|matr[íi]cula|n[úu]mero\s+de\s+\w+(?:\s+\w+)?|identificaci[óo]n)\s*(?:n[ºª°o]?\.?)?\s*[:.#]?\s*)((?:nhc)?[A-Z]{0,4}[-: ]?\d[\dA-Za-z]*(?:[ ./-]?\d[\dA-Za-z]*){0,6}(?:[- ]?[A-Z](?!\w))?)"
)
_DNI = searched(r"(?<![\w.,-])(?:\d{8}[- ]?[A-HJ-NP-TV-Z]|[XYZ][- ]?\d{7}[- ]?[A-Z]|\d{1,2}\.\d{3}\.\d{3}-[\dkK])(?![\w])")
_PHONE = searched(
    r"(?i:\b(?:tel[ée]fonos?|tel[ée]f|tfnos?|tlfs?|tel|fax|m[óo]vil|busca)\b[.:\s]{1,4})((?:\(?\+?\d[\d ().\-/]{5,18}\d)(?:\s*(?:ext\.?|-)\s*\d{1,6})?)|(?<![\w.,-])(?:\+34[ .]?)?[6789]\d{2}(?:[ .]\d{2,3}){2,3}(?![\w,])"
)
_NEXT_HEADING = re.compile(
    r"[ \t]+(?:Servicio|Jefe|Correo|E-?mail|Email|Hospital|Telf?|N[ºª°]|Historia|Informe|Unidad|Departamento|Secci[óo]n|Calle|C/|Avda|Avenida|Paseo|Plaza|"
    r"Direcci[óo]n|M[ée]dico|Centro|Cl[íi]nica|Sexo|Edad|Fecha).*"
)

_HEADING_WORDS = re.compile(
    r"(?:Nombre|Apellidos|Paciente|Correo|E-?mail|Email|Servicio|Var[óo]n|Mujer|Hombre|Historia|Informe|Datos|No|El|La|Un|Una|Refiere|Sin|Niñ[oa]|Lactante)\b"
)
_NO_TOWN = frozenset(["se", "el", "la", "los", "las", "en", "con", "sin", "tras", "al", "un", "una", "no", "ml", "mg"])


class Spanish:
    """Everything that the language gives away."""

    def find(self, scan: Scan) -> Iterator[Span]:
        return weighed(scan, self._all(scan))

    def _all(self, scan: Scan) -> Iterator[Span]:
        if "es" not in scan.languages:
            return
        text = scan.text
        for pattern in _DATES:
            for match in pattern.finditer(text):
                yield Span(match.start(), match.end(), Kind.DATE)
        for pattern, kind in (
            (_MONTH_ALONE, Kind.DATE), (_DAY_NAME, Kind.DATE), (_AGE, Kind.AGE), (_TITLE, Kind.NAME), (_NAME_HEADING, Kind.NAME),
            (_PLACE_HEADING, Kind.LOCATION), (_ZIP_HEADING, Kind.LOCATION), (_TOWN_AFTER, Kind.LOCATION), (_NUMBER, Kind.ID),
        ):  # fmt: skip
            for match in pattern.finditer(text):
                found = match.group(1)
                if kind is Kind.NAME:
                    if _HEADING_WORDS.match(found):
                        continue
                    found = _NEXT_HEADING.sub("", found)
                if found.strip(" ."):
                    yield Span(match.start(1), match.start(1) + len(found), kind)
        for pattern, kind in ((_STREET, Kind.LOCATION), (_FACILITY, Kind.ORGANIZATION), (_DNI, Kind.LICENSE)):
            for match in pattern.finditer(text):
                yield Span(match.start(), match.end(), kind)
        for match in _PHONE.finditer(text):
            group = 1 if match.group(1) else 0
            yield Span(match.start(group), match.end(group), Kind.PHONE)
        for match in _ZIP_TOWN.finditer(text):
            if match.group(2).lower() not in _NO_TOWN:
                yield Span(match.start(), match.end(), Kind.LOCATION)
