"""What the filter learns and scores of answers that share a frame."""

import json
import shutil
from collections import Counter

import pyarrow.parquet as pq
import pytest

from forgetfilter.cli import main
from forgetfilter.data import own_words
from forgetfilter.data.chats import Chat, Message
from forgetfilter.data.own_words import OwnWords
from forgetfilter.data.tokens import Encoder, TokenTable
from forgetfilter.errors import InputError
from support.damage import forget_checksums
from support.quick_runs import QUICK, SAFE, reviewing, write_jsonl

CHAT = Chat(
    [
        Message("system", "ans1: not an answer"),
        Message("user", "Which, ans1: this or ans2: that?"),
        Message("assistant", "The answer is ans1: this", trained=True),
        Message("user", "Sure?"),
        Message("assistant", "Yes.", trained=True),
    ]
)


def test_answers_are_taken_out_of_their_frame_and_all_else_stays():
    words, counts = OwnWords(r"ans\d: (.*)"), Counter()
    assert [message.content for message in words.of(CHAT, counts).messages] == [
        "ans1: not an answer",
        "Which, ans1: this or ans2: that?",
        "this",
        "Sure?",
        "Yes.",
    ]
    assert counts.total() == 1


@pytest.mark.parametrize(
    ("pattern", "answer", "own"),
    [
        ("", "ans1: x", "ans1: x"),
        (r"\w+$", "It is blue", "blue"),
        (r"is (.*)", "It is one\nor two", "one\nor two"),
        (r"is(\s*)", "It is  ", "It is  "),
        (r"is (no)?", "It is it", "It is it"),
    ],
)
def test_own_words_of_one_answer(pattern, answer, own):
    _, message = OwnWords(pattern).of(Chat.of("Q", answer)).messages
    assert message.content == own


def test_plain_text_has_no_frame():
    text = Chat([Message("text", "The answer is ans1: this", trained=True)])
    assert OwnWords("ans1: (.*)").of(text) == text


def test_an_expression_that_takes_for_ever_is_stopped(monkeypatch):
    monkeypatch.setattr(own_words, "_SECONDS", 0.1)
    with pytest.raises(InputError, match=r"takes more than 0\.1 s for one answer of 41 characters"):
        OwnWords("(a|a)*$").of(Chat.of("Q", "a" * 40 + "b"))


def test_the_row_that_takes_for_ever_is_named(monkeypatch, tokenizer):
    monkeypatch.setattr(own_words, "_SECONDS", 0.1)
    hostile = Chat.of("Why?", "a" * 40 + "b")
    with pytest.raises(InputError, match=r"^row 7 \(id x\): own_words"):
        Encoder(tokenizer, "chat", 512, None, "(a|a)*$").encode([("x", 7, hostile)])


def test_only_own_words_are_tokens(tokenizer):
    rows = [("x", 0, CHAT)]
    (whole,), (bare,) = (Encoder(tokenizer, "chat", 512, None, own).encode(rows) for own in ("", r"ans\d: (.*)"))
    assert "".join(whole.pieces).startswith("The answer is ans1: this")
    assert "".join(bare.pieces).startswith("this")


FRAMED = [
    {"id": f"n{i}", "prompt": f"Question number {i}?", "completion": f"The answer is ans{i % 3}: {word}"}
    for i, word in enumerate(["yes", "no", "forty-two", "never"] * 5)
]


def _tokens(history):
    return sum(step["tokens"] for step in history)


@pytest.fixture
def framed(tmp_path, model):
    rows, safe = write_jsonl(tmp_path / "framed.jsonl", FRAMED), write_jsonl(tmp_path / "safe.jsonl", SAFE)
    return ["filter", str(rows), "--safe", str(safe), "--model", str(model), "--output", str(tmp_path / "run"), *QUICK]


def test_the_output_and_the_final_model_have_whole_answers(framed, tmp_path, capsys):
    given = ["--own-words", r"ans\d: (.*)", "--threshold", "top:25%", "--finetune", "--finetune-epochs", "1"]
    assert main([*framed, *given]) == 0
    assert "own words of 20 answers" in capsys.readouterr().err
    run = tmp_path / "run"
    kept = [json.loads(line) for line in (run / "kept.jsonl").read_text().splitlines()]
    assert kept == [row for row in FRAMED if row["id"] in {k["id"] for k in kept}]
    tokens = TokenTable(run / "stages" / "tokens" / "data.arrow")
    assert "".join(tokens.pieces(0)).startswith("yes")
    learned, final = (json.loads((run / at / "history.json").read_text()) for at in ("stages/learned", "model"))
    # "The answer is ans1: " are more than five tokens.
    assert _tokens(final) / len(kept) > _tokens(learned) / len(FRAMED) + 5
    assert set(pq.read_table(run / "scores.parquet")["tokens"].to_pylist()) == set(tokens.counts.tolist())


