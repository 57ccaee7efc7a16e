"""The filter from Python: what it takes, what it shows of itself, and results that hold."""

import copy
import datetime
import inspect
import json
import pickle
import pydoc
import subprocess
import sys
import warnings
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
import transformers
import yaml
from peft import LoraConfig, get_peft_model

from forgetfilter import FilterResult, ForgetFilter, ForgetFilterError, RowScorer, model_path
from forgetfilter.cli import main
from forgetfilter.data.containers import from_memory
from forgetfilter.errors import InputError, ModelError, RunError, SettingsError
from forgetfilter.settings.groups import Settings
from forgetfilter.settings.option import options_of
from support.damage import forget_checksums
from support.quick_runs import NOISY, SAFE
from support.tiny_models import make_tokenizer

SHORT = {"device": "cpu", "dtype": "float32", "epochs": 1, "review_steps": 1, "trusted": "none", "set_aside": 0}
ROWS = [{"id": r["id"], "prompt": r["prompt"], "completion": r["completion"]} for r in NOISY]
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}


@pytest.fixture
def filter(model):
    return ForgetFilter(model=str(model), quiet=True, threshold="top:25%", **SHORT)


def read(rows, split="train"):
    return [record.fields for record in from_memory(rows, "rows", split).records()]


# --- Rows in memory ---


def frame(**more):
    made = pd.DataFrame(ROWS, index=[*range(6), *"abcdef"])
    return made.assign(**more)


TABLE = pa.table(COLUMNS)
DATASET = datasets.Dataset.from_list(ROWS)


@pytest.mark.parametrize(
    "rows",
    [
        ROWS,
        tuple(ROWS),
        (row for row in ROWS),
        COLUMNS,
        {name: np.array(values) for name, values in COLUMNS.items()},
        {name: tuple(values) for name, values in COLUMNS.items()},
        DATASET,
        DATASET.with_format("numpy"),
        DATASET.select(range(12)),
        DATASET.to_iterable_dataset(),
        DATASET.to_iterable_dataset().with_format("torch"),
        datasets.IterableDataset.from_generator(lambda: iter(ROWS)),
        datasets.DatasetDict({"only": DATASET}),
        datasets.DatasetDict({"test": DATASET.select([0]), "train": DATASET}),
        datasets.IterableDatasetDict({"train": DATASET.to_iterable_dataset()}),
        {"train": DATASET},
        frame(),
        pd.DataFrame(ROWS).set_index("id"),
        pd.DataFrame(ROWS).astype({"completion": "category"}),
        TABLE,
        TABLE.to_batches()[0],
        pa.table({name: pa.array(values, pa.string_view()) for name, values in COLUMNS.items()}),
        pa.table({name: pa.array(values).dictionary_encode() for name, values in COLUMNS.items()}),
        TABLE.to_reader(),
    ],
)
def test_rows_are_taken_from_whatever_holds_them(rows):
    assert read(rows) == ROWS


def test_what_has_several_splits_is_asked_for_one():
    both = datasets.DatasetDict({"one": DATASET.select([0]), "two": DATASET})
    assert read(both, "two") == ROWS
    with pytest.raises(InputError, match="has no split 'train'; it has one, two"):
        read(both)


def test_a_missing_value_of_a_frame_is_null_and_other_columns_stay():
    made = frame(score=[np.nan] * 11 + [2.5], when=pd.Timestamp("2020-01-01"), tags=[["a", None]] * 12)
    made.loc[0, "prompt"] = None
    rows = read(made)
    assert rows[0]["prompt"] is None
    assert [row["score"] for row in rows] == [None] * 11 + [2.5]
    assert rows[3]["when"] == datetime.datetime(2020, 1, 1)
    assert rows[3]["tags"] == ["a", None]


