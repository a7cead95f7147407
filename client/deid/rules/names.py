"""Tier 1: people's names, told by what stands around them and by lists of names.

Protects against: names after a title, a heading, a relation or "signed by", before a credential, in a signature, as "Last, First",
and words that the name lists know.
Does not protect against: an unlisted name that stands alone in running text; that is for the model and for propagation.
"""

import re
from collections.abc import Iterator

from client.deid.rules.credentials import BEHIND_NAME, LETTERED
from client.deid.rules.guard import guarded
from client.deid.rules.patterns import searched
from client.deid.rules.weighed import trimmed
from client.deid.scan import Scan, Word
from client.deid.spans import Kind, Span
from client.deid.vocabulary.words import NOBODY, PARTICLES, TITLES, by_hand, norm, words

_INSIDE = re.compile(r"\.?[ ]{1,2}|\.?[-–]|\.|['’]")
_COMMA = re.compile(r",[ ]{0,2}")
_TITLE = searched(
    r"(?<![\w])(?:doctor|Dr|DR|dr|Mr|MR|mr|Mrs|MRS|mrs|Ms|MS|(?<!\d )ms|Mx|Miss|Prof|PROF|Professor|Doctor|Nurse|Sister|Rev|Reverend|Pastor|Rabbi|Officer|Judge|Sgt|Capt|Attorney|Atty|Sr|Sra|Herr|Frau|Mme|Shri|Smt|Kum|Sri)\.?[ ]{1,2}"
    r"(?=[^\W\d_])"
)
_TITLES = searched(
    r"(?<!\w)(?:D(?:octo)?rs|Messrs|Profs|Mmes|Misses|Nurses|Officers)\.?[ ]((?:[A-Z]\.[ ]?)*[A-Z][\w'’-]+(?:(?:,?[ ](?:and|&)[ ]|,[ ]|/)(?:[A-Z]\.[ ]?)*[A-Z][a-z][\w'’-]+){0,6})"
)
"""Several people after one title: "Drs. Foley, Kocher-Lund and Whipple"."""

_LETTER = searched(r"(?<![\w.])[Dd]r\.?[ ]([B-HJ-Zb-hj-z])(?=[.,;)\s]|$)(?!\.\w)")
"""A doctor known by a letter: "admits go to dr k."."""

_COURTESY = re.compile(r"(?!(?-i:MR\b)(?!\.))mrs?\b|miss\b|ms\.", re.IGNORECASE)
"""Before a name in small letters; "MS" without a full stop is a disease, and "MR" an image."""
_HEADING = searched(
    r"(?i:(?<!\w)(?:patient(?:'s)?(?:\s+name)?|pt\.?(?:\s+name)?|(?:first|last|full|maiden|given|family)?\s?name|surname|client|provider|attending|resident|physician|surgeon|"
    r"anesthesiologist|consultant|radiologist|pathologist|referr(?:ed|ing)(?:\s+(?:by|physician|provider|doctor))?|pcp|gp|author|(?:dictated|signed|reviewed|seen|"
    r"transcribed|verified|witnessed|prepared|performed|cosigned|ordered|examined|accompanied|brought\s+in|interpreted|completed|entered|written|typed|taken|authored)\s+by|"
    r"cc|next\s+of\s+kin|nok|emergency\s+contact|contact(?:\s+person)?|guardian|nurse|rn|interpreter|caregiver|carer|caller|attn|re|to|from|spoke\s+(?:with|to)|"
    r"care\s+of|c/o|mother|father|wife|husband|spouse|son|daughter|brother|sister|parent|informant|historian|therapist|case\s+manager|social\s+worker|pharmacist))"
    r"[ \t]*[:=#-][ \t]*(?=[^\W\d_])"
)
_SPOKEN = searched(
    r"(?i:(?<!\w)(?:(?:dictated|signed|reviewed|transcribed|verified|witnessed|cosigned|accompanied|referred|escorted)\s+by|spoke\s+(?:with|to)|dear|thank\s+you\s+for\s+seeing|"
    r"thanks\s+for\s+seeing|named|called|known\s+as|goes\s+by|a\.?k\.?a\.?|(?:my|his|her|their|patient'?s)\s+name\s+is|i\s+am|i'm|this\s+is|hi|hello|sincerely|regards|per|pt|patient|"
    r"(?:my|his|her|their|the|patient's)?\s?(?:wife|husband|spouse|partner|son|daughter|brother|sister|mother|father|mom|dad|aunt|uncle|niece|nephew|cousin|"
    r"grandmother|grandfather|grandson|granddaughter|neighbou?r|friend|fianc[eé]e?|girlfriend|boyfriend|caregiver|roommate|colleague)(?:\s+(?:is|named|called))?))"
    r",?[ \t]*\n?[ \t]+(?=[^\W\d_a-z])"
)
_RELATION = searched(
    r"(?:husb|hubby|dtr|dau|GF|BF|NOK|nok|EC|EC =|POA|DPOA|HCP|S/o|D/o|W/o|s/o|d/o|w/o Late|S/o Late|Sig other|sponsor|case worker|CM|SW|PT|OT|RD|SLP|RT|Tech|Scribe|Lab|cosigner)"
    r"[ \t]*[:=]?[ \t]*(?:is|named)?[ \t]+(?=[A-ZÀ-ÖØ-Þ][a-zà-öø-ÿ'’-]+\b)"
)
_SIGNED = searched(
    r"(?m)(?:^[ \t]*|[:/|][ \t]*|\b[Bb][Yy][ ])((?:[A-ZÀ-ÖØ-Þ][\w'’-]*\.?[ ]){1,3}[A-ZÀ-ÖØ-Þ][\w'’-]+),?[ ](?=(?:M\.?D|D\.?O|R\.?N|N\.?P|PA-C|Ph\.?D|LCSW|CRNA|DDS|DMD|DPM|PharmD|FNP|APRN|LPN|CNM|MBBS|FRCP|FRCS|DPT)\b)"
)
"""Capitalized words between the beginning of a line or field and a credential are somebody's name, whatever the dictionary says."""

