"""Settings: one place for every option, read from a shell, from YAML and from Python alike."""

import dataclasses
from pathlib import Path

import pytest

from forgetfilter.errors import SettingsError
from forgetfilter.options import from_mapping, read_config, write_config
from forgetfilter.settings import Settings


def test_text_and_values_are_read_alike():
    text = from_mapping(Settings, {"learning-rate": "1e-3", "epochs": "2", "columns": "prompt=q,completion=a"})
    values = from_mapping(
        Settings, {"learning_rate": 0.001, "epochs": 2, "columns": {"prompt": "q", "completion": "a"}}
    )
    assert text == values


def test_yaml_that_looks_like_text_is_still_a_number(tmp_path):
    # YAML 1.1 takes 1e-3 for text.
    (tmp_path / "c.yaml").write_text("learning_rate: 1e-3\nskip_bad_rows: true\nrevision: null\n")
    settings = from_mapping(Settings, read_config(tmp_path / "c.yaml"))
    assert settings.learning_rate == 0.001
    assert settings.skip_bad_rows is True
    assert settings.revision is None


def test_settings_survive_a_file(tmp_path):
    settings = Settings(data=("d",), columns={"prompt": "ä: #"}, threshold="top:5%", max_completion=7, revision="x")
    write_config(tmp_path / "c.yaml", settings)
    assert from_mapping(Settings, read_config(tmp_path / "c.yaml")) == settings


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"epoch": 1}, "did you mean 'epochs'"),
        ({"qqq": 1}, "unknown setting 'qqq'"),
        ({"epochs": "many"}, "epochs must be a number, found 'many'"),
        ({"batch_size": 1.5}, "batch_size must be a whole number"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"batch_size": True}, "batch_size must be a whole number"),
        ({"warmup": 2}, "warmup must be between 0 and 1"),
        ({"learning_rate": "nan"}, "learning_rate must be a number"),
        ({"signal": "perplexity"}, "signal must be one of likelihood"),
        ({"threshold": "high"}, "threshold must be a number"),
        ({"finetune": "perhaps"}, "finetune must be true or false"),
        ({"columns": "prompt"}, "columns must be name=column pairs"),
        ({"model": ["a"]}, "model must be text"),
        ({"model": None}, "model must be text"),
    ],
)
def test_wrong_settings_are_explained(values, said):
    with pytest.raises(SettingsError) as error:
        from_mapping(Settings, values, "c.yaml")
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"), [("a: [", "not YAML"), ("- a", "expected 'key: value'"), (None, "cannot read")]
)
def test_wrong_files_are_explained(tmp_path, text, said):
    if text is not None:
        (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(SettingsError, match=said):
        read_config(tmp_path / "c.yaml")


def test_the_papers_settings_can_be_read():
    path = Path(__file__).parents[1] / "examples" / "paper.yaml"
    settings = from_mapping(Settings, read_config(path))
    assert (settings.signal, settings.threshold, settings.learning_rate) == ("rouge", "0.1", 2e-4)


def test_every_setting_says_what_it_is_for():
    for field in dataclasses.fields(Settings):
        assert len(field.metadata["help"]) > 10, field.name
