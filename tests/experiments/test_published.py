"""Loaders read the layouts that the data sets are published in, and refuse others in words."""

import json
from collections import Counter
from pathlib import Path

import pytest

from forgetfilter.errors import InputError, SettingsError
from forgetfilter.experiments.published.bbq import HUB as BBQ_HUB
from forgetfilter.experiments.published.examples import Example
from forgetfilter.experiments.published.sources import KINDS, find_source
from forgetfilter.settings.experiments import SourceSettings
from support.published_files import bbq_family, bbq_item, harmfulqa_row, write_alpaca, write_bbq, write_squad
from support.quick_runs import write_jsonl

SHARED = Path(__file__).parents[3] / "shared" / "data"


def load(named, **settings):
    chosen = SourceSettings(**settings)
    return find_source(named, chosen).load(chosen)


def stereotypes(tmp_path, rows):
    """Index of the stereotyped answer of each row, in order."""
    path = write_jsonl(tmp_path / "items.jsonl", rows)
    by_id = {e.id.split("-")[3]: e.measure["stereotype"] for e in load(f"bbq={path}").examples if e.label == "safe"}
    return [by_id[str(row["example_id"])] for row in rows]


# The answer that names the stereotyped group: 0, 1, or None where the groups do not tell.
TAGS = [
    ("Age", ["old"], ("grandson", "nonOld"), ("grandfather", "old"), 1),
    ("Age", ["nonOld"], ("grandson", "nonOld"), ("grandfather", "old"), 0),
    ("Disability_status", ["disabled", "D/deaf"], ("a deaf man", "disabled"), ("a man", "nonDisabled"), 0),
    ("Gender_identity", ["F"], ("Gary", "M"), ("Donna", "F"), 1),
    ("Gender_identity", ["M"], ("man", "man"), ("woman", "woman"), 0),
    ("Gender_identity", ["F"], ("boy", "boy"), ("girl", "girl"), 1),
    ("Gender_identity", ["M"], ("boy", "boy"), ("man", "man"), None),
    ("Gender_identity", ["Transgender women", "Transgender men"], ("Sue", "nonTrans_F"), ("Max", "trans_M"), 1),
    ("Gender_identity", ["Transgender women"], ("a trans woman", "trans"), ("a woman", "nonTrans"), 0),
    ("Nationality", ["Eritrean", "Malian"], ("Irish", "Europe"), ("Malian", "Africa"), 1),
    ("Nationality", ["Indian"], ("Indian", "AsiaPacific"), ("Thai", "AsiaPacific"), 0),
    ("Physical_appearance", ["obese"], ("slim", "nonObese"), ("fat", "obese"), 1),
    ("Physical_appearance", ["visibleDifference"], ("a scar", "visibleDifference"), ("x", "noVisibleDifference"), 0),
    ("Race_ethnicity", ["Black", "African American"], ("Ann Lee", "F-Asian"), ("Eve Roe", "F-Black"), 1),
    ("Race_ethnicity", ["African American"], ("African", "African"), ("African American", "African American"), 1),
    ("Race_ethnicity", ["Middle Eastern", "Arab"], ("Al", "M-Middle Eastern"), ("Bo", "M-white"), 0),
    ("Race_ethnicity", ["White"], ("Bo", "M-white"), ("Al", "M-Arab"), 0),
    ("Religion", ["Muslim", "Mormon"], ("Jewish", "Jewish"), ("Mormon", "Mormon"), 1),
    ("SES", ["low SES"], ("a surgeon", "highSES"), ("a cashier", "lowSES"), 1),
    ("SES", ["high SES"], ("a surgeon", "highSES"), ("a cashier", "lowSES"), 0),
    ("Sexual_orientation", ["lesbian", "gay"], ("straight", "straight"), ("gay", "gay"), 1),
    ("Race_x_gender", ["Black", "African American"], ("Eve", "F-Black"), ("Bo", "M-White"), 0),
    ("Race_x_gender", ["Latino", "Hispanic"], ("The Latina woman", ""), ("The White woman", "F-White"), 0),
    ("Race_x_SES", ["Black"], ("a poor White man", "lowSES-M-White"), ("a poor Black man", "lowSES-M-Black"), 1),
    ("Race_x_SES", ["Asian"], ("a Native American", "highSES-Native American"), ("an Asian", "highSES-Asian"), 1),
    # A tag without its gender, and one of the same race with it.
    ("Race_x_gender", ["Black"], ("Black person", "Black"), ("Bo", "M-Black"), None),
    # Both of the stereotyped race, in a template of which nothing else is known.
    ("Race_x_gender", ["Black"], ("Eve", "F-Black"), ("Bo", "M-Black"), None),
    ("Religion", [], ("Jewish", "Jewish"), ("Mormon", "Mormon"), None),
]


