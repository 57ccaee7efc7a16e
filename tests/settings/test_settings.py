"""Settings: one place for every option, read from a shell, from YAML and from Python alike."""

import dataclasses
import typing
from pathlib import Path

import numpy as np
import pytest

from forgetfilter.errors import SettingsError
from forgetfilter.settings.experiments import CompareSettings, MixSettings, StudySettings
from forgetfilter.settings.groups import EvaluationSettings, PreviewSettings, Settings
from forgetfilter.settings.option import (
    from_mapping,
    groups_of,
    keyword_parameters,
    options_of,
    read_config,
    settings_of,
    to_mapping,
    values_of,
    with_options,
    write_config,
)

EVERY = (Settings, PreviewSettings, EvaluationSettings, CompareSettings, StudySettings, MixSettings)


def test_text_and_values_are_read_alike():
    text = from_mapping(Settings, {"learning-rate": "1e-3", "epochs": "2", "columns": "prompt=q,completion=a"})
    values = from_mapping(
        Settings, {"learning_rate": 0.001, "epochs": 2, "columns": {"prompt": "q", "completion": "a"}}
    )
    assert text == values


def test_numbers_of_numpy_are_numbers():
    settings = from_mapping(Settings, {"threshold": np.float32(0.5), "epochs": np.float64(2), "seed": np.int64(7)})
    assert (settings.decision.threshold, settings.sessions.epochs, settings.training.seed) == ("0.5", 2.0, 7)


def test_yaml_that_looks_like_text_is_still_a_number(tmp_path):
    # YAML 1.1 takes 1e-3 for text.
    (tmp_path / "c.yaml").write_text("learning_rate: 1e-3\nskip_bad_rows: true\nrevision: null\n")
    settings = from_mapping(Settings, read_config(tmp_path / "c.yaml"))
    assert settings.training.learning_rate == 0.001
    assert settings.data.skip_bad_rows is True
    assert settings.model.revision is None


@pytest.mark.parametrize(
    ("given", "read", "stored"),
    [("s.jsonl", ("s.jsonl",), "s.jsonl"), ("", (), []), (["a", "self"], ("a", "self"), ["a", "self"])],
)
def test_one_safe_set_is_a_name_and_several_are_a_list(tmp_path, given, read, stored):
    settings = from_mapping(Settings, {"safe": given})
    assert settings.safe.safe == read
    write_config(tmp_path / "c.yaml", settings)
    assert read_config(tmp_path / "c.yaml")["safe"] == stored
    assert from_mapping(Settings, read_config(tmp_path / "c.yaml")) == settings


@pytest.mark.parametrize(
    "name", ["lora_targets", "rivals", "filters", "strategies", "models", "unsafe_shares", "lm_eval"]
)
def test_names_with_commas_between_may_be_a_list(tmp_path, name):
    names = {"rivals": ["judge", "random"], "filters": ["judge", "random"], "strategies": ["none", "replay"]}
    given = names.get(name, [0.1, 0.5] if name == "unsafe_shares" else ["q_proj", "v_proj"])
    cls = StudySettings if name in options_of(StudySettings) else CompareSettings
    text = ",".join(map(str, given))
    assert values_of(from_mapping(cls, {name: given}))[name] == text
    (tmp_path / "list.yaml").write_text(f"{name}: [{', '.join(map(str, given))}]\n")
    assert from_mapping(cls, read_config(tmp_path / "list.yaml")) == from_mapping(cls, {name: text})


@pytest.mark.parametrize(
    "names", [["q_proj,v_proj"], ["q_proj", ""], [" q_proj"], [["q_proj"]], {"q_proj": "x"}, [None]]
)
def test_a_list_of_names_holds_a_name_in_each_place(names):
    with pytest.raises(SettingsError, match="lora_targets must be a name or a list of names, found"):
        from_mapping(Settings, {"lora_targets": names})


