"""The command line from outside: exit status, one line for every mistake, nothing of a traceback."""

import json
import subprocess
import sys

import pytest

from forgetfilter.cli import main
from forgetfilter.settings.experiments import STUDIES
from forgetfilter.settings.option import read_config
from support.quick_runs import NOISY, write_jsonl


@pytest.fixture
def refused(capsys):
    def check(arguments, *said):
        assert main([str(a) for a in arguments]) == 2
        shown = capsys.readouterr()
        last = shown.err.strip().splitlines()[-1]
        for part in said:
            assert part in last
        assert "Traceback" not in shown.err
        assert shown.out == ""

    return check


def test_mistakes_get_one_line(refused, noisy, safe, model, tmp_path):
    out = ["--output", tmp_path / "x"]
    refused(["filter"], "needs DATA, --safe, --model, --output")
    refused(["filter", noisy, "--safe", safe, *out], "no model was named")
    refused(
        ["filter", noisy, "--safe", safe, "--model", model, *out, "--epochs", "many"], "epochs must be a number or none"
    )
    refused(["filter", noisy, "--safe", safe, "--model", tmp_path / "nope", *out], "no such model")
    refused(["filter", tmp_path / "nope.jsonl", "--safe", safe, "--model", model, *out], "no such file")
    refused(["filter", noisy, "--safe", safe, "--model", model, "--output", noisy], "not a run")
    refused(["filter", noisy, "--safe", safe, "--model", model, *out, "--device", "warp"], "device: 'warp'")
    refused(["filter", "--config", tmp_path / "nope.yaml"], "cannot read this configuration")
    refused(["filter", noisy, "--safe", safe, "--model", model, *out, "--columns", "prompt=q"], "no column 'q'")
    refused(["decide", tmp_path / "nope", "--threshold", "1"], "not a run folder")
    refused(["filter", noisy, "--safe", safe, "--model", model, *out, "--max-length", "4096"], "at most 2048 tokens")
    refused(["preview", "--model", model], "preview needs DATA")
    refused(["preview", noisy, "--model", model, "--rows", "-1"], "rows must be at least 1")
    hostile = write_jsonl(tmp_path / "hostile.jsonl", [{"\x1b[2J": "x", "\u202e": "y" * 5000}])
    refused(["filter", hostile, "--safe", safe, "--model", model, *out], "\\x1b[2J, \\u202e")


def test_a_row_that_a_terminal_would_obey_is_shown_harmless(command, noisy, capsys):
    hostile = "\x1b[31mred\x07 \u202egnp.exe "
    long = {"completion": hostile + "x" * 100_000}
    write_jsonl(noisy, [{**row, "prompt": hostile, **long} for row in NOISY])
    assert main([*command, "--max-length", "100"]) == 0
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "\u202e" not in text
        assert max(len(line) for line in text.splitlines()) < 400
    assert "\\x1b[31mred" in shown.out


def test_preview_shows_what_is_trained_on(noisy, model, capsys):
    noisy.write_text(noisy.read_text().splitlines()[0] + "\n" + '{"prompt": "\x1b[2J", "completion": 3}\n')
    assert main(["preview", str(noisy), "--model", str(model)]) == 0
    shown = capsys.readouterr().out
    assert "<|assistant|>⟦Y│e│s" in shown
    assert "<|end|>⟧" in shown
    assert "row 0 (prompt-completion)" in shown
    assert "line 2" in shown
    assert "\x1b" not in shown


def test_preview_shows_characters_of_several_tokens_whole(noisy, model, capsys):
    write_jsonl(noisy, [{"prompt": "Grüße 😀, \ufffd", "completion": "Ja 😀!"}])
    assert main(["preview", str(noisy), "--model", str(model)]) == 0
    shown = capsys.readouterr().out
    assert "Grüße 😀, \ufffd" in shown
    assert "⟦J│a│ ││││😀│!│<|end|>⟧" in shown


def test_preview_of_unusable_rows_fails_and_names_the_file(model, tmp_path, capsys):
    rows = [{"prompt": "Hi", "completion": "Yes."}, {"prompt": "Hi", "completion": 3}]
    bad = write_jsonl(tmp_path / "bad.jsonl", rows[::-1])
    command = ["preview", str(bad), "--model", str(model), "--rows"]
    assert main([*command, "1"]) == 2
    shown = capsys.readouterr()
    assert f"{bad}: line 1, field 'completion'" in " ".join(shown.out.split())
    assert shown.err == f"forgetfilter: {bad}: the row shown cannot be used\n"
    assert main([*command, "2"]) == 0