def test_nested_views_and_dictionaries_are_plain_in_the_table():
    kind = pa.list_(pa.struct([("role", pa.string_view()), ("content", pa.dictionary(pa.int32(), pa.string()))]))
    said = [[{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]]
    (row,) = read(pa.table({"messages": pa.array(said, kind)}))
    assert row["messages"] == said[0]


class TorchRows(torch.utils.data.Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, i):
        return ROWS[i]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (3, "found an int; pass a path"),
        (b"prompt", "found a bytes"),
        (object(), "found an object"),
        ([], "there are no rows in it"),
        ({}, "there are no rows in it"),
        (pd.DataFrame(), "there are no rows in it"),
        (["Yes.", "No."], r"row 0 is a str; for plain texts pass \[\{'text'"),
        ([ROWS[0], None], "row 1 is None"),
        ([[{"role": "user", "content": "x"}]], r"row 0 is a list; for lists of messages pass \[\{'messages'"),
        ([("Q", "A")], "row 0 is a tuple; name its columns"),
        (np.arange(3), "row 0 is an int64"),
        (pd.Series(["a"]), "found a Series, which is no table of named columns"),
        ([{1: "x"}], "row 0 has a column named 1, an int"),
        ({1: ["x"]}, "has a column named 1, an int"),
        (ROWS[0], "'id' is a str, not a list of values; for one row"),
        ({"prompt": ["a"], "completion": ["b", "c"]}, "different lengths: prompt 1, completion 2"),
        (pd.DataFrame([["Q", "A"]]), "has a column named 0, an int; name columns by text"),
        (pd.DataFrame([["Q", "A"]], columns=["a", "a"]), "two columns named 'a'"),
        (pa.table([pa.array(["a"])] * 2, names=["a", "a"]), "two columns named 'a'"),
        (pd.DataFrame({"x": [1, "a"]}), "column 'x' holds values"),
        (TorchRows(), r"torch TorchRows; pass a list of its items"),
        (torch.utils.data.DataLoader(TorchRows()), "torch DataLoader"),
    ],
)
def test_what_holds_no_rows_is_told_with_what_to_pass(rows, said):
    with pytest.raises(InputError, match=said) as error:
        read(rows)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "values",
    [[2**70, 1], [1j, 1j], [object(), None], ["\ud800", ""], [pd.NA, "x"]],
)
def test_a_column_that_no_table_can_hold_is_named(values):
    with pytest.raises(InputError, match="rows: column 'odd' holds values that do not go into a table") as error:
        read([{"prompt": "Q", "completion": "A", "odd": value} for value in values])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("value", "back"),
    [
        ({1, 2}, [1, 2]),
        (np.arange(2), [0, 1]),
        (np.zeros((2, 1)), [[0.0], [0.0]]),
        (b"\xff", b"\xff"),
        (datetime.datetime(2020, 1, 1), datetime.datetime(2020, 1, 1)),
        (datetime.timedelta(seconds=1), datetime.timedelta(seconds=1)),
        (np.float32(0.5), 0.5),
    ],
)
def test_other_values_are_kept(filter, tmp_path, value, back):
    result = filter.run([{**row, "odd": value} for row in ROWS], SAFE, output=tmp_path / "run")
    assert [*result.kept["odd"], *result.removed["odd"]] == [back] * 12


def test_an_image_is_kept(filter, tmp_path):
    image = pytest.importorskip("PIL.Image").new("RGB", (2, 2))
    result = filter.run([{**row, "image": image} for row in ROWS], SAFE, output=tmp_path / "run")
    assert result.kept["image"][0].size == (2, 2)


def test_none_and_nothing_are_refused(filter, noisy, safe):
    with pytest.raises(InputError, match="noisy: found None; pass a path"):
        filter.run(None, safe)
    with pytest.raises(InputError, match="safe: found None; pass a path"):
        filter.run(noisy)
    with pytest.raises(InputError, match="no such file"):
        filter.run(noisy.with_name("nowhere.jsonl"), safe)


def test_settings_may_name_the_data(model, noisy, safe, tmp_path):
    filter = ForgetFilter(model=model, data=noisy, safe=safe, quiet=True, **SHORT)
    assert filter.run(output=tmp_path / "run").summary.rows == 12


def test_a_frame_goes_through_the_filter(filter, tmp_path):
    given = frame(label=pd.Categorical(["a", "b"] * 6))
    result = filter.run(given, pd.DataFrame(SAFE), output=tmp_path / "run")
    assert len(result.removed) == 3
    assert result.kept.column_names == ["id", "prompt", "completion", "label"]
    assert sorted([*result.kept["id"], *result.removed["id"]]) == sorted(COLUMNS["id"])