def test_settings_survive_a_file(tmp_path):
    options = {"columns": {"prompt": "ä: #"}, "threshold": "top:5%", "max_completion": 7, "revision": "x"}
    settings = settings_of(Settings, data=("d",), **options)
    write_config(tmp_path / "c.yaml", settings)
    assert from_mapping(Settings, read_config(tmp_path / "c.yaml")) == settings


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"epoch": 1}, "did you mean 'epochs'"),
        ({"qqq": 1}, "unknown setting 'qqq'"),
        ({"epochs": "many"}, "epochs must be a number or none, found 'many'"),
        ({"epochs": 0}, "epochs must be above 0 or none, found 0"),
        ({"epochs": -1}, "epochs must be above 0 or none"),
        ({"finetune_epochs": "0"}, "finetune_epochs must be above 0, found 0"),
        ({"max_completion": "al"}, "max_completion must be a whole number, all or none, found 'al'"),
        ({"max_completion": 0}, "max_completion must be at least 1, all or none"),
        ({"seed": 10**400}, "seed must be between 0 and"),
        ({"epochs": 10**400}, "epochs must be a number or none"),
        ({"model": object()}, "model must be text"),
        ({"lora_dropout": 1}, "lora_dropout must be between 0 and 0.99"),
        ({"batch_size": 1.5}, "batch_size must be a whole number"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"batch_size": True}, "batch_size must be a whole number"),
        ({"warmup": 2}, "warmup must be between 0 and 1"),
        ({"learning_rate": "nan"}, "learning_rate must be a number or none, found 'nan'"),
        ({"signal": "perplexity"}, "signal must be one of suspicion, likelihood"),
        ({"threshold": "high"}, "c.yaml: threshold must be a number"),
        ({"threshold": "x\n" * 99}, "threshold must be a number"),
        ({"finetune": "perhaps"}, "finetune must be true or false"),
        ({"columns": "prompt"}, "columns must be name=column pairs"),
        ({"model": ["a"]}, "model must be text"),
        ({"model": None}, "model must be text, found None; leave it out for its default"),
        ({"data": 5}, "data must be a name or a list of names, found 5"),
    ],
)
def test_wrong_settings_are_explained(values, said):
    with pytest.raises(SettingsError) as error:
        from_mapping(Settings, values, "c.yaml")
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 900


def numbers():
    kinds = {one.name: one.annotation for one in keyword_parameters(StudySettings)}
    return [name for name, kind in kinds.items() if {int, float} & {kind, *typing.get_args(kind)}]


@pytest.mark.parametrize("name", numbers())
@pytest.mark.parametrize("value", [float("nan"), float("inf"), "-inf", "NaN", -1, "1e999", True])
def test_a_number_that_is_none_is_refused(name, value):
    with pytest.raises(SettingsError, match=f"^s: {name} must be"):
        from_mapping(StudySettings, {name: value}, "s")


@pytest.mark.parametrize("name", numbers())
@pytest.mark.parametrize("value", ["1e300", 1e30, "1e30", 10**6000, "9" * 5000], ids=range(5))
def test_a_number_beyond_reason_is_refused(name, value):
    with pytest.raises(SettingsError, match=f"^s: {name} must be") as error:
        from_mapping(StudySettings, {name: value}, "s")
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("name", ["epochs", "learning_rate", "lora_alpha", "max_grad_norm", "weight_decay"])
def test_a_number_that_is_next_to_nothing_is_refused(name):
    with pytest.raises(SettingsError, match=f"{name} must be (0 or )?at least 1e-12"):
        from_mapping(Settings, {name: "1e-300"})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model": "m" * 5000}, "model has at most 4,096 characters, found 'mmm"),
        ({"data": ["a", "d" * 5000]}, "data has at most 4,096 characters"),
        ({"safe": "a\0b"}, "safe: found 'a\\x00b', with a NUL character"),
        ({"data": ["", "a"]}, "data must be a name or a list of names"),
        ({"columns": {"prompt": None}}, "columns must be name=column pairs"),
        ({"columns": {"prompt": ["a"]}}, "columns must be name=column pairs"),
        ({"columns": "prompt=a,prompt=b"}, "columns must be name=column pairs"),
        ({"columns": "prompt="}, "columns must be name=column pairs"),
        ({"k" * 100_000: 1}, "unknown setting 'kkk"),
        ({"rivals": "r" * 4000}, "there is no rival 'rrr"),
        ({"own_words": "(a{1000000}){1000000}"}, "takes more than 1 GB of memory; make it simpler"),
        ({"own_words": "(" * 2000 + ")" * 2000}, "no regular expression: too deep"),
        ({"own_words": "(" + "x" * 4000}, "xx…' is no regular expression: missing )"),
    ],
)
def test_hostile_values_are_refused_in_a_short_line(values, said):
    with pytest.raises(SettingsError) as error:
        from_mapping(Settings, values, "c.yaml")
    assert said in str(error.value)
    assert str(error.value).count("\n") == 0
    assert len(str(error.value)) < 900


