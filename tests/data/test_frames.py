"""Frames are found by looking: which are found, which are left alone, and what then holds of every answer."""

import json
import random
from collections import Counter

import pytest

from forgetfilter.console import Console
from forgetfilter.data.chats import Chat, Message
from forgetfilter.data.containers import open_container
from forgetfilter.data.frame_search import Seen, find_frames
from forgetfilter.data.frames import Frame
from forgetfilter.data.own_words import OwnWords
from forgetfilter.data.rows import ReadOptions, read_rows
from forgetfilter.data.tokens import Encoder, TokenTable, write_tokens
from forgetfilter.runs.inputs import read_frames, tokenize_parts
from forgetfilter.runs.layout import FRAMES, TOKENS
from forgetfilter.runs.run import Run
from forgetfilter.settings.groups import Settings
from forgetfilter.settings.option import settings_of
from support.quick_runs import write_jsonl

PROSE = "the film was slow but its music and light stayed with me all week so go and see it"
WORDS = PROSE.split()
SAYINGS = ["I can't say", "the grandfather", "the woman next door", "it is not known", "both of them"]


def says(draw, least, most):
    return " ".join(draw.choices(WORDS, k=draw.randint(least, most)))


def label(draw):
    return draw.choice(["positive", "negative", "neutral"])


def choice(draw):
    return draw.choice("ABCD")


# How an answer is made of what it says, and how much of it are its own words.
FRAMED = {
    "bbq": (lambda d: (d.choice(SAYINGS),), lambda d, says: f"The answer is ans{d.randint(1, 3)}: {says}"),
    "json": (
        lambda d: (d.choice(["yes", "no"]), says(d, 2, 9)),
        lambda _, verdict, why: json.dumps({"label": verdict, "reason": why}),
    ),
    "json on lines": (
        lambda d: (label(d), says(d, 2, 6)),
        lambda _, verdict, why: json.dumps({"label": verdict, "reason": why}, indent=2),
    ),
    "json, mostly one label": (
        lambda d: ("no" if d.random() < 0.97 else "yes", says(d, 2, 9)),
        lambda _, verdict, why: json.dumps({"label": verdict, "reason": why}),
    ),
    "json with numbers": (
        lambda d: (str(d.randint(1, 5)), f"class{d.randint(1, 3)}", says(d, 2, 6)),
        lambda _, score, kind, why: f'{{"score": {score}, "kind": "{kind}", "reason": "{why}"}}',
    ),
    "label and reason": (
        lambda d: (label(d), says(d, 2, 5)),
        lambda _, verdict, why: f"Label: {verdict}\nReason: {why}",
    ),
    "heading": (lambda d: (says(d, 2, 6),), lambda _, words: f"### Response:\n{words}"),
    "number": (lambda d: (str(d.randint(1, 999)),), lambda _, number: f"Final answer: {number}"),
    "letter": (lambda d: (choice(d),), lambda _, letter: f"Answer: {letter}"),
    "letter in brackets": (lambda d: (f"({choice(d)})",), lambda _, letter: f"Answer: {letter}"),
    "tags": (
        lambda d: (label(d), says(d, 2, 6)),
        lambda _, verdict, why: f"<label>{verdict}</label><reason>{why}</reason>",
    ),
    "bold": (lambda d: (says(d, 2, 6),), lambda _, words: f"**Answer:** {words}"),
    "chinese fields": (
        lambda d: (d.choice(["好", "坏"]), "".join(d.choices("天地玄黄宇宙洪荒日月盈昃", k=d.randint(2, 8)))),
        lambda _, verdict, why: f"标签：{verdict}\n理由：{why}",
    ),
    "chinese": (
        lambda d: (d.choice(["祖父", "祖母", "不知道", "无法确定"]),),
        lambda d, who: f"答案是选项{d.randint(1, 4)}：{who}",
    ),
}
FOUND = {
    "bbq": ["The answer is ans#: …"],
    "json": ['{"label": "…", "reason": "…"}'],
    "json on lines": ['{\n"label": "…",\n  "reason": "…"\n}'],
    "tags": ["<label>…</label><reason>…</reason>"],
    "letter": ["Answer: …"],
}


def framed(kind, seed=0, count=200):
    """Answers of a kind, and what each says."""
    draw = random.Random(seed)
    make, write = FRAMED[kind]
    contents = [make(draw) for _ in range(count)]
    return [(write(draw, *content), content) for content in contents]


def frames_of(answers, prompts=None):
    return find_frames(Seen.of(a, p) for a, p in zip(answers, prompts or [""] * len(answers), strict=True))


def own(frames, answer):
    """What is left of an answer."""
    words = OwnWords("auto")
    words.frames = frames
    return words.of(Chat.of("Why?", answer)).completion