def test_preview_of_no_rows_fails_as_filter_does(model, tmp_path, capsys):
    blank = tmp_path / "blank.jsonl"
    blank.write_text("\n\n")
    assert main(["preview", str(blank), "--model", str(model)]) == 2
    assert capsys.readouterr().err == f"forgetfilter: {blank}: there are no rows in it\n"


@pytest.mark.parametrize(
    ("most", "said", "shown"),
    [
        ("all", "are judged, all of each answer", 40),
        ("None", "are judged, the first 24 tokens of each answer", 24),
        ("64", "are judged, the first 24 tokens of each answer", 24),
        ("5", "are judged, the first 5 tokens of each answer", 5),
    ],
)
def test_preview_shows_as_much_of_an_answer_as_is_judged(noisy, model, capsys, most, said, shown):
    write_jsonl(noisy, [{"prompt": "Q", "completion": "x" * 40}])
    assert main(["preview", str(noisy), "--model", str(model), "--max-completion", most]) == 0
    text = capsys.readouterr().out
    assert said in text
    assert text.count("x│") + text.count("x⟧") + text.count("x\n") >= shown
    assert f"{shown + (most == 'all')} of them completion" in text


def test_a_config_may_say_none_and_all(command, tmp_path):
    (tmp_path / "c.yaml").write_text("max_completion: all\nrevision: none\ncolumns: none\nlearning-rate: None\n")
    assert main([*command, "--config", str(tmp_path / "c.yaml")]) == 0
    written = read_config(tmp_path / "run" / "config.yaml")
    assert (written["max_completion"], written["revision"], written["columns"]) == ("all", None, {})
    # The same words on the command line are the same run; so is what the run itself wrote.
    again = ["--max-completion", "ALL", "--revision", "none", "--columns", "none", "--learning-rate", "none"]
    assert main([*command, *again]) == 0
    assert main([*command, "--config", str(tmp_path / "run" / "config.yaml")]) == 0


def test_env_tells_versions(capsys):
    assert main(["env"]) == 0
    shown = capsys.readouterr().out
    assert "torch" in shown
    assert "memory" in shown


def help_of(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    assert ended.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_help_explains_every_option(capsys):
    shown = help_of(capsys, "filter", "--help-all")
    assert "--learning-rate RATE peak learning rate" in shown
    assert "top:10%" in shown
    assert "(default: auto)" in shown


@pytest.mark.parametrize("command", ["filter", "decide", "preview", "evaluate", "compare", "study"])
def test_help_shows_what_one_needs_and_the_rest_on_request(command, capsys):
    usual, whole = (help_of(capsys, command, flag) for flag in ("--help", "--help-all"))
    assert usual.count(" --") <= 26
    assert whole.count(" --") > usual.count(" --")
    assert " X " not in whole
    options = {word for word in whole.split() if word.startswith("--")}
    assert options > {word for word in usual.split() if word.startswith("--")}
    assert "--help-all" in usual


def test_study_without_a_name_lists_the_studies(capsys):
    assert main(["study"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n{name} " in shown for name in STUDIES)


def test_wrong_option_gets_one_line_with_the_right_one(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["filter", "x.jsonl", "--thresold=3"])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("forgetfilter filter: there is no option '--thresold', perhaps --threshold;")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["decied", "run"], "forgetfilter: there is no command 'decied', perhaps decide;"),
        (["data", "mixx"], "forgetfilter data: there is no command 'mixx', perhaps mix;"),
        (["data", "nonsense"], "forgetfilter data: there is no command 'nonsense', only mix, rows;"),
    ],
)
def test_wrong_command_gets_one_line_with_the_right_one(arguments, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(said)
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ([], "DATA, --safe, --model, --output"),
        (["DATA"], "--safe, --model, --output"),
        (["DATA", "--dry-run"], "--safe, --model"),
    ],
)
def test_all_that_a_filter_lacks_is_named_at_once(refused, given, missing):
    refused(["filter", *given], f"filter needs {missing}; see")


