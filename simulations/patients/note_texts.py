"""The sentences of synthetic notes. Fields in braces are filled, and marked where they identify somebody, by `simulations/patients/notes.py`."""

from collections.abc import Mapping

from simulations.judgement.clinical import Circumstance
from simulations.judgement.questions import Severity

_C = Circumstance

KINDS: tuple[str, ...] = ("admission", "progress", "discharge", "referral", "phone call")

HEADERS: tuple[str, ...] = (
    "{hospital}\nPatient: {name}   MRN: {mrn}   DOB: {dob}\nDate: {day}   Clinician: {clinician}",
    "{hospital}, {day}\nRe: {name}, born {dob}, record no. {mrn}",
    "{name} / {mrn} / {dob}\n{hospital} / seen {day} by {clinician}",
)

SECTIONS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "admission": {
        "reason": ("Admitted on {day} with {complaint} for {duration}.", "{complaint} for {duration}, admitted {day}."),
        "history": (
            "{title} {last} is a {age}-year-old {person} from {city}. {circumstance} Lives with {his} {relation} {relative} at {street}, {city} {zip}.",
            "{age}-year-old {person}, known to us since {before}. {circumstance} Next of kin is the {relation}, {relative}, phone {phone}.",
        ),
        "exam": ("Blood pressure {pressure}, pulse {pulse}, temperature {temperature}. No sign of {flag}.",),
        "assessment": ("Most likely {condition}.", "Findings fit {condition}; {avoided}."),
        "plan": ("Start {drug} {purpose}. Watch for {flag}. Review by {clinician} on {next}.",),
    },
    "progress": {
        "reason": ("Review of {complaint}, seen in room {room} on {day}.", "Follow-up of {complaint}."),
        "history": (
            "{first} slept well and feels a little better than on {before}. {circumstance} {He} asked for {his} {relation} {relative} to be told.",
            "{title} {last} still reports {complaint}. {circumstance} The {relation} ({relative}, {phone}) visited on {before}.",
        ),
        "exam": ("Blood pressure {pressure}, pulse {pulse}, temperature {temperature}. Patient comfortable, no sign of {flag}.",),
        "assessment": ("{condition}, improving.", "{condition}, no change since {before}; {avoided}."),
        "plan": ("Continue {drug} {purpose}. If {flag}, call {clinician}. Next review {next}.",),
    },
    "discharge": {
        "reason": ("Stay for {complaint}, discharged on {day}.", "{complaint}; goes home on {day} to {street}, {city} {zip}."),
        "history": (
            "{full}, {age}, came in on {before} with {complaint}. {circumstance} No complications during the stay.",
            "{title} {last}, {age}-year-old {person}, recovered without problems since {before}. {circumstance}",
        ),
        "exam": ("On discharge blood pressure {pressure}, pulse {pulse}, temperature {temperature}. Walks without help.",),
        "assessment": ("{condition}; {avoided}.", "{condition}, settled."),
        "plan": ("{drug} {purpose} at home. Return at once with {flag}. Follow-up on {next} with {clinician}. Letter sent to {email}.",),
    },
    "referral": {
        "reason": ("Dear {colleague}, thank you for seeing {full} about {complaint}.", "Referral to {colleague} for {complaint}."),
        "history": (
            "{He} is {age} and first came on {before} with {complaint} for {duration}. {circumstance} Address: {street}, {city} {zip}.",
            "{title} {last}, {age}, has had {complaint} for {duration}. {circumstance} Best reached at {phone} or {email}.",
        ),
        "exam": ("Blood pressure {pressure}, pulse {pulse}, temperature {temperature}. No sign of {flag} so far.",),
        "assessment": ("I think of {condition}; {avoided}.", "Working diagnosis is {condition}."),
        "plan": ("{He} takes {drug} {purpose}. An appointment before {next} would help. With kind thanks, {clinician}.",),
    },
    "phone call": {
        "reason": ("Call from {relative} ({relation}) at {phone} about {complaint}.", "{full} rang from {phone} about {complaint}."),
        "history": (
            "{first}, {age}, last seen on {before}, has had {complaint} for {duration}. {circumstance} Calling from {street}, {city} {zip}.",
            "The caller says that {title} {last} has {complaint} since {before}. {circumstance} Answers may go to {email}.",
        ),
        "exam": ("Not examined. Speaks in full sentences, denies {flag}.",),
        "assessment": ("By phone this sounds like {condition}; {avoided}.", "Probably {condition}."),
        "plan": ("Advised {drug} {purpose}. Told to come in with {flag}. Call back on {next}, {clinician}.",),
    },
}  # fmt: skip