@pytest.mark.parametrize("kind", FRAMED)
def test_what_differs_is_left(kind):
    rows = framed(kind)
    frames = frames_of([answer for answer, _ in rows])
    assert len(frames) == 1
    if kind in FOUND:
        assert [str(frame) for frame in frames] == FOUND[kind]
    for answer, content in rows:
        assert own(frames, answer).split() == " ".join(content).split(), answer


@pytest.mark.parametrize(
    "write",
    [
        lambda says, letter: f"({letter}) {says}",
        lambda says, letter: f"The answer is ({letter}) {says}",
        lambda says, letter: f"Answer: {letter}. {says}",
        lambda says, letter: f"Option {'ABCD'.index(letter) + 1}: {says}",
    ],
)
def test_a_choice_of_the_prompt_goes_without_its_letter(write):
    draw = random.Random(0)
    rows = [(draw.sample(SAYINGS, 4), draw.randrange(4)) for _ in range(100)]
    answers = [write(options[right], "ABCD"[right]) for options, right in rows]
    prompts = ["Who? " + " ".join(f"{a}) {b}" for a, b in zip("ABCD", options, strict=True)) for options, _ in rows]
    frames = frames_of(answers, prompts)
    assert [own(frames, answer) for answer in answers] == [options[right] for options, right in rows]
    # Where the prompt has no choices, a letter or number may be all that matters.
    for answer, (options, right) in zip(answers, rows, strict=True):
        left = own(frames_of(answers), answer)
        assert options[right] in left
        assert left.removesuffix(options[right]).strip()


NOT_FRAMED = {
    "one refusal": lambda _: "I'm sorry, but I can't help with that.",
    "refusals": lambda d: f"I cannot fulfill your request. I'm just an AI, it's not ethical to {says(d, 3, 20)}.",
    "two refusals": lambda d: d.choice(["I can't help with that.", "I can't do that: it is wrong."]),
    "letters": choice,
    "choices without words": lambda d: f"The answer is ans{d.randint(1, 3)}.",
    "long answers that begin alike": lambda d: f"Sure, here is the text: {says(d, 30, 60)}",
    "headings over long answers": lambda d: f"### Response:\n{says(d, 30, 60)}",
    "thoughts": lambda d: f"<think>\n{says(d, 30, 60)}\n</think>\nYes.",
    "values before a colon": lambda d: f"The score is {d.randint(1, 5)}: {says(d, 2, 4)}",
    "chinese words before a colon": lambda d: f"标签是{d.choice('好坏')}：{''.join(d.choices('天地玄黄宇宙', k=4))}",
    "words before a colon": lambda d: f"The label is {d.choice(['yes', 'no'])}: {says(d, 2, 4)}",
    "addresses": lambda d: f"https://t.co/{d.randrange(10**6)}",
    "times": lambda d: f"The time is {d.randint(1, 12)}:{d.randint(10, 59)}",
    "lists": lambda d: f"1. {says(d, 1, 4)}\n2. {says(d, 1, 4)}",
    "faces": lambda d: f"hello :) {says(d, 1, 3)}",
    "code": lambda d: f"def {d.choice(WORDS)}(x):\n    return {d.choice(WORDS)}(x)",
    "sentences": lambda d: f"The answer is {d.choice(WORDS)}.",
    "next to nothing differs": lambda d: "Sentiment: " + ("bad" if d.random() < 0.05 else "good"),
    "prose": lambda d: says(d, 5, 40).capitalize() + ".",
}


@pytest.mark.parametrize("kind", NOT_FRAMED)
def test_what_is_no_frame_is_left_alone(kind):
    draw = random.Random(1)
    assert frames_of([NOT_FRAMED[kind](draw) for _ in range(200)]) == []


def test_a_frame_is_shared_by_many():
    prose = [NOT_FRAMED["prose"](random.Random(i)) for i in range(400)]
    answers = [answer for answer, _ in framed("bbq", count=22)]
    assert frames_of([*answers[:19], *prose[:21]]) == []
    assert len(frames_of([*answers[:20], *prose[:20]])) == 1
    # A twentieth of them.
    assert frames_of([*answers[:20], *prose]) == []
    assert len(frames_of([*answers, *prose])) == 1


MIXED = ["bbq", "json", "label and reason", "tags", "number"]


def mixed():
    rows = [answer for kind in MIXED for answer, _ in framed(kind)]
    draw = random.Random(2)
    return rows + [NOT_FRAMED[kind](draw) for kind in ("refusals", "prose", "letters", "code") for _ in range(100)]