_ACTS = searched(
    r"(?<![\w'’-])([A-ZÀ-ÖØ-Þ](?:[a-zà-öø-ÿ]+|[A-ZÀ-ÖØ-Þ]{3,})(?:[-'’][A-ZÀ-ÖØ-Þ][a-zà-öø-ÿ]+)?)(?=,?[ ](?:denie[sd]|report(?:s|ed)|state[sd]|says?|said|complain(?:s|ed)|endorse[sd]|live[sd]|called|asks?|asked|agree[sd]|"
    r"refuse[sd]|declined|wants?|wanted|feels?|felt|presented|presents|walked|smokes?|drinks?|has[ ]a[ ]history|(?:was|is|were)[ ](?:seen|admitted|discharged|transferred|brought|accompanied|referred|told|"
    r"advised|counsel+ed|an?[ ]\d{1,3}[- ]?(?:y|month|week|day)[\w-]*)|who[ ](?:is|was|has|had|lives|works)\b|aged[ ]\d)\b)"
)
"""Somebody who does what only people do, whatever else the word names: "Liebowitz denies chest pain"."""

_SAID = re.compile(
    r"(?:(?:[A-Za-z]+ed|[Bb]y|[Pp]er|[Aa]nd|[Aa]ttending|[Rr]esident|[Pp]rovider|[Nn]urse|[Ss]urgeon|[Dd]r\.?|[Pp]rof\.?|[Mm]rs?\.?|[Mm]s\.?)[ ])+"
)
_KIN = searched(
    r"(?<!\w)(?:[Ww]ife|[Hh]usband|[Hh]usb|[Ss]pouse|[Pp]artner|[Ss]on|[Dd]aughter|[Dd]tr|[Dd]au|[Bb]ro(?:ther)?|[Ss]is(?:ter)?|[Mm]other|[Ff]ather|[Mm]om|[Mm]um|[Dd]ad|[Aa]unt|[Uu]ncle|[Nn]iece|"
    r"[Nn]ephew|[Cc]ousin|[Gg]rand(?:mother|father|son|daughter|ma|pa)|[Gg]ran|[Nn]eighbou?r|[Ff]riend|[Ff]ianc[eé]e?|[Gg]irlfriend|[Bb]oyfriend|[Rr]oommate|[Cc]aregiver|[Cc]arer|[Tt]win|[Bb]aby|"
    r"[Cc]oworker|[Cc]oach|[Tt]eacher|[Pp]riest|[Ll]andlord|[Cc]aseworker|[Cc]aller|[Ii]nformant|[Ww]itness|[Ii]nterpreter|[Ss]itter|[Cc]haplain|[Mm]idwife|[Dd]oula|[Pp]hysio|[Ss]tudent|CNS|HCA|CNA|ANP|ACP)[ ]?[ (,\"“]{1,2}(?=([A-Z][a-z]{2,}))"
)
_SIGNATURE = searched(r"(?m)^[ \t]*(?:--+|—|–|/?s/|~)[ \t]*(?=[^\W\d_a-z])")
MIN_LIKELIHOOD = 0.05
"""Of what a list or a heading takes for a name, by the names network. On the notes that rules are tuned on, 3 of 86 below it are somebody."""