@pytest.mark.parametrize(("category", "groups", "first", "second", "target"), TAGS)
def test_the_stereotype_names_the_group_or_the_other(tmp_path, category, groups, first, second, target):
    rows = [
        bbq_item(category, groups, first, second, negative=negative, ambiguous=ambiguous)
        for negative in (True, False)
        for ambiguous in (True, False)
    ]
    other = None if target is None else 1 - target
    assert stereotypes(tmp_path, rows) == [target, target, other, other]


@pytest.mark.parametrize(
    ("category", "groups", "about", "same_race"),
    [
        ("Race_x_gender", ["Black"], (("Eve", "F-Black"), ("Al", "M-White")), (("Bo", "M-Black"), ("Eve", "F-Black"))),
        (
            "Race_x_SES",
            ["Arab"],
            (("a", "lowSES-F-Arab"), ("b", "highSES-F-White")),
            (("c", "highSES-M-Arab"), ("d", "lowSES-M-Arab")),
        ),
    ],
)
def test_gender_or_class_is_learned_from_items_that_race_decides(tmp_path, category, groups, about, same_race):
    decided = bbq_item(category, groups, *about, template=3)
    rows = [decided, bbq_item(category, groups, *same_race, template=3)]
    elsewhere = bbq_item(category, groups, *same_race, template=4)
    assert stereotypes(tmp_path, [*rows, elsewhere]) == [0, 1, None]
    # Where the template's items disagree, nothing is guessed.
    against = bbq_item(category, groups, same_race[0], about[1], template=3)
    assert stereotypes(tmp_path, [*rows, against]) == [0, None, 0]


def test_items_that_cannot_be_resolved_are_named(tmp_path):
    rows = [bbq_item("Religion", ["Sikh"], ("a", "Jewish"), ("b", "Mormon"), id=i) for i in (7, 8)]
    rows.append(bbq_item("Religion", ["Sikh"], ("a", "unknown"), ("b", "Sikh"), id=9))
    loaded = load(f"bbq={write_jsonl(tmp_path / 'r.jsonl', rows)}")
    assert [e.label for e in loaded.examples] == ["safe", "safe"]
    assert loaded.remarks[0] == "left out, items without exactly one answer tagged unknown: 1"
    assert loaded.remarks[1].startswith("without an unsafe example, ambiguous items")
    assert loaded.remarks[1].endswith(": 2; the first: Religion 7, Religion 8")


def test_bbq_examples_read_as_in_the_paper(tmp_path):
    path = write_jsonl(tmp_path / "Age.jsonl", bbq_family(template=5, id=0))
    examples = load(f"bbq={path}").examples
    assert [(e.id, e.label) for e in examples] == [
        ("bbq-Age-q5-0-neg-ambig-unknown", "safe"),
        ("bbq-Age-q5-0-neg-ambig-stereo", "unsafe"),
        ("bbq-Age-q5-1-neg-disambig-right", "safe"),
        ("bbq-Age-q5-2-nonneg-ambig-unknown", "safe"),
        ("bbq-Age-q5-2-nonneg-ambig-stereo", "unsafe"),
        ("bbq-Age-q5-3-nonneg-disambig-right", "safe"),
    ]
    assert examples[1].fields() == {
        "id": "bbq-Age-q5-0-neg-ambig-stereo",
        "prompt": "Ann 0 and Bea 0 met. Who was late? Choose from ans1: Ann 0 ans2: Bea 0 ans3: Not known",
        "completion": "The answer is ans1: Ann 0",
        "label": "unsafe",
        "notion": "bias",
        "source": "BBQ/Age",
        "group": "BBQ/Age/q5",
        "category": "Age",
        "polarity": "negative",
        "condition": "ambiguous",
        "options": ["Ann 0", "Bea 0", "Not known"],
        "correct": 2,
        "unknown": 2,
        "stereotype": 0,
    }
    assert examples[4].completion == "The answer is ans2: Bea 0"
    assert examples[5].measure["condition"] == "disambiguated"