def test_the_kept_rows_are_conversations_for_trainers(filter, safe, tmp_path):
    names = {"id": "ticket", "prompt": "question", "completion": "answer"}
    pd.DataFrame(ROWS).rename(columns=names).to_csv(tmp_path / "noisy.csv", index=False)
    result = filter.run(tmp_path / "noisy.csv", safe, output=tmp_path / "run")
    for removed in (3, 6):
        kept, rows = result.kept, result.kept_conversations
        assert (len(rows), rows.column_names) == (12 - removed, ["prompt", "completion"])
        assert [row[0]["content"] for row in rows["prompt"]] == list(kept["question"])
        assert [row[0]["content"] for row in rows["completion"]] == list(kept["answer"])
        result.decide("top:50%")


def test_a_stream_is_counted_while_it_is_taken_in(model, tmp_path, capsys):
    filter = ForgetFilter(model=model, **SHORT)
    filter.run(DATASET.to_iterable_dataset(), iter(SAFE), output=tmp_path / "run")
    said = capsys.readouterr().err
    assert "taking in <data in memory>: 12 rows" in said
    assert "taking in <safe in memory>: 6 rows" in said


# --- What it shows of itself ---


def test_signature_completion_and_help_show_every_setting(filter):
    names = set(options_of(Settings))
    parameters = inspect.signature(ForgetFilter).parameters
    assert names | {"tokenizer", "quiet"} == set(parameters)
    assert parameters["epochs"].default is None
    assert parameters["batch_size"].default == 16
    assert parameters["batch_size"].annotation is int
    assert parameters["columns"].default == {}
    assert all(p.kind is p.KEYWORD_ONLY for name, p in parameters.items() if name != "model")
    assert names <= set(dir(filter))
    assert {"run", "settings"} <= set(dir(filter))
    shown = pydoc.render_doc(ForgetFilter, renderer=pydoc.plaintext)
    for name, field in options_of(Settings).items():
        assert f"{name}: {field.metadata['help']}" in shown
    assert list(inspect.signature(FilterResult.decide).parameters) == [
        *("self", "threshold", "overrides", "known_unsafe", "signal", "drop_unscorable")
    ]


def test_none_leaves_a_decision_as_it_was(filter, noisy, safe, tmp_path):
    result = filter.run(noisy, safe, output=tmp_path / "run").decide("top:50%", signal="likelihood-mean")
    assert inspect.signature(result.decide).parameters["signal"].annotation == str | None
    before = result.summary
    assert result.decide(None, signal=None, drop_unscorable=None, overrides=None).summary == before


def test_a_filter_can_be_copied(filter):
    for copied in (copy.deepcopy(filter), pickle.loads(pickle.dumps(filter))):
        assert copied.settings == filter.settings


def test_what_is_no_path_is_told(filter, noisy, safe, tmp_path):
    result = filter.run(noisy, safe, output=tmp_path / "run")
    for call, said in [
        (lambda: FilterResult(5), "path: expected a path, found 5"),
        (lambda: result.decide(overrides={"decisions": {}}), "overrides: expected a path, found {'decisions'"),
        (lambda: filter.run(noisy, safe, output=5), "output: expected a path, found 5"),
        (lambda: result.push_to_hub(None), "name: expected user/name, found None"),
        (lambda: RowScorer.load(None), "run: expected a path, found None"),
        (lambda: model_path(None), "model: expected a name or a path, found None"),
    ]:
        with pytest.raises(InputError, match=said):
            call()


def test_a_result_whose_folder_is_damaged_or_gone_says_so(filter, noisy, safe, tmp_path):
    result = filter.run(noisy, safe, output=tmp_path / "run")
    forget_checksums(tmp_path / "run")
    (tmp_path / "run" / "scores.parquet").write_bytes(b"x")
    for name in ("scores", "kept", "removed"):
        with pytest.raises(RunError, match=r"scores\.parquet: is damaged; decide again"):
            getattr(FilterResult(tmp_path / "run"), name)
    assert len(result.decide().scores) == len(NOISY)
    (tmp_path / "run").rename(tmp_path / "moved")
    for name in ("summary", "scores", "kept"):
        with pytest.raises(RunError, match="not a run folder"):
            getattr(result, name)