SURE_LIKELIHOOD, NO_LIKELIHOOD = 0.5, 0.05
"""Of some word of a found name, and of one at its end that is none of it."""

EPONYM_PROBABILITY = 0.07
"""Of a word that is a surname and an eponym, by the names network: below it, "Goldmann 14" and "Simpson biplane" are nobody."""

_NO_SURNAMES = by_hand("never_surnames")
_SHORTEST_NOUN = 5
_SHAPED = re.compile(r"[A-ZÀ-ÖØ-Þ]")


class Names:
    """Names by context and by list."""

    def find(self, scan: Scan) -> Iterator[Span]:
        return (_trimmed(scan, span) for span in self._all(scan))

    def _all(self, scan: Scan) -> Iterator[Span]:
        text, found = scan.text, scan.words
        if not found:
            return
        for pattern, sure in ((_TITLE, True), (_HEADING, False), (_RELATION, False), (_SPOKEN, False), (_SIGNATURE, False)):
            for match in pattern.finditer(text):
                i = scan.word_at(match.end())
                if i is not None:
                    named = self._from(scan, i, sure=sure, courtesy=sure and _COURTESY.match(match.group()) is not None)
                    yield from named if sure else _possible(scan, named)
        for match in _LETTER.finditer(text):
            yield Span(match.start(1), match.end(1), Kind.NAME)
        for match in _SIGNED.finditer(text):
            if not any(norm(word) in words().acronyms for word in match.group(1).split()[-2:]):
                start = match.start(1)
                if (verb := _SAID.match(text, start)) is not None and verb.end() < match.end(1):
                    start = verb.end()
                yield Span(start, match.end(1), Kind.NAME)
        for match in _ACTS.finditer(text):
            i = scan.word_at(match.start(1))
            if i is not None and self._acts(scan, i):
                yield Span(found[self._extend(scan, i, -1)].start, match.end(1), Kind.NAME)
        for match in _TITLES.finditer(text):
            yield from (
                Span(match.start(1) + name.start(), match.start(1) + name.end(), Kind.NAME)
                for name in re.finditer(r"(?:[A-Z]\.[ ]?)*[A-Z][\w'’-]+", match.group(1))
            )
        for match in BEHIND_NAME.finditer(text):
            i = scan.word_at(match.start() + len(match.group()) - len(match.group().lstrip(", ")))
            if i is not None and i > 0:
                yield from self._back_from(scan, i - 1)
        yield from _possible(scan, self._listed(scan))
        if scan.has_small:
            for match in _KIN.finditer(text):
                i = scan.word_at(match.end())
                if i is not None and self._kin(scan, i, told=match.group()[0].islower()):
                    yield Span(scan.words[i].start, scan.words[self._extend(scan, i, 1)].end, Kind.NAME)

    def _from(self, scan: Scan, i: int, *, sure: bool, courtesy: bool = False) -> Iterator[Span]:
        """The name that begins at word `i`. After a title (`sure`) even an everyday word is a name, and case does not matter: in small
        letters after "mr." and "ms." (`courtesy`) as well, but not after "dr.", which also stands for "the doctor"."""
        found = scan.words
        while found[i].norm in TITLES and i + 1 < len(found) and scan.gap(found[i].end, found[i + 1].start).strip(". ") == "":
            i += 1
        first = found[i]
        if first.raw.islower() and not courtesy and (not sure or (scan.is_word(first.norm) and first.norm not in PARTICLES)):
            return
        if not sure and len(first.norm) > 1 and scan.is_word(first.norm) and not self._followed_by_name(scan, i):
            return
        if sure and (not (_may_be_surname(first) or _ends_clause(scan, first)) or _abbreviation(first)):
            return
        last = self._extend(scan, i, 1, lower=first.raw.islower())
        if sure and last == i and len(first.norm) == 1 and i + 1 < len(found):
            after = found[i + 1]  # "Officer D. Yellowtail": after title and initial any capitalized word is a surname
            if after.raw.istitle() and _INSIDE.fullmatch(scan.gap(first.end, after.start)) and _may_be_surname(after):
                last = i + 1
        if first.norm in PARTICLES and last == i and not sure:
            return
        if len(first.norm) == 1 and last == i:
            return
        yield Span(first.start, found[last].end, Kind.NAME)

    @staticmethod
    def _acts(scan: Scan, i: int) -> bool:
        """Whether word `i`, which does what people do, can be somebody's name: one of the lists, an eponym, or no word at all."""
        lists, word = words(), scan.words[i].norm
        if len(word) < 3 or word in NOBODY or lists.is_drug(word):
            return False
        if scan.words[i].raw.isupper():
            return lists.is_name(word) and not scan.is_word(word)
        named = word in lists.eponyms or lists.is_name(word) or (word in lists.word_surnames and not lists.is_common(word))
        return named or not (scan.is_word(word) or word in lists.acronyms)

    @staticmethod
    def _kin(scan: Scan, i: int, *, told: bool) -> bool:
        """Whether word `i` names the relative in front of it: in the middle of a sentence (`told`) a capital says so."""
        lists, word = words(), scan.words[i]
        if guarded(scan, i) or lists.is_drug(word.norm) or word.norm in TITLES:
            return False
        if word.norm in _NO_SURNAMES:
            return re.match(r"\s*[.,;)]", scan.text[word.end : word.end + 3]) is not None
        if word.norm in lists.acronyms:
            return False
        return lists.is_name(word.norm) or (told and not lists.is_common(word.norm))

    def _back_from(self, scan: Scan, i: int) -> Iterator[Span]:
        """The name that ends at word `i`, in front of a credential."""
        found = scan.words
        first = self._extend(scan, i, -1)
        everyday = scan.is_word(found[i].norm) and not words().is_name(found[i].norm)
        if not _SHAPED.match(found[i].raw) or (everyday and len(found[first].norm) > 1):
            return
        if first < i or not scan.is_word(found[i].norm):
            yield Span(found[first].start, found[i].end, Kind.NAME)

    def _followed_by_name(self, scan: Scan, i: int) -> bool:
        return self._extend(scan, i, 1) > i

    def _extend(self, scan: Scan, i: int, step: int, *, lower: bool = False) -> int:
        """The last word of the name that reaches from word `i` in direction `step`: at most five words, one comma."""
        found, comma, end = scan.words, False, i
        for _ in range(4):
            j = end + step
            if not 0 <= j < len(found):
                break
            left, right = (found[end], found[j]) if step > 0 else (found[j], found[end])
            gap = scan.gap(left.end, right.start)
            if step > 0 and (LETTERED.match(scan.text, right.start) or BEHIND_NAME.match(scan.text, left.end)):
                break
            if not _INSIDE.fullmatch(gap):
                # "Gaylord, Gwen": one comma, and only between two words that can be names
                if comma or step < 0 or not _COMMA.fullmatch(gap) or not _given_name(scan, right):
                    break
                comma = True
            if not self._part(scan, found[j], lower) or (
                gap.startswith(".") and len(left.norm) > 1 and left.norm not in TITLES and left.norm != "st"
            ):
                break
            end = j
        while end != i and found[end].raw.islower() and not lower and not self._closes(scan, found[end]):
            end -= step
        return end

    @staticmethod
    def _closes(scan: Scan, word: Word) -> bool:
        """Whether nothing follows on the line: "Julia de" at its end is a cut surname."""
        return word.norm in PARTICLES and re.match(r"[ \t]*(?:[\n,.;|)]|$)", scan.text[word.end : word.end + 8]) is not None

    def _part(self, scan: Scan, word: Word, lower: bool) -> bool:
        """Whether a word can go on a name that has begun."""
        if word.norm in PARTICLES:
            return True
        if word.raw.islower():
            return lower and not scan.is_word(word.norm)
        if len(word.norm) == 1:
            return True
        if word.norm in TITLES and len(word.norm) < 4:
            return word.norm in ("jr", "sr", "ii", "iii", "iv")
        if len(word.norm) == 2:
            return word.raw.istitle() and word.norm not in _NO_SURNAMES  # Le, Li, Wu: too short for the lists
        lists = words()
        named = lists.is_name(word.norm) or (word.norm in lists.word_surnames and word.raw.istitle() and scan.has_small)
        return named or not (scan.is_word(word.norm) or _abbreviation(word))

    def _listed(self, scan: Scan) -> Iterator[Span]:
        """Capitalized words of the name lists that are no everyday word, no eponym in its place, no drug, no place of a facility."""
        lists, found = words(), scan.words
        for i, word in enumerate(found):
            if not _SHAPED.match(word.raw) or len(word.norm) < 3 or not lists.is_name(word.norm):
                continue
            if scan.is_word(word.norm) or (word.raw.isupper() and (word.norm in lists.acronyms or len(word.norm) < 4)):
                if not (word.norm in lists.first and not word.raw.isupper() and self._surname_after(scan, i)):
                    continue
            elif guarded(scan, i) or (word.norm in lists.eponyms and scan.likelihood(word.start, word.end) < EPONYM_PROBABILITY):
                continue
            first = i - 1 if i and self._family_before(scan, i) else i
            yield Span(found[first].start, found[self._extend(scan, i, 1)].end, Kind.NAME)

    def _family_before(self, scan: Scan, i: int) -> bool:
        """Whether the word before is the "Wood" of "Wood, Justin" at the beginning of a line or field."""
        before = scan.words[i - 1]
        opens = re.search(r"(?:^|[\n:|(])[ \t]*$", scan.text[max(0, before.start - 4) : before.start]) is not None
        return opens and _SHAPED.match(before.raw) is not None and _COMMA.fullmatch(scan.gap(before.end, scan.words[i].start)) is not None

    def _surname_after(self, scan: Scan, i: int) -> bool:
        """Whether an everyday word that is also a given name ("Grace", "Mark") stands before a surname."""
        found = scan.words
        j = i + 1
        if j < len(found) and len(found[j].norm) == 1 and _INSIDE.fullmatch(scan.gap(found[i].end, found[j].start)):
            j += 1
        if j >= len(found) or not _INSIDE.fullmatch(scan.gap(found[j - 1].end, found[j].start)):
            return False
        word = found[j]
        modal = scan.is_word(word.norm) and found[i].norm in _NO_SURNAMES  # "Will Brown" may be a question, "Brian Brown" is not
        return word.raw.istitle() and word.norm in words().last and not modal and not guarded(scan, j)


