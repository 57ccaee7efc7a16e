"""Mixes: what is drawn, that no group is in two sets, and what is done with a folder that is there already."""

import json
import shlex
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from forgetfilter.cli import main
from forgetfilter.console import Console
from forgetfilter.data.containers import open_container
from forgetfilter.data.rows import ReadOptions, read_chats
from forgetfilter.errors import InputError, RunError, SettingsError
from forgetfilter.experiments.mixing import build_mix, read_mix
from forgetfilter.experiments.published.examples import Example
from forgetfilter.experiments.sampling import chosen_notions, draw, pools_of
from forgetfilter.models import sources as model_sources
from forgetfilter.settings.experiments import MixSettings
from support.documents import blocks
from support.published_files import write_alpaca, write_bbq, write_squad
from support.quick_runs import write_jsonl

SHARED = Path(__file__).parents[3] / "shared" / "data"
QUIET = Console(quiet=True)
SMALL = MixSettings(size=40, unsafe_share=0.5, safe_size=30, held_out=30)


def make(label, notion, count, groups, name):
    return [
        Example(f"{name}-{label}-{i}", f"P{i}", f"C{i}", label, notion, name, f"{name}-{i % groups}")
        for i in range(count)
    ]


def sources(scale=1):
    bias = [*make("unsafe", "bias", 120 * scale, 20, "b"), *make("safe", "bias", 240 * scale, 20, "b")]
    toxic = [*make("unsafe", "toxicity", 80 * scale, 80, "t"), *make("safe", "toxicity", 160 * scale, 80, "t")]
    return [
        ("bbq", bias),
        ("rows", toxic),
        ("squad", make("task", "task", 60 * scale, 30, "s")),
        ("alpaca", make("task", "task", 60 * scale, 60, "a")),
    ]


def drawn(settings=SMALL, given=None, notion="mix"):
    pools = pools_of(given or sources())
    return draw(pools, chosen_notions(notion, pools), settings)


def test_shares_are_as_in_the_authors_code():
    parts = drawn(notion="bias")
    kinds = {part: Counter((e.label, e.source) for e in rows) for part, rows in parts.items()}
    # int(40 / 2) unsafe; the other 20 in equal parts safe, SQuAD and Alpaca, the first of which has what is over.
    assert kinds == {
        "noisy": {("unsafe", "b"): 20, ("safe", "b"): 7, ("task", "s"): 7, ("task", "a"): 6},
        "safe": {("safe", "b"): 30},
        "held-out": {("safe", "b"): 10, ("task", "s"): 10, ("task", "a"): 10},
    }


def test_a_mix_of_notions_is_in_equal_parts():
    parts = drawn()
    noisy = Counter((e.label, e.notion) for e in parts["noisy"])
    assert (noisy["unsafe", "bias"], noisy["unsafe", "toxicity"]) == (10, 10)
    assert (noisy["safe", "bias"], noisy["safe", "toxicity"]) == (4, 3)
    assert Counter(e.notion for e in parts["safe"]) == {"bias": 15, "toxicity": 15}
    assert Counter(e.notion for e in parts["held-out"]) == {"bias": 8, "toxicity": 8, "task": 14}


@pytest.mark.parametrize(("share", "unsafe"), [(0, 0), (0.25, 10), (0.99, 39), (1, 40)])
def test_the_unsafe_share_is_exact(share, unsafe):
    noisy = drawn(MixSettings(size=40, unsafe_share=share, safe_size=10, held_out=0), notion="bias")["noisy"]
    assert len(noisy) == 40
    assert sum(e.label == "unsafe" for e in noisy) == unsafe


@pytest.mark.parametrize("seed", range(5))
def test_no_group_is_in_two_sets(seed):
    parts = drawn(MixSettings(size=40, safe_size=30, held_out=30, seed=seed))
    groups = {part: {e.group for e in rows} for part, rows in parts.items()}
    assert not groups["noisy"] & groups["safe"]
    assert not groups["noisy"] & groups["held-out"]
    assert not groups["safe"] & groups["held-out"]
    # Of the same template are neither the unsafe and the safe rows of bias within the noisy set.
    of_bias = {
        label: {e.group for e in parts["noisy"] if (e.notion, e.label) == ("bias", label)}
        for label in ("unsafe", "safe")
    }
    assert of_bias["unsafe"]
    assert not of_bias["unsafe"] & of_bias["safe"]