CIRCUMSTANCES: Mapping[Circumstance, tuple[str, ...]] = {
    _C.NONE: ("No other illness known.", "Otherwise well."),
    _C.PREGNANT: ("Currently pregnant.", "Second trimester of pregnancy."),
    _C.PENICILLIN_ALLERGY: ("Allergy to penicillin on file.", "Had a rash from penicillin."),
    _C.KIDNEY_DISEASE: ("Known kidney disease.", "Chronic kidney disease, stage 4."),
    _C.WARFARIN: ("Takes warfarin.", "On warfarin for an old clot."),
    _C.CHILD: ("Vaccinations complete.", "Growing well."),
    _C.ASTHMA: ("History of asthma.", "Asthma since youth."),
    _C.PEPTIC_ULCER: ("Peptic ulcer two years ago.", "History of a bleeding peptic ulcer."),
    _C.HEART_DISEASE: ("Coronary heart disease with a stent.", "History of heart attack."),
}

DETAILS: tuple[str, ...] = (
    "Chest clear on both sides, heart sounds normal.", "Abdomen soft, no tenderness.", "Skin warm and dry, mucous membranes moist.",
    "Alert and oriented, no focal weakness.", "Blood count and kidney values taken.", "Eats and drinks without trouble.",
    "Weight stable over the last months.", "Does not smoke, drinks a glass of wine on weekends.", "Current medications were checked with the patient.",
    "Murphy's sign negative, no Babinski sign.", "Mild leg swelling in the evening, gone by morning.", "Sleep is fair, mood is even.",
    "The plan was explained and understood.", "Physiotherapy was offered.", "No fever in the last 24 hours.", "Pain is rated 3 out of 10.",
)  # fmt: skip

RARE: Mapping[str, str] = {
    "FAX": "Results by fax to {FAX}.",
    "SSN": "SSN {SSN} on the consent form.",
    "HEALTH_PLAN": "Insurance member ID {HEALTH_PLAN}.",
    "ACCOUNT": "Billing account no. {ACCOUNT}.",
    "LICENSE": "Driver's license {LICENSE} shown at the desk.",
    "VEHICLE": "Parked car, plate {VEHICLE}.",
    "DEVICE": "Implant serial no. {DEVICE}.",
    "URL": "Messages through {URL}.",
    "IP": "Portal login from {IP}.",
    "BIOMETRIC": "Fingerprint template {BIOMETRIC} enrolled.",
    "PHOTO": "Face photo stored as {PHOTO}.",
    "OTHER": "Study subject code {OTHER}.",
}

OPENINGS: tuple[str, ...] = (
    "This is {full}.", "I was seen on {day}.", "{full} here, record {mrn}.", "Dr. {clinician_last} saw me.", "I was on your ward.", "I am back home now.",
)  # fmt: skip

RETURNING: Mapping[Severity, tuple[str, ...]] = {
    Severity.MILD: ("You looked at {complaint}.", "I came in with {complaint}."),
    Severity.LASTING: ("After all this time I still have {complaint}.", "I cannot get rid of {complaint}."),
    Severity.RED_FLAG: ("I had {complaint}, and now {flag}.", "Besides {complaint} I have {flag}."),
}

ASKS: tuple[str, ...] = ("What did you advise?", "What should I take at home?", "How do I go on?", "Can you tell me again what to do?")

GREETINGS: tuple[str, ...] = ("Dear {title} {last},", "Hello {first},")

SMALL_TALK: tuple[str, ...] = ("Dr. {clinician_last}", "{clinician}")