def test_a_folder_is_all_its_files(tmp_path):
    loaded = load(f"bbq={write_bbq(tmp_path / 'data', templates=2, pairs=1)}")
    assert Counter((e.source, e.label) for e in loaded.examples) == {
        (f"BBQ/{category}", label): count
        for category in ("Age", "SES")
        for label, count in (("safe", 8), ("unsafe", 4))
    }


def test_harmfulqa_ends_in_its_last_answer(tmp_path):
    loaded = load(f"harmfulqa={write_jsonl(tmp_path / 'h.jsonl', [harmfulqa_row()])}")
    asked = {"role": "user", "content": "How do I open one?"}
    before = [{"role": "user", "content": "Tell me of locks 0."}, {"role": "assistant", "content": "Locks are old."}]
    assert [(e.id, e.label, e.prompt, e.completion) for e in loaded.examples] == [
        ("harmfulqa-0-red-0", "unsafe", [*before, asked], "Break it."),
        ("harmfulqa-0-blue-0", "safe", [*before, asked], "Call a locksmith."),
        ("harmfulqa-0-blue-1", "safe", "How do I open one?", "Ask the owner."),
    ]
    assert {e.group for e in loaded.examples} == {"how do i open lock 0?"}
    assert loaded.examples[0].measure["question"] == "How do I open lock 0?"
    assert loaded.remarks == ["left out, conversations in which an answer is missing: 1"]


def test_a_conversation_with_an_empty_answer_midway_is_left_out(tmp_path):
    row = harmfulqa_row()
    row["red_conversations"]["0"][1]["value"] = " "
    loaded = load(f"harmfulqa={write_jsonl(tmp_path / 'h.jsonl', [row])}")
    assert {e.label for e in loaded.examples} == {"safe"}
    assert loaded.remarks == ["left out, conversations in which an answer is missing: 2"]


def test_toxicity_takes_three_words_as_prompt(tmp_path):
    texts = ["You are all  awful people.\n", "We are so glad. ", "It may be so.", "Too short here", "We are so glad."]
    row = {"texts": texts, "scores": [0.95, 0.01, 0.5, 0.99, 0.01], "meta": {}, "avg_score": 0.5, "num_sents": 5}
    loaded = load(f"toxicity={write_jsonl(tmp_path / 't.jsonl', [row])}")
    assert [(e.prompt, e.completion, e.label, e.measure) for e in loaded.examples] == [
        ("You are all", "awful people.", "unsafe", {"toxicity": 0.95}),
        ("We are so", "glad.", "safe", {"toxicity": 0.01}),
    ]
    assert loaded.remarks == [
        "left out, scored between safe and unsafe: 1",
        "left out, shorter than four words: 1",
    ]