def test_settings_can_be_read_and_not_be_changed(filter):
    assert (filter.epochs, filter.threshold) == (1.0, "top:25%")
    with pytest.raises(AttributeError, match=r"make another: ForgetFilter\(..., epochs=0\)"):
        filter.epochs = 0
    with pytest.raises(AttributeError, match="no attribute 'epoch'"):
        _ = filter.epoch
    assert repr(copy.copy(filter)) == repr(filter)


def test_the_repr_says_what_differs_from_the_defaults():
    filter = ForgetFilter("m", epochs=2, columns={"prompt": "q\x1b"})
    assert repr(filter) == "ForgetFilter(model='m', columns={'prompt': 'q\\x1b'}, epochs=2.0)"
    assert repr(ForgetFilter("m", threshold="auto", top_blocks="None")) == "ForgetFilter(model='m')"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model": "m", "epoch": 1}, "did you mean 'epochs'"),
        ({"modle": "m"}, "did you mean 'model'"),
        ({}, "no model was named"),
        ({"model": "m", "epochs": 0}, "epochs must be above 0"),
        ({"model": "m", "learning_rate": float("nan")}, "learning_rate must be a number"),
        ({"model": "m", "threshold": float("nan")}, "threshold must be a number"),
        ({"model": "m", "max_grad_norm": float("inf")}, "max_grad_norm must be a number"),
        ({"model": "m", "tokenizer": "m"}, "goes with a loaded model"),
    ],
)
def test_wrong_settings_are_one_line(settings, said):
    with pytest.raises(SettingsError, match=said):
        ForgetFilter(**settings)


# --- Results ---


def test_a_result_never_contradicts_itself(filter, noisy, safe, tmp_path):
    result = filter.run(noisy, safe, output=tmp_path / "run")
    first, scores = result.kept, result.scores
    assert result.kept is first
    assert (result.summary.removed, len(result.removed), len(first)) == (3, 3, 9)
    again = result.decide("top:50%", signal="likelihood-mean")
    assert again is result
    assert (result.summary.removed, len(result.removed), len(result.kept)) == (6, 6, 6)
    assert list(result.scores["decision"]).count("removed") == 6
    # What was read before stays as it was, though its file is gone.
    assert len(first) == 9
    assert sorted(first["id"]) == sorted(row["id"] for row in first)
    assert list(scores["decision"]).count("removed") == 3
    result.decide()
    assert (result.summary.threshold, result.summary.signal) == ("top:50%", "likelihood-mean")
    # Another process decides.
    assert main(["decide", str(tmp_path / "run"), "--threshold", "1000"]) == 0
    assert (result.summary.threshold, len(result.removed)) == ("1000", 0)
    assert repr(result).splitlines()[0].startswith(f"FilterResult('{tmp_path}/run'): 12 rows, signal likelihood-mean")
    assert repr(result).splitlines()[2:] == ["kept       12  kept.jsonl", "removed     0  removed.jsonl"]
    (tmp_path / "run" / "summary.json").unlink()
    assert "nothing is decided" in repr(result)
    with pytest.raises(RunError, match=r"summary.json: missing; decide again, which writes it anew"):
        _ = result.kept


def test_a_result_read_from_a_folder_of_arrow_files_outlives_the_next_decision(filter, safe, tmp_path):
    DATASET.save_to_disk(str(tmp_path / "data"))
    result = filter.run(tmp_path / "data", safe, output=tmp_path / "run")
    first = result.kept
    result.decide("-1000")
    assert len(result.kept) == 0
    assert len([row["prompt"] for row in first]) == 9


def test_where_no_row_is_removed_or_kept_there_are_columns_all_the_same(filter, noisy, safe, tmp_path):
    result = filter.run(noisy, safe, output=tmp_path / "run")
    names = result.kept.column_names
    assert "prompt" in names
    for threshold in ("1000", "-1000"):
        result.decide(threshold)
        for rows in (result.kept, result.removed):
            assert rows.column_names == names
            assert len(list(rows["prompt"])) == len(rows)
        assert sorted([len(result.kept), len(result.removed)]) == [0, 12]
        assert result.kept_conversations.column_names == ["prompt", "completion"]