def _possible(scan: Scan, named: Iterator[Span]) -> Iterator[Span]:
    """The names that the network does not rule out: what a list or a heading takes for one and a sentence does not, "Berg 46/56", "CC: RLQ pain"."""
    return (span for span in named if scan.likelihood(span.start, span.end) >= MIN_LIKELIHOOD)


def _given_name(scan: Scan, word: Word) -> bool:
    """Whether a word can follow the comma of "Last, First"."""
    lists = words()
    if word.raw.islower() or lists.is_drug(word.norm) or word.norm in lists.acronyms:
        return False
    return len(word.norm) == 1 or lists.is_name(word.norm) or not scan.is_word(word.norm)


def _abbreviation(word: Word) -> bool:
    """Whether a word in capitals is one of the lists' abbreviations and nobody's name."""
    return word.raw.isupper() and len(word.norm) > 1 and word.norm in words().acronyms and not words().is_name(word.norm)


def _trimmed(scan: Scan, span: Span) -> Span:
    """Without words at either end that the network rules out beside others it calls a name: "Son" of "Son Vernon", "SUBMITTED BY" of a name behind it."""
    return span if scan.likelihood(span.start, span.end) < SURE_LIKELIHOOD else trimmed(scan, span, NO_LIKELIHOOD)


def _ends_clause(scan: Scan, word: Word) -> bool:
    """Whether a short capitalized word behind a title is all of a clause, and so a surname though it is a word: "d/w Dr. Oh, who"."""
    return (
        word.raw.istitle()
        and 1 < len(word.raw) < _SHORTEST_NOUN
        and scan.text[word.end : word.end + 1] in ("", ",", ".", ";", ")", "/", "\n")
    )


def _may_be_surname(word: Word) -> bool:
    return word.norm not in _NO_SURNAMES or (word.norm in ("will", "may") and word.raw.istitle())