def test_a_group_of_two_sources_stays_in_one_set():
    twice = [("alpaca", make("task", "task", 60, 60, "a")), ("rows", make("task", "task", 60, 60, "a"))]
    parts = drawn(given=[*sources()[:1], *twice], notion="bias")
    assert {e.group for e in parts["noisy"]}.isdisjoint(e.group for e in parts["held-out"])
    ids = [e.id for rows in parts.values() for e in rows]
    assert len(set(ids)) == len(ids)


def test_ids_that_are_there_twice_get_a_suffix():
    one = Example("a", "P", "C", "task", "task", "s", "g")
    given = [("rows", [one, replace(one, id="a#2"), replace(one, completion="D"), replace(one, completion="B")])]
    (pool,) = pools_of(given).values()
    assert [(e.id, e.completion) for e in pool] == [("a", "B"), ("a#2", "C"), ("a#3", "D"), ("a#2#2", "C")]
    assert pools_of([("rows", given[0][1][::-1])])["rows"] == pool


def test_the_order_of_the_file_does_not_matter():
    turned = [(name, examples[::-1]) for name, examples in sources()]
    assert drawn() == drawn(given=turned)


def test_another_seed_draws_others():
    first, second = drawn(), drawn(MixSettings(size=40, safe_size=30, held_out=30, seed=1))
    assert {e.id for e in first["noisy"]} != {e.id for e in second["noisy"]}
    assert drawn() == first


def test_a_small_set_is_drawn_from_many_groups():
    noisy = drawn(MixSettings(size=10, unsafe_share=1, safe_size=10, held_out=10), notion="bias")["noisy"]
    assert len({e.group for e in noisy}) >= 4


def test_nearly_all_there_is_can_be_drawn():
    settings = MixSettings(size=100, unsafe_share=0.5, safe_size=20, held_out=30)
    assert {part: len(rows) for part, rows in drawn(settings).items()} == {"noisy": 100, "safe": 20, "held-out": 30}


def test_too_few_rows_say_what_is_wanted_and_there():
    with pytest.raises(InputError) as caught:
        drawn(MixSettings(size=40, safe_size=400, held_out=30), notion="bias")
    message = str(caught.value)
    assert "safe wants 400 safe and gets" in message
    assert "of 240 safe and 120 unsafe in 20 groups" in message
    assert "--safe-size" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("named", "error", "said"),
    [
        ("bias,rudeness", SettingsError, "found 'rudeness'"),
        ("harmfulness", InputError, "no source has rows of harmfulness"),
    ],
)
def test_notions_that_are_not_there(named, error, said):
    with pytest.raises(error, match=said):
        chosen_notions(named, pools_of(sources()))


def test_notions_come_in_one_order():
    assert chosen_notions("toxicity, bias", pools_of(sources())) == ["bias", "toxicity"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with BBQ, SQuAD and Alpaca files of ours, to work in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "BBQ").mkdir()
    write_bbq(tmp_path / "BBQ" / "data")
    write_squad(tmp_path / "dev-v2.0.json")
    write_alpaca(tmp_path / "alpaca_data.json")
    return tmp_path


NAMED = ["bbq=BBQ/data", "squad=dev-v2.0.json", "alpaca=alpaca_data.json"]
MIX = ["data", "mix", *(word for name in NAMED for word in ("--source", name)), "--output", "mix"]
MIX += ["--size", "40", "--safe-size", "30", "--held-out", "30"]


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_command_writes_ordinary_files(place, capsys):
    assert main(MIX) == 0
    assert "unsafe" in capsys.readouterr().out
    mix = read_mix(place / "mix")
    assert (mix.notions, mix.unsafe_share, mix.seed) == (("bias",), 0.5, 0)
    noisy, safe, held_out = (rows_of(path) for path in (mix.noisy, mix.safe, mix.held_out))
    assert [len(rows) for rows in (noisy, safe, held_out)] == [40, 30, 30]
    assert {tuple(row) for row in noisy + safe} == {("id", "prompt", "completion", "label", "notion", "source")}
    assert {row["label"] for row in safe} == {"safe"}
    by_source = {row["source"].split("/")[0]: row for row in held_out}
    assert {"group", "options", "correct", "unknown", "stereotype", "condition"} <= set(by_source["BBQ"])
    assert "answers" in by_source["SQuAD"]
    assert {row["condition"] for row in held_out if "condition" in row} == {"ambiguous", "disambiguated"}
    assert sum(mix.info["counts"]["noisy"]["unsafe"]["bias"].values()) == 20
    assert [source["examples"] for source in mix.info["sources"]] == [576, 36, 30]
    assert sorted(path.name for path in place.iterdir() if path.name.startswith(".")) == []