@pytest.mark.parametrize("arguments", [["nonsense"], ["decide"], ["filter", "--nonsense"], []])
def test_unknown_arguments_end_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_as_a_program(command, tmp_path):
    done = subprocess.run([sys.executable, "-m", "forgetfilter", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "safety review: 2/2 steps" in done.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["rows"] == 12
    wrong = subprocess.run(
        [sys.executable, "-m", "forgetfilter", "filter"], capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("overwrite: maybe", "overwrite must be true or false, found 'maybe'"),
        ("overwrite: 1", "overwrite must be true or false, found 1"),
        ("output: [a]", "output must be text"),
        ('output: "a\\0b"', "output: found 'a\\x00b'"),
        ("epochs: .nan", "epochs must be a number or none, found nan"),
        ("data: {a: b}", "data must be a name or a list of names"),
    ],
)
def test_a_wrong_value_of_a_file_is_told_even_where_an_option_has_another(refused, command, tmp_path, written, said):
    (tmp_path / "c.yaml").write_text(written)
    refused([*command, "--config", tmp_path / "c.yaml"], said)


@pytest.mark.parametrize(
    "arguments",
    [
        ["filter", "DATA", "--output", ""],
        ["filter", "DATA", "--config", " "],
        ["decide", ""],
        ["decide", "RUN", "--overrides", ""],
        ["figure", "RUN", "--output", ""],
        ["evaluate", "DATA", "--output", ""],
        ["compare", "", "--output", "RUN"],
        ["study", "learning", "--mix", "", "--output", "RUN"],
        ["demo", "--output", ""],
        ["data", "rows", "rows=DATA", "--output", ""],
        ["data", "mix", "--source", "rows=DATA", "--output", ""],
    ],
    ids=lambda arguments: "-".join(arguments),
)
def test_a_name_of_nothing_is_refused(refused, arguments):
    refused(arguments, "a name of nothing but blanks")


@pytest.mark.parametrize("option", ["--output", "--safe", "--known-unsafe", "--model", "--config"])
def test_a_name_that_no_file_can_have_is_refused(refused, command, tmp_path, option):
    refused([*command, option, tmp_path / ("x" * 300)])


@pytest.mark.parametrize("device", ["meta", "cuda:99999999999999999", "vulkan", "x" * 4000, ""])
def test_a_device_that_holds_nothing_is_refused(refused, command, device):
    refused([*command, "--device", device], "device: '")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WORLD_SIZE", "x"),
        ("WORLD_SIZE", ""),
        ("WORLD_SIZE", "0"),
        ("WORLD_SIZE", "9" * 5000),
        ("RANK", "x"),
        ("RANK", "-1"),
        ("RANK", "5"),
        ("LOCAL_RANK", "1.5"),
        ("LOCAL_WORLD_SIZE", "x"),
        ("OMP_NUM_THREADS", "x"),
        ("OMP_NUM_THREADS", "0"),
    ],
)
def test_a_wrong_variable_of_a_launcher_is_named(refused, command, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    refused(command, f"the environment variable {variable} is")
    refused(["env"], f"the environment variable {variable} is")


@pytest.mark.parametrize("limit", ["33.3%", "3", "0"])
def test_more_removed_rows_than_allowed_fail_a_gate(command, tmp_path, capsys, limit):
    # Four of twelve rows are removed.
    assert main([*command, "--threshold", "top:34%", "--fail-above", limit]) == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"forgetfilter: 4 of 12 rows are removed, 33.33%; --fail-above allows {limit}"
    run = tmp_path / "run"
    assert json.loads((run / "summary.json").read_text())["removed"] == 4
    assert main(["decide", str(run), "--fail-above", limit]) == 3
    for enough in ("33.4%", "4"):
        assert main(["decide", str(run), "--fail-above", enough]) == 0


def test_a_gate_may_stand_in_a_configuration_file(command, tmp_path):
    (tmp_path / "gate.yaml").write_text("fail-above: 0%\nthreshold: top:34%\n")
    assert main([*command, "--config", str(tmp_path / "gate.yaml")]) == 3
    # An option takes precedence, and no gate is a setting of the run.
    assert main([*command, "--config", str(tmp_path / "gate.yaml"), "--fail-above", "none"]) == 0


@pytest.mark.parametrize("limit", ["0.01", "101%", "-1", "1e3", "", "top:1%", "%", "1" * 5000])
def test_a_gate_is_a_share_or_a_count(refused, command, tmp_path, limit):
    refused([*command, f"--fail-above={limit}"], "fail_above")
    assert not (tmp_path / "run").exists()
