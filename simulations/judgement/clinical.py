"""A small public table of common conditions, their usual first step, and who must not take it.

Teaching material for a simulation, written from ordinary medical knowledge; it is not advice, doses are left out on purpose,
and nobody should be treated by it. Every text is public: the coordinator may read all of it.

A complaint is phrased so that it fits any speaker ("I have …", "my child has …"); `purpose` follows the name of the drug;
`name` is what a leaflet would call the condition.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from common.errors import ConfigError

Split = Literal["train", "ppo", "test"]


class Circumstance(StrEnum):
    """Something about a patient that can rule a drug out."""

    NONE = "none"
    PREGNANT = "pregnant"
    PENICILLIN_ALLERGY = "penicillin allergy"
    KIDNEY_DISEASE = "kidney disease"
    WARFARIN = "warfarin"
    CHILD = "child under 12"
    ASTHMA = "asthma"
    PEPTIC_ULCER = "peptic ulcer"
    HEART_DISEASE = "heart disease"


_C = Circumstance
_NSAID = frozenset({_C.PREGNANT, _C.KIDNEY_DISEASE, _C.WARFARIN, _C.ASTHMA, _C.PEPTIC_ULCER, _C.HEART_DISEASE})
_PENICILLIN = frozenset({_C.PENICILLIN_ALLERGY})

RULED_OUT: Mapping[str, frozenset[Circumstance]] = {
    "ibuprofen": _NSAID,
    "naproxen": _NSAID | {_C.CHILD},
    "mefenamic acid": _NSAID | {_C.CHILD},
    "aspirin": _NSAID | {_C.CHILD},
    "penicillin": _PENICILLIN,
    "amoxicillin": _PENICILLIN,
    "flucloxacillin": _PENICILLIN,
    "nitrofurantoin": frozenset({_C.KIDNEY_DISEASE}),
    "fluconazole": frozenset({_C.PREGNANT, _C.WARFARIN}),
    "miconazole gel": frozenset({_C.WARFARIN}),
    "doxycycline": frozenset({_C.PREGNANT, _C.CHILD, _C.WARFARIN}),
    "loperamide": frozenset({_C.CHILD, _C.PREGNANT}),
    "pseudoephedrine": frozenset({_C.PREGNANT, _C.CHILD, _C.HEART_DISEASE, _C.KIDNEY_DISEASE}),
    "ramipril": frozenset({_C.PREGNANT, _C.CHILD}),
    "propranolol": frozenset({_C.ASTHMA, _C.CHILD, _C.PREGNANT}),
    "metformin": frozenset({_C.KIDNEY_DISEASE, _C.CHILD}),
    "chloramphenicol drops": frozenset({_C.PREGNANT}),
    "bisacodyl": frozenset({_C.PREGNANT, _C.CHILD}),
    "mebendazole": frozenset({_C.PREGNANT}),
    "atorvastatin": frozenset({_C.PREGNANT, _C.CHILD}),
    "sertraline": frozenset({_C.WARFARIN, _C.CHILD}),
    "sumatriptan": frozenset({_C.HEART_DISEASE, _C.CHILD, _C.PREGNANT}),
    "cetirizine": frozenset({_C.KIDNEY_DISEASE}),
}
"""Who must not take a drug, or only under a specialist's eye. A drug that is not listed suits every circumstance above."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One topic of the table.

    complaints    lay phrases, for "I have …"
    drug          the usual first step, a drug or a measure of self-care
    purpose       infinitive that follows the drug
    alternatives  what to use where `drug` is ruled out; its keys are the circumstances that a question may mention as relevant
    red_flags     lay phrases, for "and also …": a doctor must look the same day
    helps         other words that count as fitting advice when a free text is judged
    words         words that show a free text to be on the topic
    odd_with      circumstances that no sensible question about this topic mentions
    follow_up_days  when to come back if it does not improve
    women_only    a complaint that only women have
    """

    key: str
    split: Split
    name: str
    complaints: tuple[str, ...]
    drug: str
    purpose: str
    red_flags: tuple[str, ...]
    words: tuple[str, ...]
    helps: tuple[str, ...] = ()
    alternatives: Mapping[Circumstance, str] = field(default_factory=dict)
    odd_with: frozenset[Circumstance] = frozenset()
    follow_up_days: int = 7
    women_only: bool = False

    def __post_init__(self) -> None:
        for circumstance, drug in self.alternatives.items():
            if circumstance not in RULED_OUT.get(self.drug, frozenset()):
                raise ConfigError(
                    f"condition `{self.key}`: `{self.drug}` is not ruled out by {circumstance.value}, so it needs no alternative"
                )
            if circumstance in RULED_OUT.get(drug, frozenset()):
                raise ConfigError(f"condition `{self.key}`: the alternative `{drug}` is itself ruled out by {circumstance.value}")

    def suits(self, circumstance: Circumstance) -> bool:
        """Whether the usual first step is right for this patient."""
        return circumstance not in RULED_OUT.get(self.drug, frozenset())

    def advice(self, circumstance: Circumstance) -> str:
        """The drug or measure that is right for this patient."""
        return self.drug if self.suits(circumstance) else self.alternatives[circumstance]

    def circumstances(self) -> tuple[Circumstance, ...]:
        """Those a question about this topic may mention: each has a right answer in the table."""
        return tuple(c for c in Circumstance if c not in self.odd_with and (self.suits(c) or c in self.alternatives))


def _for(drug: str, *circumstances: Circumstance) -> dict[Circumstance, str]:
    return dict.fromkeys(circumstances, drug)


_ADULT = frozenset({_C.CHILD})
_NSAID_ALTERNATIVES = _for("paracetamol", _C.PREGNANT, _C.KIDNEY_DISEASE, _C.WARFARIN, _C.ASTHMA, _C.PEPTIC_ULCER, _C.HEART_DISEASE)
_NOT_PREGNANT: dict[Circumstance, str] = {c: d for c, d in _NSAID_ALTERNATIVES.items() if c is not _C.PREGNANT}

CONDITIONS: tuple[Condition, ...] = (
    # -- train -----------------------------------------------------------------------------------------------------------
    Condition("headache", "train", "tension headache",
        ("a dull headache like a tight band", "a headache on both sides", "a pressing headache each evening"),
        "ibuprofen", "to ease the headache", ("a stiff neck and confusion", "weakness in one arm"),
        ("head", "headache"), ("rest", "paracetamol"), _NSAID_ALTERNATIVES, follow_up_days=7),
    Condition("back-strain", "train", "strained back muscles",
        ("an aching lower back after lifting boxes", "a sore back that hurts on bending", "low back ache after digging"),
        "naproxen", "to relax the sore back muscles", ("numbness between the legs", "no control over the bladder"),
        ("back", "spine", "muscle"), ("gentle movement", "keep moving", "heat", "ibuprofen", "paracetamol"),
        _NSAID_ALTERNATIVES, _ADULT, 14),
    Condition("strep-throat", "train", "bacterial tonsillitis",
        ("a very sore throat with white spots", "a swollen throat and pain on swallowing", "a raw throat and fever"),
        "penicillin", "to clear the throat infection", ("drooling and being unable to swallow", "trouble opening the mouth"),
        ("throat", "tonsil", "swallow"), ("paracetamol", "warm drinks", "gargle"), _for("clarithromycin", _C.PENICILLIN_ALLERGY)),
    Condition("bladder-infection", "train", "bladder infection",
        ("burning urine", "stinging urine and needing to go all the time", "cloudy urine that stings"),
        "nitrofurantoin", "to clear the germs from the urine", ("shaking chills and pain in the side", "blood in the urine and high fever"),
        ("bladder", "urine", "urinary"), ("fluids", "drink plenty", "cefalexin"), _for("cefalexin", _C.KIDNEY_DISEASE), follow_up_days=3),
    Condition("vaginal-thrush", "train", "vaginal yeast infection",
        ("vaginal itch with white discharge", "vaginal itch and thick curdy discharge", "vaginal soreness and itch"),
        "fluconazole", "to treat the vaginal itch", ("fever and severe belly pain", "bleeding with strong pelvic pain"),
        ("vagina", "vaginal", "yeast", "thrush"), ("clotrimazole",), _for("clotrimazole cream", _C.PREGNANT, _C.WARFARIN), _ADULT, women_only=True),
    Condition("acne", "train", "acne",
        ("pimples all over the cheeks and chin", "blackheads and pimples on the face", "inflamed pimples on face and shoulders"),
        "doxycycline", "to clear the face of pimples", ("fever with swollen joints", "a hot swollen face with fever"),
        ("acne", "pimple", "pores", "skin"), ("benzoyl peroxide", "wash gently"),
        _for("benzoyl peroxide gel", _C.PREGNANT, _C.CHILD, _C.WARFARIN), follow_up_days=42),
    Condition("reflux", "train", "acid reflux",
        ("heartburn after every meal", "heartburn at night", "heartburn and sour fluid after dinner"),
        "omeprazole", "to lower the acid behind the heartburn", ("black tarry stools", "food getting stuck and weight loss"),
        ("stomach", "acid", "heartburn", "reflux"), ("antacid", "smaller meals"), odd_with=_ADULT, follow_up_days=14),
    Condition("diarrhoea", "train", "gastroenteritis",
        ("watery diarrhoea and tummy cramps", "diarrhoea many times a day", "diarrhoea after a bad meal"),
        "loperamide", "to slow the diarrhoea", ("blood in the stools and fever", "no urine for twelve hours"),
        ("diarrhoea", "diarrhea", "gut", "stool"), ("rehydration", "fluids", "drink plenty"),
        _for("rehydration salts", _C.CHILD, _C.PREGNANT), follow_up_days=3),
    Condition("hives", "train", "hives",
        ("itchy raised welts on the arms", "itchy welts that come and go", "red welts on the tummy that itch"),
        "cetirizine", "to calm the itchy welts", ("swelling of the lips and tongue", "wheezing and feeling faint"),
        ("allerg", "rash", "welts", "hives", "itch"), ("antihistamine", "loratadine", "cool compress"), _for("loratadine", _C.KIDNEY_DISEASE)),
    Condition("eczema", "train", "eczema",
        ("dry cracked skin in the elbow creases", "flaky dry skin behind the knees", "rough dry skin on the hands"),
        "hydrocortisone cream", "to soothe the dry patchy skin", ("weeping sores and fever", "painful blisters spreading fast"),
        ("skin", "eczema", "dry"), ("moisturiser", "moisturizer", "emollient"), follow_up_days=14),
    Condition("blocked-nose", "train", "nasal congestion",
        ("a blocked stuffy nose", "a nose so full that breathing through it is hard", "a stuffed nose and pressure in the face"),
        "pseudoephedrine", "to open the blocked nose", ("swelling around one eye", "double vision and severe face pain"),
        ("nose", "nasal", "sinus"), ("saline", "steam"),
        _for("saline nasal spray", _C.PREGNANT, _C.CHILD, _C.HEART_DISEASE, _C.KIDNEY_DISEASE)),
    Condition("blood-pressure", "train", "high blood pressure",
        ("high readings on the home blood pressure cuff", "blood pressure numbers above 150", "high blood pressure at each check"),
        "ramipril", "to bring the blood pressure down", ("crushing chest pain", "sudden trouble speaking"),
        ("pressure", "circulation", "heart"), ("less salt", "exercise", "amlodipine"),
        _for("labetalol", _C.PREGNANT), _ADULT, 14),
    Condition("anxiety", "train", "anxiety with palpitations",
        ("a racing heart whenever worry sets in", "worry and a pounding heart before meetings", "sudden waves of worry and trembling"),
        "propranolol", "to steady the worry and the racing heart", ("fainting and chest pain", "thoughts of self-harm"),
        ("anxi", "nerves", "worry", "panic", "stress"), ("breathing exercises", "talking therapy", "relax"),
        _for("breathing exercises", _C.ASTHMA, _C.PREGNANT), _ADULT | {_C.HEART_DISEASE}, 14),
    Condition("diabetes", "train", "type 2 diabetes",
        ("constant thirst and high sugar readings", "sugar readings over 200 and tiredness", "sugar in the urine and great thirst"),
        "metformin", "to bring the sugar level down", ("vomiting and deep fast breathing", "drowsiness and confusion"),
        ("sugar", "glucose", "diabet"), ("diet", "exercise"), _for("linagliptin", _C.KIDNEY_DISEASE), _ADULT | {_C.PREGNANT}, 28),
    Condition("conjunctivitis", "train", "conjunctivitis",
        ("a sticky pink eye", "an eye crusted shut each morning", "a gritty red eye with discharge"),
        "chloramphenicol drops", "to clear the eye infection", ("severe eye pain and blurred vision", "an eye that cannot bear light"),
        ("eye", "eyelid", "conjunctiv"), ("warm water", "cotton", "lubricating"), _for("fusidic acid drops", _C.PREGNANT), follow_up_days=3),
    Condition("oral-thrush", "train", "oral yeast infection",
        ("white patches on the tongue", "a furry white tongue and sore gums", "creamy spots on the tongue and cheeks"),
        "miconazole gel", "to clear the yeast from the tongue", ("being unable to drink at all", "fever and pain when swallowing"),
        ("mouth", "tongue", "fung", "thrush"), ("nystatin", "rinse"), _for("nystatin drops", _C.WARFARIN)),
    # -- ppo -------------------------------------------------------------------------------------------------------------
    Condition("ear-infection", "ppo", "middle ear infection",
        ("a throbbing ear", "ear pain and muffled hearing", "pain deep inside one ear"),
        "amoxicillin", "to fight the ear infection", ("swelling behind the ear", "a drooping face on one side"),
        ("ear", "eardrum", "hearing"), ("paracetamol", "ibuprofen"), _for("clarithromycin", _C.PENICILLIN_ALLERGY), follow_up_days=3),
    Condition("sprain", "ppo", "sprained ankle",
        ("a twisted swollen ankle", "an ankle that puffed up after a fall", "pain around the ankle after football"),
        "ibuprofen", "to bring down the ankle swelling", ("a cold numb foot", "a bone that looks out of place"),
        ("ankle", "joint", "sprain", "foot"), ("ice", "rest", "raise", "bandage", "paracetamol"), _NSAID_ALTERNATIVES),
    Condition("constipation", "ppo", "constipation",
        ("hard stools and straining", "stools only every fifth day", "lumpy stools and a full belly"),
        "bisacodyl", "to soften the stools", ("vomiting and a swollen belly", "severe belly cramps and no wind"),
        ("bowel", "stool", "constipat"), ("fibre", "fiber", "fluids", "water", "lactulose"),
        _for("lactulose", _C.PREGNANT, _C.CHILD)),
    Condition("hay-fever", "ppo", "hay fever",
        ("pollen sneezing every spring", "watery eyes from pollen", "a streaming nose when pollen is about"),
        "loratadine", "to damp the pollen allergy", ("wheezing and a tight chest", "swelling of the throat"),
        ("allerg", "pollen", "hay"), ("antihistamine", "nasal spray", "cetirizine"), follow_up_days=14),
    Condition("shingles", "ppo", "shingles",
        ("painful blisters in a band on one side", "a burning strip of blisters around the chest", "stinging blisters on one flank"),
        "aciclovir tablets", "to heal the painful blisters", ("blisters near the eye", "confusion and severe headache"),
        ("virus", "shingles", "nerve", "blister"), ("paracetamol", "antiviral"), odd_with=_ADULT | {_C.KIDNEY_DISEASE}, follow_up_days=5),
    Condition("low-mood", "ppo", "depression",
        ("a low joyless mood", "low mood and crying", "a heavy low mood each morning"),
        "sertraline", "to lift the low mood", ("thoughts of ending it all", "hearing voices"),
        ("mood", "depress", "sad"), ("talking therapy", "counselling", "exercise"), _for("mirtazapine", _C.WARFARIN), _ADULT | {_C.PREGNANT}, 14),
    Condition("threadworms", "ppo", "threadworms",
        ("a bottom itch at night", "white thread worms in the stool", "itch around the back passage"),
        "mebendazole", "to clear the worms behind the itch", ("severe belly pain and vomiting", "weight loss and bleeding"),
        ("worm", "itch", "bottom"), ("wash hands", "hand washing", "hygiene"), _for("strict hand washing", _C.PREGNANT), follow_up_days=14),
    Condition("cold", "ppo", "common cold",
        ("a cold with a runny nose", "a cold with sneezing", "a head cold with mild aches"),
        "paracetamol", "to ease the cold", ("shortness of breath", "a rash that does not fade"),
        ("cold", "virus", "nose"), ("rest", "fluids", "honey"), follow_up_days=7),
    Condition("cholesterol", "ppo", "high cholesterol",
        ("high cholesterol on the blood test", "a lab letter about raised cholesterol", "cholesterol above target"),
        "atorvastatin", "to cut the cholesterol", ("chest pain on the stairs", "dark urine and strong muscle pain"),
        ("cholesterol", "fats", "lipid"), ("diet", "exercise"), _for("a low-fat diet", _C.PREGNANT), _ADULT, 42),
    # -- test ------------------------------------------------------------------------------------------------------------
    Condition("gout", "test", "gout",
        ("a hot purple toe", "a toe joint so tender that sheets hurt", "sudden swelling of the big toe"),
        "naproxen", "to settle the swollen toe joint", ("fever and shivering", "swelling that climbs up the leg"),
        ("gout", "joint", "toe"), ("ice", "rest", "colchicine", "ibuprofen"),
        _for("prednisolone", _C.KIDNEY_DISEASE, _C.HEART_DISEASE, _C.ASTHMA) | _for("colchicine", _C.WARFARIN, _C.PEPTIC_ULCER),
        _ADULT | {_C.PREGNANT}, 7),
    Condition("cellulitis", "test", "cellulitis",
        ("warm red skin on the shin", "red tender skin around a scratch", "red hot skin below the knee"),
        "flucloxacillin", "to beat the infection of the red skin", ("high fever and a racing pulse", "skin turning black"),
        ("skin", "bacteria", "cellulitis", "leg"), ("antibiotic", "raise"), _for("clarithromycin", _C.PENICILLIN_ALLERGY), follow_up_days=2),
    Condition("tick-bite", "test", "Lyme disease",
        ("a growing ring-shaped mark after a tick bite", "a bull's-eye mark where a tick sat", "a round red mark from a tick"),
        "doxycycline", "to beat the infection from the tick", ("a face that droops on one side", "a slow heartbeat with blackouts"),
        ("tick", "lyme", "bacteria"), ("antibiotic",), _for("amoxicillin", _C.PREGNANT, _C.CHILD),
        frozenset({_C.WARFARIN}), 14),
    Condition("knee-arthritis", "test", "osteoarthritis of the knee",
        ("a stiff grinding knee", "knees that creak and ache on stairs", "a knee that stiffens after sitting"),
        "ibuprofen", "to keep the knee comfortable", ("a knee that locked and cannot bend", "fever with a very swollen knee"),
        ("knee", "cartilage", "joint", "arthritis"), ("exercise", "gentle", "paracetamol"), _NSAID_ALTERNATIVES, _ADULT | {_C.PREGNANT}, 28),
    Condition("wheeze", "test", "mild asthma",
        ("a wheezing chest on cold mornings", "a whistling chest after running", "coughing and a tight chest at night"),
        "a salbutamol inhaler", "to open up the tight chest", ("lips turning blue", "being too breathless to talk"),
        ("airway", "lung", "asthma", "breath", "inhaler"), ("inhaler",), odd_with=frozenset({_C.ASTHMA})),
    Condition("migraine", "test", "migraine",
        ("a throbbing one-sided headache with nausea", "zigzag lights and then a headache", "a sick headache that needs a dark room"),
        "sumatriptan", "to cut the migraine headache short", ("the worst head pain ever, like a thunderclap", "speech that became slurred"),
        ("migraine", "head", "headache"), ("dark room", "rest", "ibuprofen", "paracetamol"), _for("paracetamol", _C.HEART_DISEASE, _C.PREGNANT, _C.CHILD)),
    Condition("vertigo", "test", "positional vertigo",
        ("a spinning room on turning over in bed", "dizzy spells on looking up", "dizzy whirling when lying down"),
        "the Epley manoeuvre", "to stop the dizzy spinning", ("double vision and a numb face", "sudden deafness in one ear"),
        ("balance", "vertigo", "dizz"), ("move slowly", "rest"), odd_with=_ADULT),
    Condition("scabies", "test", "scabies",
        ("a fierce itch between the fingers", "an itch with burrow lines on the wrists", "a whole-body itch, worse in a warm bed"),
        "permethrin cream", "to kill the itch mites", ("fever and oozing crusts", "a spreading hot swelling"),
        ("mite", "skin", "scabies", "itch"), ("wash bedding", "hot wash"), follow_up_days=28),
    Condition("chesty-cough", "test", "acute bronchitis",
        ("a chesty cough with phlegm", "a cough with yellow phlegm", "a rattling cough after a chill"),
        "honey in warm water", "to loosen the cough", ("coughing up blood", "sharp pain with each breath"),
        ("cough", "chest", "mucus", "phlegm"), ("honey", "fluids", "rest", "steam", "warm drinks")),
    Condition("thyroid", "test", "underactive thyroid",
        ("tiredness and always feeling cold", "tiredness, dry hair and feeling chilly", "tiredness and a puffy face"),
        "levothyroxine", "to lift the tiredness from a slow thyroid", ("extreme drowsiness and a low body temperature", "chest pain and collapse"),
        ("thyroid", "hormone"), ("blood test",), odd_with=_ADULT, follow_up_days=42),
    Condition("period-pain", "test", "period pain",
        ("cramps with each period", "painful periods that stop all work", "period cramps every month"),
        "mefenamic acid", "to relax the period cramps", ("fainting and very heavy bleeding", "pain with a positive pregnancy test"),
        ("period", "womb", "cramp"), ("heat", "hot water bottle", "ibuprofen", "paracetamol"), _NOT_PREGNANT, _ADULT | {_C.PREGNANT}, women_only=True),
)  # fmt: skip

BY_KEY: Mapping[str, Condition] = {c.key: c for c in CONDITIONS}

DRUGS: frozenset[str] = frozenset(RULED_OUT) | {c.drug for c in CONDITIONS} | {d for c in CONDITIONS for d in c.alternatives.values()}
"""Everything the table ever advises, for telling fitting advice from another condition's."""


def conditions(split: Split) -> tuple[Condition, ...]:
    """The topics of one split; no topic belongs to two."""
    return tuple(c for c in CONDITIONS if c.split == split)