def test_the_same_mix_is_left_as_it_is_and_another_is_refused(place, capsys):
    assert main(MIX) == 0
    before, seen = contents(place / "mix"), (place / "mix").stat().st_ino
    assert main(MIX) == 0
    assert "is there already" in capsys.readouterr().err
    assert (place / "mix").stat().st_ino == seen
    assert main([*MIX, "--seed", "1"]) == 2
    assert "holds another mix (settings differ)" in capsys.readouterr().err
    assert contents(place / "mix") == before
    assert main([*MIX, "--seed", "1", "--overwrite"]) == 0
    assert contents(place / "mix")["noisy.jsonl"] != before["noisy.jsonl"]
    assert main([*MIX, "--overwrite"]) == 0
    assert contents(place / "mix") == before


def test_changed_files_are_not_taken_for_the_mix(place, capsys):
    assert main(MIX) == 0
    path = place / "mix" / "safe.jsonl"
    path.write_text(path.read_text() + "\n")
    assert main(MIX) == 2
    assert "safe.jsonl differ" in capsys.readouterr().err


def test_a_failing_mix_costs_nothing_that_is_there(place, capsys):
    assert main(MIX) == 0
    before = contents(place / "mix")
    assert main([*MIX, "--overwrite", "--safe-size", "9999"]) == 2
    assert "too few rows" in capsys.readouterr().err
    (place / "dev-v2.0.json").write_text("{}")
    assert main([*MIX, "--overwrite"]) == 2
    assert contents(place / "mix") == before