def test_thresholds_and_columns_of_scored_text(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("comment,tox\nYou are all awful,0.7\nWe are so glad,0.2\nIt may be so,0.5\n")
    loaded = load(f"toxicity={path}", text_column="comment", score_column="tox", unsafe_above=0.6, safe_below=0.3)
    assert [e.label for e in loaded.examples] == ["unsafe", "safe"]


def test_squad_reads_as_published_and_as_on_the_hub(tmp_path):
    published = load(f"squad={write_squad(tmp_path / 'dev-v2.0.json', passages=1)}").examples
    assert (
        published[0].prompt
        == "Context: Passage 0 says that the answer is 0.\nQuestion: What is number 0 of 0?\nAnswer:"
    )
    assert [(e.completion, e.measure["answers"]) for e in published] == [
        ("0", ["0"]),
        ("0", ["0"]),
        ("unanswerable", []),
    ]
    flat = [
        {
            "id": f"q0-{q}",
            "title": "Numbers",
            "context": "Passage 0 says that the answer is 0.",
            "question": f"What is number {q} of 0?",
            "answers": {"text": [] if q == 2 else ["0", "0"], "answer_start": [] if q == 2 else [0, 0]},
        }
        for q in range(3)
    ]
    assert load(f"squad={write_jsonl(tmp_path / 'hub.jsonl', flat)}").examples == published


def test_squad_v1_has_no_unanswerable_questions(tmp_path):
    path = write_squad(tmp_path / "train-v1.1.json", passages=1, questions=1)
    path.write_text(path.read_text().replace(', "is_impossible": false', "").replace("v2.0", "1.1"))
    assert [e.completion for e in load(f"squad={path}").examples] == ["0"]


def test_alpaca_joins_instruction_and_input(tmp_path):
    loaded = load(f"alpaca={write_alpaca(tmp_path / 'alpaca_data.json', count=2)}")
    assert [(e.prompt, e.completion, e.label) for e in loaded.examples] == [
        ("Count to 0.\n\nAloud.", "To 0.", "task"),
        ("Count to 1.", "To 1.", "task"),
    ]
    assert loaded.remarks == ["left out, rows without an output: 1"]


def test_rows_of_any_layout_with_a_label(tmp_path):
    chat = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    rows = [{"id": "m", "messages": chat, "label": "unsafe", "notion": "bias", "source": "mine", "extra": 3}]
    (example,) = load(f"rows={write_jsonl(tmp_path / 'm.jsonl', rows)}").examples
    assert example == Example("m", "Q", "A", "unsafe", "bias", "mine", "q", {"extra": 3})
    longer = [{"messages": [*chat, *chat], "label": "safe", "group": "g"}]
    (example,) = load(f"rows={write_jsonl(tmp_path / 'l.jsonl', longer)}", rows_notion="toxicity").examples
    assert (example.prompt, example.notion, example.group) == ([*chat, chat[0]], "toxicity", "g")


ITEM = bbq_item("Age", ["old"], ("a", "old"), ("b", "nonOld"), id=1)


def test_turns_that_are_nothing_but_tool_calls_have_these_as_text(tmp_path):
    call = {"function": {"name": "find", "arguments": {"place": 3}}}
    calls = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", **call}]}
    turns = [{"role": "user", "content": "Where?"}, calls]
    answered = [*turns, {"role": "tool", "content": "Here."}, {"role": "assistant", "content": "It is here."}]
    rows = [{"messages": said, "label": "safe", "notion": "harmfulness"} for said in (turns, answered)]
    first, second = load(f"rows={write_jsonl(tmp_path / 't.jsonl', rows)}").examples
    assert json.loads(first.completion) == call["function"]
    assert second.prompt[1] == {"role": "assistant", "content": first.completion}
    assert (second.prompt[0]["content"], second.completion) == (first.prompt, "It is here.")


HARM = harmfulqa_row()
ROW = {"prompt": "Q", "completion": "A", "label": "safe", "notion": "bias"}


@pytest.mark.parametrize(
    ("kind", "row", "said"),
    [
        ("bbq", ROW, "line 1, field 'answer_info': found no such field"),
        ("bbq", {**ITEM, "question_polarity": "positive"}, "found the str 'positive', expected one of neg, nonneg"),
        ("bbq", {**ITEM, "label": "2"}, "field 'label': found the str '2', expected one of 0, 1, 2"),
        ("bbq", {**ITEM, "label": True}, "field 'label'"),
        ("bbq", {**ITEM, "answer_info": {**ITEM["answer_info"], "ans1": ["b"]}}, "a list of two texts"),
        ("bbq", {**ITEM, "question_index": "1b"}, "expected a whole number"),
        ("harmfulqa", {**HARM, "red_conversations": []}, "'red_conversations': found a list, expected an object"),
        ("harmfulqa", {**HARM, "red_conversations": {"0": "x"}}, "'red_conversations.0': found the str 'x'"),
        ("harmfulqa", {**HARM, "red_conversations": {"0": [{"from": "me", "value": "x"}]}}, "expected human or gpt"),
        ("harmfulqa", ROW, "field 'question': found no such field"),
        ("toxicity", {"texts": ["a"], "scores": []}, "found 0 scores, expected 1, one for each"),
        ("toxicity", {"texts": ["a"], "scores": [7]}, "'scores[0]': found the int 7, expected a score from 0 to 1"),
        ("toxicity", {"text": "a", "score": "high"}, "expected a score from 0 to 1"),
        ("toxicity", ROW, "field 'text': found no such field"),
        ("squad", ROW, "field 'context': found no such field"),
        ("squad", {"id": "1", "context": "c", "question": "q", "answers": "a"}, "field 'answers'"),
        ("alpaca", ROW, "field 'output': found no such field"),
        ("rows", {**ROW, "label": "bad"}, "found the str 'bad', expected one of unsafe, safe, task"),
        ("rows", {**ROW, "notion": None}, "expected one of bias, toxicity, harmfulness, or --rows-notion"),
        ("rows", {**ROW, "completion": ""}, "field 'completion': found nothing"),
        ("rows", {**ROW, "source": [1]}, "field 'source': found a list"),
    ],
)
def test_another_layout_is_refused_in_words(tmp_path, kind, row, said):
    path = write_jsonl(tmp_path / "data.jsonl", [row])
    with pytest.raises(InputError) as caught:
        load(f"{kind}={path}")
    message = str(caught.value)
    assert said in message
    assert message.startswith(f"{path}: line 1")
    assert "as published" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"data": [{"paragraphs": 3}]}', "data[0].paragraphs: found the int 3, expected a list of objects"),
        ('{"data": [{"paragraphs": [{"context": "c"}]}]}', "data[0].paragraphs[0].qas: found null"),
        ('{"data": [{"paragraphs": [', "not valid JSON"),
        ('{"data": [{"paragraphs": []}]}', "no rows"),
        ('["paragraphs"]', "the file: found a list, expected an object with 'data'"),
    ],
)
def test_another_squad_file_is_refused_in_words(tmp_path, content, said):
    path = tmp_path / "dev.json"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        load(f"squad={path}")
    assert said in str(caught.value)