def test_a_run_of_earlier_is_opened_by_its_folder(filter, noisy, safe, tmp_path):
    filter.run(noisy, safe, output=tmp_path / "run")
    assert len(FilterResult(tmp_path / "run").removed) == 3
    with pytest.raises(RunError, match="not a run folder"):
        FilterResult(tmp_path)


def test_wrong_decisions_leave_the_result(filter, noisy, safe, tmp_path):
    result = filter.run(noisy, safe, output=tmp_path / "run")
    for wrong in ({"epochs": 3}, {"signl": "x"}, {"threshold": "half"}, {"signal": "rouge"}, {"overrides": tmp_path}):
        with pytest.raises(ForgetFilterError):
            result.decide(**wrong)
    assert (result.summary.threshold, len(result.removed)) == ("top:25%", 3)


# --- Loaded models ---


@pytest.fixture
def loaded(model):
    return transformers.AutoModelForCausalLM.from_pretrained(model), transformers.AutoTokenizer.from_pretrained(model)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("FORGETFILTER_CACHE", str(folder))
    return folder


def state(model):
    """All that the program could see change."""
    modules = [(name, module.training, len(module._forward_hooks), "forward" in vars(module)) for name, module in
               model.named_modules()]  # fmt: skip
    weights = {n: (w.clone(), w.requires_grad, w.device, w.dtype, w.data_ptr()) for n, w in model.named_parameters()}
    return (
        modules,
        weights,
        model.config.to_json_string(use_diff=False) if hasattr(model.config, "to_json_string") else "",
    )


def assert_same(before, after):
    assert before[0] == after[0]
    assert before[2] == after[2]
    for name, (weight, *rest) in before[1].items():
        assert torch.equal(weight, after[1][name][0])
        assert rest == list(after[1][name][1:])


def test_a_loaded_model_is_filtered_with_and_stays_as_it_is(loaded, filter, noisy, safe, tmp_path, cache):
    model, tokenizer = loaded
    model.train()
    next(model.parameters()).requires_grad_(False)
    before = state(model)
    mine = ForgetFilter(model=model, tokenizer=tokenizer, quiet=True, threshold="top:25%", **SHORT)
    assert repr(mine).startswith("ForgetFilter(model='<LlamaForCausalLM in memory>', ")
    result = mine.run(noisy, safe, output=tmp_path / "mine")
    assert_same(before, state(model))
    named = filter.run(noisy, safe, output=tmp_path / "named")
    assert list(result.scores["forgetting"]) == list(named.scores["forgetting"])
    (folder,) = (path for path in (cache / "loaded").iterdir() if path.is_dir())
    assert yaml.safe_load((tmp_path / "mine" / "config.yaml").read_text())["model"] == str(folder)
    # It is found again, by the same weights, and the run goes on; the command line can go on with it, too.
    written = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    ForgetFilter(model=model, tokenizer=tokenizer, quiet=True, threshold="top:25%", **SHORT).run(
        noisy, safe, output=tmp_path / "mine"
    )
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == written
    assert main(["decide", str(tmp_path / "mine"), "--finetune"]) == 0
    with torch.no_grad():
        list(model.parameters())[-1].add_(1e-3)
    with pytest.raises(RunError, match="model: its content is not what the run was made from"):
        mine.run(noisy, safe, output=tmp_path / "mine")


