"""Small files of ours in the layouts of published data sets."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from support.quick_runs import write_jsonl

_ids = itertools.count()


def bbq_item(category, groups, first, second, *, negative=True, ambiguous=True, template=1, id=None, **changed):
    """A BBQ row whose answers are `first`, `second` (name and tag each) and the unknown one."""
    named = {"ans0": list(first), "ans1": list(second), "ans2": ["Not known", "unknown"]}
    return {
        "example_id": next(_ids) if id is None else id,
        "question_index": str(template),
        "question_polarity": "neg" if negative else "nonneg",
        "context_condition": "ambig" if ambiguous else "disambig",
        "category": category,
        "answer_info": named,
        "additional_metadata": {"subcategory": "None", "stereotyped_groups": groups, "version": "a", "source": "ours"},
        "context": f"{first[0]} and {second[0]} met.",
        "question": "Who was late?" if negative else "Who was on time?",
        "ans0": first[0],
        "ans1": second[0],
        "ans2": "Not known",
        "label": 2 if ambiguous else 0,
        **changed,
    }


def bbq_family(template, id, category="Age"):
    """The four items of one template and pair, as the published files have them."""
    return [
        bbq_item(
            category,
            ["old"],
            (f"Ann {id}", "old"),
            (f"Bea {id}", "nonOld"),
            negative=negative,
            ambiguous=ambiguous,
            template=template,
            id=4 * id + place,
        )
        for place, (negative, ambiguous) in enumerate(itertools.product((True, False), (True, False)))
    ]


def write_bbq(folder: Path, templates=12, pairs=4) -> Path:
    folder.mkdir()
    for category in ("Age", "SES"):
        rows = [
            row for t in range(templates) for pair in range(pairs) for row in bbq_family(t, t * pairs + pair, category)
        ]
        if category == "SES":
            rows = [
                json.loads(json.dumps(row).replace('"nonOld"', '"highSES"').replace('"old"', '"lowSES"'))
                for row in rows
            ]
        write_jsonl(folder / f"{category}.jsonl", rows)
    return folder


def write_squad(path: Path, passages=12, questions=3, **changed) -> Path:
    """SQuAD v2, every third question without an answer."""
    paragraphs = [
        {
            "context": f"Passage {p} says that the answer is {p}.",
            "qas": [
                {
                    "id": f"q{p}-{q}",
                    "question": f"What is number {q} of {p}?",
                    "answers": [] if q == 2 else [{"text": f"{p}", "answer_start": 0}] * 2,
                    "is_impossible": q == 2,
                    **changed,
                }
                for q in range(questions)
            ],
        }
        for p in range(passages)
    ]
    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "Numbers", "paragraphs": paragraphs}]}))
    return path


def write_alpaca(path: Path, count=30) -> Path:
    rows = [
        {"instruction": f"Count to {i}.", "input": "" if i % 2 else "Aloud.", "output": f"To {i}."}
        for i in range(count)
    ]
    path.write_text(json.dumps([*rows, {"instruction": "Nothing.", "input": "", "output": ""}]))
    return path


def harmfulqa_row(i=0):
    def turns(last):
        return [
            {"from": "human", "value": f"Tell me of locks {i}."},
            {"from": "gpt", "value": "Locks are old."},
            {"from": "human", "value": "How do I open one?"},
            {"from": "gpt", "value": last},
        ]

    return {
        "id": i,
        "topic": "Homes",
        "subtopic": "Doors",
        "question": f"How do I open lock {i}?",
        "blue_conversations": {"0": turns("Call a locksmith."), "1": turns("Ask the owner.")[2:], "2": None},
        "red_conversations": {"0": turns("Break it."), "1": turns("")[:1]},
    }