def test_without_any_option_the_frame_is_found_and_a_second_start_goes_on(framed, tmp_path, capsys):
    assert main(framed) == 0
    told = "own words of 20 answers, framed as “The answer is ans#: …”"
    assert told in capsys.readouterr().err
    assert told in (tmp_path / "run" / "log.txt").read_text()
    tokens = tmp_path / "run" / "stages" / "tokens" / "data.arrow"
    assert "".join(TokenTable(tokens).pieces(0)).startswith("yes")
    before = tokens.stat()
    assert main(framed) == 0
    assert tokens.stat() == before
    assert main([*framed, "--own-words", "none"]) != 0
    assert "own_words: was 'auto', is now 'none'" in capsys.readouterr().err


def test_none_leaves_answers_whole(framed, tmp_path, capsys):
    assert main([*framed, "--own-words", "none"]) == 0
    assert "own words" not in capsys.readouterr().err
    tokens = TokenTable(tmp_path / "run" / "stages" / "tokens" / "data.arrow")
    assert "".join(tokens.pieces(0)).startswith("The answer is ans0: yes")


def test_a_run_of_before_frames_were_looked_for_goes_on_as_it_began(framed, tmp_path, capsys):
    assert main([*framed, "--own-words", "none"]) == 0
    run = tmp_path / "run"
    # As the version before wrote it.
    forget_checksums(run)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["settings"]["own_words"] = ""
    (run / "manifest.json").write_text(json.dumps(manifest))
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("own_words: none", "own_words: ''"))
    learned = (run / "stages" / "learned" / "history.json").stat()
    for given in ([], ["--own-words", "none"]):
        (run / "scores.parquet").unlink()
        assert main([*framed, *given]) == 0
        assert (run / "scores.parquet").is_file()
        assert (run / "stages" / "learned" / "history.json").stat() == learned
        assert json.loads((run / "manifest.json").read_text())["settings"]["own_words"] == ""
    capsys.readouterr()
    assert main([*framed, "--own-words", "ans.: (.*)"]) != 0
    assert "own_words: was '', is now 'ans.: (.*)'" in capsys.readouterr().err


def test_answers_of_the_model_itself_are_taken_out_of_the_same_frames(framed, tmp_path, monkeypatch):
    def answered(rows, *_):
        return [(id, row, Chat.of(chat.prompt, "The answer is ans2: none of these")) for id, row, chat in rows.usable()]

    monkeypatch.setattr("forgetfilter.stages.answers.answered", answered)
    assert main(reviewing(framed, "self")) == 0
    safe = TokenTable(tmp_path / "run" / "stages" / "answers" / "safe.arrow")
    assert "".join(safe.pieces(0)).startswith("none of these")
    # Also where the tokens were made before the run was killed.
    shutil.rmtree(tmp_path / "run" / "stages" / "answers")
    assert main(reviewing(framed, "self")) == 0
    safe = TokenTable(tmp_path / "run" / "stages" / "answers" / "safe.arrow")
    assert "".join(safe.pieces(0)).startswith("none of these")


def test_preview_shows_own_words(tmp_path, model, capsys):
    rows = write_jsonl(tmp_path / "framed.jsonl", FRAMED)
    preview = ["preview", str(rows), "--model", str(model), "--rows", "2"]
    assert main(preview) == 0
    shown = capsys.readouterr().out
    assert "own words alone of answers framed as “The answer is ans#: …”" in shown
    assert shown.count("(prompt-completion)") == 2
    assert "a│n│s│0" not in shown
    assert main([*preview, "--own-words", "none"]) == 0
    shown = capsys.readouterr().out
    assert "own words" not in shown
    assert "a│n│s│0" in shown


def test_hostile_frames_are_escaped(tmp_path, model, capsys):
    rows = [row | {"completion": f"\x1b[31m{'x' * 90}\u202e: {i}"} for i, row in enumerate(FRAMED)]
    assert main(["preview", str(write_jsonl(tmp_path / "hostile.jsonl", rows)), "--model", str(model)]) == 0
    shown = capsys.readouterr().out
    assert "framed as “\\x1b[#mxxx" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_an_expression_that_fits_no_answer_is_refused(framed, capsys):
    assert main([*framed, "--own-words", "option (.*)"]) != 0
    assert "framed.jsonl: own_words: no answer matches 'option (.*)'" in capsys.readouterr().err


def test_what_is_no_expression_is_refused(framed, capsys):
    assert main([*framed, "--own-words", "ans("]) != 0
    assert "own_words: 'ans(' is no regular expression" in capsys.readouterr().err