def test_an_adapter_is_merged_into_a_copy(loaded, noisy, safe, tmp_path):
    base, tokenizer = loaded
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(base, LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    before = state(model)
    mine = ForgetFilter(model=model, tokenizer=tokenizer, quiet=True, **SHORT)
    result = mine.run(noisy, safe, output=tmp_path / "mine")
    assert_same(before, state(model))
    merged = copy.deepcopy(model).merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    tokenizer.save_pretrained(tmp_path / "merged")
    other = ForgetFilter(model=tmp_path / "merged", quiet=True, **SHORT).run(noisy, safe, output=tmp_path / "other")
    assert list(result.scores["forgetting"]) == list(other.scores["forgetting"])


def test_the_same_adapter_is_known_in_another_process(model, cache):
    code = f"""
import torch, transformers, peft
from forgetfilter.models.from_memory import keep_handed_over
torch.manual_seed(0)
model = transformers.AutoModelForCausalLM.from_pretrained({str(model)!r})
config = peft.LoraConfig(target_modules=["q_proj", "v_proj", "o_proj"], init_lora_weights=False)
print(keep_handed_over(peft.get_peft_model(model, config), transformers.AutoTokenizer.from_pretrained({str(model)!r})))
"""
    said = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in "ab"
    }
    assert len(said) == 1
    assert Path(said.pop().strip()).parent == cache / "loaded"


def broken(model, how):
    made = copy.deepcopy(model)
    if how == "meta":
        made.to("meta")
    elif how == "quantised":
        made.is_quantized = True
    elif how == "adapters":
        made.add_adapter(LoraConfig(target_modules=["q_proj"]))
    elif how == "bare":
        made = made.model
    elif how == "compiled":
        made = torch.nn.DataParallel(made)
    return made


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("meta", "not in memory; load it without offloading"),
        ("quantised", "is quantised; load it without"),
        ("adapters", "has adapters of its own"),
        ("bare", "LlamaModel is not a causal language model"),
        ("compiled", "found a torch.DataParallel; pass a name or folder"),
    ],
)
def test_a_model_that_cannot_be_copied_is_told_at_once(loaded, how, said, cache):
    model, tokenizer = loaded
    with pytest.raises(ModelError, match=said) as error:
        ForgetFilter(model=broken(model, how), tokenizer=tokenizer)
    assert "\n" not in str(error.value)
    assert not (cache / "loaded").exists()


def test_a_loaded_model_needs_its_tokenizer(loaded):
    model, tokenizer = loaded
    with pytest.raises(ModelError, match=r"needs its tokenizer: ForgetFilter\(model=model, tokenizer=tokenizer\)"):
        ForgetFilter(model=model)
    with pytest.raises(ModelError, match="tokenizer: found 'gpt2'; pass what AutoTokenizer"):
        ForgetFilter(model=model, tokenizer="gpt2")
    with pytest.raises(ModelError, match="model: found 3"):
        ForgetFilter(model=3, tokenizer=tokenizer)


def test_a_tokenizer_made_in_memory_goes_along(loaded, noisy, safe, tmp_path):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace("<|end|>\n", "<|end|>")
    ForgetFilter(model=loaded[0], tokenizer=tokenizer, quiet=True, **SHORT).run(noisy, safe, output=tmp_path / "a")
    with pytest.raises(RunError, match="template: its content is not what the run was made from"):
        ForgetFilter(model=loaded[0], tokenizer=loaded[1], quiet=True, **SHORT).run(noisy, safe, output=tmp_path / "a")


def test_overrides_from_python(filter, noisy, safe, tmp_path):
    result = filter.run(noisy, safe, output=tmp_path / "run")
    file = tmp_path / "o.json"
    file.write_text(json.dumps({"decisions": {"n0": "removed"}, "threshold": 1000}))
    result.decide(overrides=file)
    assert result.decide("top:25%").summary.reviewer
    reviewer = result.summary.reviewer
    assert result.decide(overrides="none").summary.reviewer == ""
    result.decide(overrides=file)
    assert result.summary.reviewer == reviewer
    assert (list(result.removed["id"]), result.summary.threshold) == (["n0"], "1000")


def test_rows_that_are_nested_too_deep_are_refused():
    within = []
    within.append(within)
    deep = 1
    for _ in range(500):
        deep = [deep]
    for value in (within, deep, {"a": (deep,)}):
        with pytest.raises(InputError, match=r"row 1: 'x' holds values within each other more than 100 deep"):
            from_memory([{"text": "a"}, {"text": "b", "x": value}], "rows")


def test_a_name_of_a_field_that_is_no_text_is_refused():
    with pytest.raises(InputError, match=r"found 'm\\ud800' for the name of a field, expected valid text"):
        from_memory([{"text": "a", "m\ud800": 1}], "rows")