ANCHORS = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ANCHORS, "anchors"),
        ("data: &a [*a]\n", "anchors"),
        ("epochs: 1\nseed: 2\nepochs: 3\n", "'epochs' is there twice, again in line 3"),
        ("batch-size: 4\nbatch_size: 8\n", "'batch_size' is there twice"),
        ("columns: {prompt: a, prompt: b}\n", "'prompt' is there twice"),
        ("data: " + "[" * 5000, "recursion"),
        ("split: 2026-99-99\n", "month must be in"),
        ("seed: " + "9" * 6000, "Exceeds the limit"),
        ("seed: !!int foo", "invalid literal"),
        ("split: !!timestamp foo", "not YAML"),
        ("seed: !!int ''", "not YAML"),
        ("seed: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("? 0x" + "f" * 9999 + "\n: 1", "expected names of settings before the colons, found a number of thousands"),
        ("epochs: 1\0", "special characters"),
        ("# x\n" * 2_200_000, "at most 8 MB"),
        ("epochs: 1\n---\nepochs: 2\n", "not YAML"),
    ],
)
def test_hostile_yaml_is_refused_in_a_line(tmp_path, text, said):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(SettingsError) as error:
        read_config(tmp_path / "c.yaml")
    assert said in str(error.value)
    assert str(error.value).count("\n") == 0
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("name", ["epochs", "finetune_epochs", "learning_rate", "lora_alpha", "review_steps"])
def test_what_would_train_nothing_is_refused(name):
    with pytest.raises(SettingsError, match=f"{name} must be"):
        from_mapping(Settings, {name: 0})


@pytest.mark.parametrize("cls", EVERY)
@pytest.mark.parametrize("none", ["none", "None", " NONE ", None])
def test_none_is_a_value_of_every_option_that_is_none_by_default(cls, none):
    for name, field in options_of(cls).items():
        default = {} if field.default is dataclasses.MISSING else field.default
        if default in (None, {}):
            assert values_of(from_mapping(cls, {name: none}))[name] == default
            assert "none is" in field.metadata["help"] or "none:" in field.metadata["help"], name


@pytest.mark.parametrize("cls", EVERY)
def test_a_help_text_says_none_where_the_option_takes_it(cls):
    for name, field in options_of(cls).items():
        if "none is" in field.metadata["help"] or "none:" in field.metadata["help"]:
            from_mapping(cls, {name: "none"})


def test_all_of_an_answer_is_a_value_and_survives_a_file(tmp_path):
    settings = from_mapping(Settings, {"max_completion": "All"})
    assert settings.tokens.max_completion == "all"
    write_config(tmp_path / "c.yaml", settings)
    assert from_mapping(Settings, read_config(tmp_path / "c.yaml")) == settings


@pytest.mark.parametrize(
    ("text", "said"), [("a: [", "not YAML"), ("- a", "expected 'key: value'"), (None, "cannot read")]
)
def test_wrong_files_are_explained(tmp_path, text, said):
    if text is not None:
        (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(SettingsError, match=said):
        read_config(tmp_path / "c.yaml")


def test_the_papers_settings_can_be_read():
    path = Path(__file__).parents[2] / "examples" / "paper.yaml"
    settings = from_mapping(Settings, read_config(path))
    assert values_of(settings.decision) == {"signal": "rouge", "threshold": "0.1", "drop_unscorable": False}
    assert settings.training.learning_rate == 2e-4


def test_every_setting_says_what_it_is_for():
    for name, field in options_of(Settings).items():
        assert len(field.metadata["help"]) > 10, name


@pytest.mark.parametrize("cls", EVERY)
def test_an_option_is_in_one_group_alone(cls):
    groups = groups_of(cls)
    assert len(groups) > 1
    assert sum(map(len, groups.values())) == len(options_of(cls))


@pytest.mark.parametrize("cls", EVERY)
def test_every_option_can_be_changed_by_its_name(cls):
    before = values_of(from_mapping(cls, {}))
    assert list(before) == list(options_of(cls)) == list(to_mapping(from_mapping(cls, {})))
    for name in before:
        assert values_of(with_options(from_mapping(cls, {}), **{name: "new"})) == before | {name: "new"}


def test_the_order_of_the_options_is_that_of_config_files():
    names = list(options_of(Settings))
    assert (names[:2], names[-2:]) == (["data", "layout"], ["finetune", "finetune_epochs"])
    assert list(options_of(StudySettings))[: len(names)] == names


def test_an_option_that_is_not_there_is_told():
    with pytest.raises(TypeError, match="PreviewSettings has no option epochs"):
        with_options(PreviewSettings(), epochs=3.0)