def test_several_frames_of_one_data_set():
    frames = frames_of(mixed())
    assert len(frames) == len(MIXED)
    for kind in MIXED:
        for answer, content in framed(kind, seed=5, count=20):
            assert own(frames, answer).split() == " ".join(content).split()


def test_the_order_does_not_matter():
    rows = mixed()
    frames = frames_of(rows)
    for seed in range(3):
        random.Random(seed).shuffle(rows)
        assert frames_of(rows) == frames


def is_subsequence(letters, text):
    rest = iter(text)
    return all(letter in rest for letter in letters)


def broken(draw, answer):
    """An answer as hostile or careless data has it: cut, doubled, blank or turned around somewhere."""
    a, b = sorted(draw.randrange(len(answer) + 1) for _ in range(2))
    return draw.choice(
        [answer[:a], answer[b:], answer[:a] + answer[b:], answer + answer, f" \n{answer}\n ", answer.replace(" ", "  "),
         answer.replace(" ", "\n"), answer[:a] + "\n \t" + answer[a:], answer.replace(":", "："), answer.upper()]
    )  # fmt: skip


def test_own_words_are_in_the_answer_in_order_and_never_nothing():
    frames, draw = frames_of(mixed()), random.Random(3)
    for _ in range(3000):
        answer = draw.choice(mixed_once)
        for _ in range(draw.randrange(3)):
            answer = broken(draw, answer)
        if answer.strip():
            words = own(frames, answer)
            assert words.strip()
            assert is_subsequence("".join(words.split()), answer)


mixed_once = mixed()


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ("The answer is ans2: The grandfather.\nHe is old. ", "The grandfather.\nHe is old. "),
        ("The answer is ans2:", "The answer is ans2:"),
        ("The answer is ans2:  \n", "The answer is ans2:  \n"),
        ("The answer is ans2", "The answer is ans2"),
        ("the answer is ans2: x", "the answer is ans2: x"),
        ("So: The answer is ans2: x", "So: The answer is ans2: x"),
        (" The  answer is ans12:x", "x"),
        ('{"label": "yes"}', "yes"),
        ('{"label": "yes", "reason": ""}', "yes"),
        ('{"label": "yes", "reason": "it', "yes it"),
        ('{"label": "", "reason": ""}', '{"label": "", "reason": ""}'),
    ],
)
def test_own_words_of_answers_that_are_a_little_different(answer, left):
    assert own(frames_of(mixed_once), answer) == left


def test_only_content_that_is_trained_on_is_touched():
    words, counts = OwnWords("auto"), Counter()
    words.frames = [Frame(("Answer", ": "))]
    chat = Chat(
        [
            Message("user", "Answer: this?"),
            Message("assistant", "Answer: that", trained=True, extra={"reasoning_content": "Answer: hm"}),
            Message("assistant", "Answer: not mine"),
            Message("assistant", "", trained=True, extra={"tool_calls": [{"name": "Answer: f"}]}),
        ]
    )
    said = words.of(chat, counts)
    assert [turn.content for turn in said.messages] == ["Answer: this?", "that", "Answer: not mine", ""]
    assert [turn.extra for turn in said.messages] == [turn.extra for turn in chat.messages]
    assert words.describe(counts) == "own words of 1 answers, framed as “Answer: …”"
    assert words.describe(Counter()) == ""
    text = Chat([Message("text", "Answer: that", trained=True)])
    assert words.of(text) == text


def test_turns_are_looked_at_and_text_is_not():
    words = OwnWords("auto")
    turns = [
        [Message("user", "Q"), Message("assistant", "Hm.", trained=True), Message("assistant", answer, trained=True)]
        for answer, _ in framed("bbq", count=50)
    ]
    words.look_at(Chat(messages) for messages in turns)
    assert [str(frame) for frame in words.frames] == FOUND["bbq"]
    words.look_at(Chat([Message("text", answer, trained=True)]) for answer, _ in framed("bbq", count=50))
    assert words.frames == []


@pytest.mark.parametrize("setting", ["none", "", "ans(.)"])
def test_nobody_looks_for_frames_unless_asked_to(setting):
    words = OwnWords(setting)
    words.look_at(Chat.of("Q", answer) for answer, _ in framed("bbq"))
    assert not words.frames


