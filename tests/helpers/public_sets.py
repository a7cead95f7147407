"""Public data sets as small as they can be: three sites, six topics of four questions, experts' pairs, patients' questions."""

import json
from pathlib import Path
from typing import Any

QUESTIONS = ("What is {}?", "What are the symptoms of {}?", "What causes {}?", "How is {} treated?")
SITES = ("alpha", "beta", "gamma")


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def medquad(split: str, topics: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{split}-{site}-{topic}-{kind}", "site": site, "doc_id": f"{split}-{site}-{topic}", "focus": f"{site} illness {topic}",
            "qtype": str(kind), "question": question.format(f"{site} illness {topic}") + " ?",
            "answer": f"Answer {kind} about {site} illness {topic}. It has a second sentence. And a third one.",
        }
        for site in SITES for topic in range(topics) for kind, question in enumerate(QUESTIONS)
    ]  # fmt: skip


def pairs(name: str, split: str, questions: int) -> list[dict[str, Any]]:
    return [
        {"id": f"{name}-{split}-{q}-{n}", "prompt": f"Tell me of {split} disease {q}.", "chosen": f"Disease {q} is good {n}.", "rejected": "Bad."}
        for q in range(questions) for n in range(2)
    ]  # fmt: skip


def write_sets(folder: Path) -> Path:
    write(folder / "medquad/train.jsonl", medquad("train", 6))
    write(folder / "medquad/valid.jsonl", medquad("valid", 2))
    for name, graded in (("pref_medquad_judged", "judged_answers"), ("pref_mediqa2019_gov", "ranked_answers")):
        write(folder / name / "pairs_train.jsonl", pairs(name, "train", 10))
        write(folder / name / "pairs_valid.jsonl", pairs(name, "valid", 2))
        answers = [{"text": "Disease 0 needs rest and water.", "score": 4}, {"text": "Unrelated words entirely.", "score": 1}]
        write(folder / name / f"{graded}.jsonl", [{"prompt": "Tell me of valid disease 0.", "split": "valid", "answers": answers}])
    write(folder / "kqa_prompts/prompts.jsonl", [{"id": str(n), "question": f"Is number {n % 5} bad?"} for n in range(6)])
    return folder