def test_what_is_no_mix_is_never_replaced(place):
    (place / "mix").mkdir()
    (place / "mix" / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(RunError, match="it is not a mix"):
            build_mix(NAMED, SMALL, place / "mix", QUIET, overwrite=overwrite)
    (place / "mix" / "thesis.txt").unlink()
    build_mix(NAMED, SMALL, place / "mix", QUIET)
    (place / "mix" / "run").mkdir()
    with pytest.raises(RunError, match="holds run, which is not of the mix"):
        build_mix(NAMED, SMALL, place / "mix", QUIET, overwrite=True)
    assert (place / "mix" / "run").is_dir()


def test_what_a_killed_attempt_left_is_cleared(place):
    (place / ".partial.mix").mkdir()
    (place / ".partial.mix" / "half").write_text("x")
    assert main(MIX) == 0
    assert len(contents(place / "mix")) == 4
    assert not (place / ".partial.mix").exists()


@pytest.mark.parametrize("info", [None, "{", "{}", "[]", '{"settings": {}, "notions": []}'])
def test_a_folder_that_is_no_mix_is_refused(place, info):
    assert main(MIX) == 0
    path = place / "mix" / "mix.json"
    path.unlink() if info is None else path.write_text(info)
    with pytest.raises(RunError, match=r"mix\.json"):
        read_mix(place / "mix")


def test_rows_of_one_source_and_back(place, capsys):
    command = ["data", "rows", "bbq=BBQ/data", "--output", "bias.jsonl"]
    assert main(command) == 0
    assert "576 rows" in capsys.readouterr().out
    assert main(command) == 2
    assert "is there already" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    # Written rows are labelled rows with groups, and give the mix that the source itself gives.
    assert main(MIX) == 0
    assert main([*MIX[:3], "rows=bias.jsonl", *MIX[4:9], "again", *MIX[10:]]) == 0
    assert contents(place / "again")["held-out.jsonl"] == contents(place / "mix")["held-out.jsonl"]


def test_hostile_rows_are_written_whole(place, capsys):
    odd = {"label": "safe", "notion": "bias", "source": "\x1b[2J\udc80", "extra": "\udc80"}
    rows = [{"id": f"r{i}", "prompt": f"Q{i}\u2028", "completion": "A", **odd} for i in range(9)]
    (place / "odd.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["data", "mix", "--source", "rows=odd.jsonl", "--output", "odd", "--size", "3", "--unsafe-share", "0"]
    assert main([*command, "--safe-size", "3", "--held-out", "3"]) == 0
    assert "\x1b" not in "".join(capsys.readouterr())
    found = [row for part in ("noisy", "safe", "held-out") for row in rows_of(place / "odd" / f"{part}.jsonl")]
    assert sorted(row["prompt"] for row in found) == [f"Q{i}\u2028" for i in range(9)]
    assert {row["source"] for row in found} == {"\x1b[2J\udc80"}


def test_wrong_settings_are_explained(place, capsys):
    assert main([*MIX, "--unsafe-share", "2"]) == 2
    assert "unsafe_share must be between 0 and 1" in capsys.readouterr().err
    assert not (place / "mix").exists()


def test_the_filter_reads_the_same_without_the_labels(place):
    assert main(MIX) == 0
    noisy = rows_of(place / "mix" / "noisy.jsonl")
    bare = [{name: row[name] for name in ("id", "prompt", "completion")} for row in noisy]
    write_jsonl(place / "bare.jsonl", bare)
    said = [
        [chat.messages for _, _, chat in read_chats(open_container(name, "train"), ReadOptions())]
        for name in ("mix/noisy.jsonl", "bare.jsonl")
    ]
    assert said[0] == said[1]
    assert len(said[0]) == 40


def test_the_documents_commands_run_as_they_stand(tmp_path, model, monkeypatch):
    monkeypatch.setattr(model_sources, "_smollm2", lambda: model_sources.ModelSource(str(model)))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "BBQ").mkdir()
    write_bbq(tmp_path / "BBQ" / "data", templates=100, pairs=10)
    write_squad(tmp_path / "dev-v2.0.json", passages=400)
    write_alpaca(tmp_path / "alpaca_data.json", count=1000)
    (tmp_path / "comments.csv").write_text("comment,toxicity\nWe are so glad,0.01\n")
    for file, notion in (("harmful", "harmfulness"), ("toxic", "toxicity")):
        examples = [*make("unsafe", notion, 1000, 1000, notion), *make("safe", notion, 5000, 5000, notion)]
        write_jsonl(tmp_path / f"{file}.jsonl", [example.fields() for example in examples])
    for block in blocks("docs/how-to/data.md", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            assert main(shlex.split(line.removeprefix("$ "))[1:]) == 0, line


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data: published BBQ, SQuAD and Alpaca files")
def test_a_mix_of_all_notions_from_published_files(tmp_path):
    original, normalised = SHARED / "original", SHARED / "normalised"
    named = [
        f"bbq={original / 'bbq_official'}",
        *(f"rows={normalised / name}.jsonl" for name in ("davidson", "gptfuzz_train", "safety_tuned_llamas")),
        f"squad={original / 'squad_v2_cs224n_dev' / 'dev-v2.0.json.gz'}",
        f"alpaca={original / 'task_alpaca_demo' / 'alpaca_en_demo.json.gz'}",
    ]
    settings = MixSettings(size=1200, unsafe_share=0.25, safe_size=1200, held_out=600)
    mix = build_mix(named, settings, tmp_path / "mix", QUIET)
    rows = {path.stem: rows_of(path) for path in (mix.noisy, mix.safe, mix.held_out)}
    assert {name: len(one) for name, one in rows.items()} == {"noisy": 1200, "safe": 1200, "held-out": 600}
    assert Counter(row["notion"] for row in rows["noisy"] if row["label"] == "unsafe") == dict.fromkeys(
        ("bias", "toxicity", "harmfulness"), 100
    )
    sets = defaultdict(set)
    for name, one in rows.items():
        for row in one:
            # The template of a BBQ row is in its id; all others are told apart by their prompts, if they have one.
            template = "-".join(row["id"].split("-")[:3])
            words = row["prompt"] or row["completion"]
            sets[name].add(template if row["notion"] == "bias" else " ".join(words.casefold().split()))
    assert not sets["noisy"] & sets["safe"]
    assert not sets["noisy"] & sets["held-out"]
    assert not sets["safe"] & sets["held-out"]