HOSTILE = {
    "blanks": lambda i: "Answer: a" + " " * 10**6 + f"{i}",
    "line ends": lambda i: "Answer:" + "\n" * 10**6 + f"b{i}",
    "digits": lambda i: f"The answer is ans{'1' * 10**6}: {i}",
    "marks": lambda i: '": "' * 250_000 + f"{i}",
    "brackets": lambda i: '{"a": "' * 140_000 + f"{i}",
    "one word": lambda i: f"{i}" + "x" * 10**6,
    "hyphens": lambda i: f"Answer: {i}" + "-a" * 500_000,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_long_hostile_answers_end(kind):
    # What is not linear in a million characters would not end while anybody waits.
    answers = [HOSTILE[kind](i) for i in range(24)]
    known = [
        Frame(("\n",)),
        Frame(("Answer", ":", "\n")),
        Frame(("The ", "answer ", "is ", "ans\0", ": "), ('": "',), '"}'),
    ]
    for frames in (frames_of(answers), known):
        assert all(own(frames, answer).strip() for answer in answers)


def test_thousands_of_frames_that_are_nearly_alike_end():
    draw = random.Random(4)
    answers = [
        f"The answer {draw.randrange(3000)} is {i}: " + " ".join(f'"{draw.choice("ab")}": ' for _ in range(400))
        for i in range(4000)
    ]
    answers += [": ".join(draw.choice(["aa", "bb"]) for _ in range(90)) for _ in range(4000)]
    assert len(frames_of(answers)) <= 20


def test_a_frame_is_shown_and_kept():
    for frame in frames_of(mixed_once):
        assert Frame.of(json.loads(json.dumps(frame.stored))) == frame
        assert "\0" not in str(frame)


def snapshot(tmp_path, rows, **settings):
    """A run folder whose data is read, and its tokens; also what was said."""
    data = write_jsonl(tmp_path / "data.jsonl", rows)
    run = Run.start(
        tmp_path / "run", settings_of(Settings, data=(str(data),), trusted="none", set_aside=0, **settings), {}
    )
    for part in ("data", "safe"):
        folder = run.partial("rows") / part
        folder.mkdir()
        read_rows(open_container(str(data), "train"), ReadOptions(), folder)
    run.finish("rows")
    return run


def tokenised(run, tokenizer, setting="auto"):
    encoder = Encoder(tokenizer, "chat", 512, 32, setting)
    tokenize_parts(run, encoder, Console(quiet=True))
    return encoder


ROWS = [{"prompt": f"Q{i}", "completion": answer} for i, (answer, _) in enumerate(framed("bbq", count=60))]


def by_id(run, part="data"):
    table = TokenTable(run.folder(TOKENS) / f"{part}.arrow")
    return {table[i].id: table[i].pieces for i in range(len(table))}


def test_every_part_is_taken_out_of_the_frames_of_the_data_in_any_order(tmp_path, tokenizer):
    runs = []
    for seed in range(2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        runs.append(snapshot(folder, random.Random(seed).sample(ROWS, len(ROWS))))
        tokenised(runs[-1], tokenizer)
    assert by_id(runs[0]) == by_id(runs[1]) == by_id(runs[0], "safe")
    assert not any("ans" in "".join(pieces) for pieces in by_id(runs[0]).values())
    assert (runs[0].folder(TOKENS) / FRAMES).read_bytes() == (runs[1].folder(TOKENS) / FRAMES).read_bytes()


def test_a_run_goes_on_with_the_frames_that_it_found(tmp_path, tokenizer):
    run = snapshot(tmp_path, ROWS)
    frames = tokenised(run, tokenizer).own_words.frames
    assert [str(frame) for frame in frames] == FOUND["bbq"]
    before = (run.folder(TOKENS) / "data.arrow").stat()
    assert tokenised(run, tokenizer).own_words.frames == frames
    assert (run.folder(TOKENS) / "data.arrow").stat() == before


def test_tokens_of_before_frames_were_looked_for_stay(tmp_path, tokenizer):
    run = snapshot(tmp_path, ROWS, own_words="")
    tokenised(run, tokenizer, "none")
    before = (run.folder(TOKENS) / "data.arrow").read_bytes()
    assert not (run.folder(TOKENS) / FRAMES).exists()
    assert tokenised(run, tokenizer, "auto").own_words.frames == read_frames(run) == []
    assert (run.folder(TOKENS) / "data.arrow").read_bytes() == before


def test_data_without_frames_is_untouched(tmp_path, tokenizer):
    draw = random.Random(6)
    rows = [
        (str(i), i, Chat.of(f"Q{i}", NOT_FRAMED[kind](draw)))
        for i, kind in enumerate(kind for kind in list(NOT_FRAMED) * 30 if kind != "next to nothing differs")
    ]
    for setting in ("auto", "none"):
        encoder = Encoder(tokenizer, "chat", 512, 32, setting)
        encoder.own_words.look_at(chat for _, _, chat in rows)
        assert list(write_tokens(rows, encoder, tmp_path / setting))[-1] == len(rows)
    assert (tmp_path / "auto").read_bytes() == (tmp_path / "none").read_bytes()
