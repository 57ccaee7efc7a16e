"""Whatever ends a command is one line, and no output that nobody can read ends one."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from forgetfilter import FilterResult
from forgetfilter.cli import main
from forgetfilter.console import Console, printable, shell_word, show
from forgetfilter.errors import RunError
from forgetfilter.runs.layout import LOG
from support.quick_runs import NOISY, QUICK, SAFE, write_jsonl

HOSTILE = "a\x1b]0;owned\x07\x1b[31m\n\u202eb\u2028 'c'"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, model):
    """A finished run in a folder whose name a terminal would obey."""
    place = tmp_path_factory.mktemp("finished")
    noisy, safe = write_jsonl(place / "noisy.jsonl", NOISY), write_jsonl(place / "safe.jsonl", SAFE)
    run = place / HOSTILE
    assert main(["filter", str(noisy), "--safe", str(safe), "--model", str(model), "--output", str(run), *QUICK]) == 0
    return run


def failing(error):
    def fail(*_, **__):
        raise error

    return fail


def caused_by(cause):
    error = RuntimeError("a library's own words")
    error.__cause__ = cause
    return error


REFUSALS = [
    (OSError(errno.ENOSPC, "x", "/some/file"), "/some/file: no space left on the disk"),
    (OSError(errno.EDQUOT, "x"), "no space left in the disk quota"),
    (OSError(errno.EROFS, "x"), "read-only file system"),
    (OSError(errno.EACCES, "x"), "permission denied"),
    (OSError(errno.EMFILE, "x"), "too many open files"),
    (OSError(errno.ENFILE, "x"), "too many open files"),
    (OSError(errno.EFBIG, "x"), "a file would be too large"),
    (OSError(errno.ENOMEM, "x"), "not enough memory"),
    (OSError(errno.ENAMETOOLONG, "x", b"\xff"), "\\udcff: the name is too long"),
    (OSError("2048 requested and 100 written"), "no space left on the disk"),
    (MemoryError(), "not enough memory"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 1 bytes"), "not enough memory"),
    (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "not enough memory"),
    (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "not enough memory"),
    (ValueError("Error while serializing: I/O error: No space left on device (os error 28)"), "no space left"),
    (RuntimeError("can't start new thread"), "no more threads can be started"),
    (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in [...]"), "no temporary folder"),
    (caused_by(OSError(errno.EIO, "x")), "the disk cannot be read or written"),
    (RuntimeError("[/gloo/transport/tcp/pair.cc:553] Connection closed by peer"), "processes that share the work has"),
]


@pytest.mark.parametrize(("error", "said"), REFUSALS, ids=[said for _, said in REFUSALS])
def test_what_the_system_refuses_is_one_line(error, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("forgetfilter.pipeline.run_decide", failing(error))
    assert main(["decide", str(tmp_path)]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert said in shown
    assert f"; the last decision in {tmp_path} stands, whole. " in shown


def test_an_unexpected_error_is_one_line_and_its_traceback_is_kept(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("forgetfilter.pipeline.run_decide", failing(KeyError("\x1b[31m")))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def shown(run) -> str:
        assert main(["decide", str(run)]) == 1
        text = capsys.readouterr().err
        assert text.count("\n") == 1
        assert text.startswith("forgetfilter: unexpected KeyError: ")
        assert "\x1b" not in text
        return text

    assert "owned\\x07\\x1b[31m\\n\\u202eb\\u2028 'c'/log.txt; please report it" in shown(finished)
    assert "Traceback" in (finished / LOG).read_text()
    # Where there is no run, it goes into a temporary file.
    assert not list(tmp_path.iterdir())
    place = shown(tmp_path / "none").split("The traceback is in ")[1].split(";")[0]
    kept = Path(place).read_text()
    assert "Traceback" in kept
    assert "\x1b" not in kept
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    assert "It was raised in line" in shown(tmp_path / "none")


def test_python_sees_the_same_words(finished, monkeypatch):
    monkeypatch.setattr("forgetfilter.pipeline.run_decide", failing(OSError(errno.ENOSPC, "x")))
    with pytest.raises(RunError, match="no space left on the disk"):
        FilterResult(finished).decide()
    monkeypatch.setattr("forgetfilter.pipeline.run_decide", failing(OSError(errno.ECHILD, "x")))
    with pytest.raises(ChildProcessError):
        FilterResult(finished).decide()


def test_a_terminal_obeys_no_name(finished, capsys):
    assert main(["decide", str(finished)]) == 0
    assert main(["figure", str(finished)]) == 0
    assert main(["decide", str(finished / HOSTILE)]) == 2
    assert main(["filter", "x", "--safe", "y", "--model", HOSTILE, "--output", "z"]) == 2
    for arguments in ([HOSTILE], ["filter", f"--{HOSTILE.split()[0]}"], ["study", HOSTILE, "--output", "x"]):
        with pytest.raises(SystemExit):
            main(arguments)
    shown = capsys.readouterr()
    assert "owned\\x07\\x1b[31m\\n\\u202eb\\u2028 'c'/report.html" in shown.out
    for text in (shown.out, shown.err):
        assert not set(text) & set("\x1b\x07\u202e\u2028")
        assert "owned" in text


@pytest.mark.parametrize("name", [HOSTILE, "plain", "it's $HOME", "ä\x85\\n", os.fsdecode(b"\xff")])
def test_a_shell_reads_a_quoted_name_as_it_is(name):
    word = shell_word(name)
    assert word.isprintable()
    said = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True).stdout
    assert os.fsdecode(said) == name


class Broken(io.StringIO):
    def write(self, _):
        raise BrokenPipeError(errno.EPIPE, "x")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("kind", ["broken", "closed", "none", "ascii"])
def test_progress_goes_on_whatever_the_stream(kind, tmp_path, monkeypatch):
    narrow = io.BytesIO()
    streams = {"broken": Broken(), "closed": io.StringIO(), "ascii": io.TextIOWrapper(narrow, "ascii"), "none": None}
    streams["closed"].close()
    monkeypatch.setattr("sys.stderr", streams[kind])
    console = Console()
    console.log_to(tmp_path / LOG)
    with console.progress("reading → here", 2, "rows") as progress:
        progress.advance(2)
    assert "reading → here: 2/2 rows" in (tmp_path / LOG).read_text()
    assert kind != "ascii" or b"reading \\u2192 here: 2/2 rows" in narrow.getvalue()
    show("→", streams[kind])


def test_a_bar_shows_names_safely():
    stream = Terminal()
    with Console(stream).progress("reading \x1b]0;owned\x07", 2, "rows") as progress:
        progress.advance()
    assert "reading \\x1b]0;owned\\x07" in stream.getvalue()
    assert "\x1b]0;" not in stream.getvalue()


def test_a_log_that_cannot_be_written_ends_and_not_the_work(tmp_path):
    stream = io.StringIO()
    console = Console(stream)
    console.log_to(tmp_path)
    console.say("one")
    console.say("two")
    assert stream.getvalue().splitlines() == ["one", f"{tmp_path}: the log ends here: Is a directory", "two"]


# By what each leaves the status of the command, `$@`, as it is.
STREAMS = {
    "stdout full": '"$@" >/dev/full',
    "stdout closed": '"$@" >&-',
    "stdout without a reader": 'set -o pipefail; "$@" | true',
    "stderr full": '"$@" 2>/dev/full',
    "all closed": '"$@" <&- >&- 2>&-',
    "ASCII": 'PYTHONIOENCODING=ascii "$@"',
}


@pytest.mark.parametrize("redirect", STREAMS.values(), ids=STREAMS)
@pytest.mark.parametrize(("arguments", "status"), [(["filter", "--help"], 0), (["decide", "no-run"], 2)])
def test_no_stream_costs_the_status(arguments, status, redirect, tmp_path):
    command = ["bash", "-c", redirect, "-", sys.executable, "-m", "forgetfilter", *arguments]
    done = subprocess.run(command, capture_output=True, check=False, cwd=tmp_path)
    assert done.returncode == status
    assert b"Traceback" not in done.stderr
    assert b"ignored" not in done.stderr


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path):
    code = "from forgetfilter.console import guard_streams; guard_streams(); print('x', flush=True)\n"
    code += f"with open({str(tmp_path / 'file')!r}, 'w') as file: raise SystemExit(file.fileno())"
    done = subprocess.run(
        ["bash", "-c", '"$@" <&- >&- 2>&-', "-", sys.executable, "-c", code], check=False, capture_output=True
    )
    assert done.returncode > 2
    assert not (tmp_path / "file").read_text()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\n" * 500 + "Kill them all", "Kill them all"),
        ("Hello." + " " * 500 + "Kill them", "Hello. Kill them"),
        ("a " * 500, "a a a a a a a a a …"),
        ("x" * 10_000_000, "x" * 18 + "…"),
        ("short", "short"),
    ],
)
def test_white_space_hides_no_text(text, shown):
    assert printable(text, 19) == shown