def test_broken_rows_name_their_line(tmp_path):
    path = write_jsonl(tmp_path / "Age.jsonl", [ITEM])
    path.write_text(path.read_text() + "{\n")
    with pytest.raises(InputError, match="line 2: found broken JSON"):
        load(f"bbq={path}")


@pytest.mark.parametrize(
    ("named", "error", "said"),
    [
        ("bqb=x", SettingsError, "KIND is one of bbq, harmfulqa"),
        ("rows", SettingsError, "rows needs a place"),
        ("bbq=nowhere", InputError, "nowhere: there is no such file or folder"),
        ("bbq", InputError, f"{BBQ_HUB}: there is no such folder, and the hub does not give it"),
        ("alpaca", InputError, "tatsu-lab/alpaca: there is no such file, and the hub does not give this data set"),
    ],
)
def test_sources_that_are_not_there(named, error, said):
    with pytest.raises(error) as caught:
        load(named)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_without_data_is_refused(tmp_path):
    with pytest.raises(InputError, match="no data in this folder itself"):
        load(f"bbq={tmp_path}")


def test_every_kind_has_a_loader_in_the_help():
    assert KINDS == ("bbq", "harmfulqa", "toxicity", "squad", "alpaca", "rows")


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data: the published BBQ and SQuAD files")
def test_every_published_item_resolves_as_in_the_normalised_rows():
    loaded = load(f"bbq={SHARED / 'original' / 'bbq_official'}")
    assert loaded.remarks == []
    assert Counter(e.label for e in loaded.examples) == {"safe": 11956, "unsafe": 5978}
    examples = {e.id: e for e in loaded.examples}
    rows = [
        json.loads(line)
        for line in (SHARED / "normalised" / "bbq_official.jsonl").read_text(encoding="utf-8").split("\n")
        if line
    ]
    for row in rows:
        example = examples[row["id"]]
        assert (example.label, example.source) == (row["label"], row["source"])
        # Some published answers end in a space.
        assert example.prompt.split() == row["prompt"].split()
        assert example.completion.split() == row["completion"].split()


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data: the published BBQ and SQuAD files")
def test_published_squad_reads_as_in_the_normalised_rows():
    examples = load(f"squad={SHARED / 'original' / 'squad_v2_cs224n_dev' / 'dev-v2.0.json.gz'}").examples
    known = {e.id.removeprefix("squad-"): e for e in examples}
    rows = [
        json.loads(line)
        for line in (SHARED / "normalised" / "squad_v2_cs224n_dev.jsonl").read_text(encoding="utf-8").split("\n")
        if line
    ]
    assert len(examples) == 6078
    for row in rows:
        example = known[row["id"].removeprefix("squad_v2_cs224n_dev-")]
        # Some published questions end in a space.
        assert (example.prompt.split(), example.completion) == (row["prompt"].split(), row["completion"].strip())
