"""Sentence-embedding models: how hidden states become an embedding, and which models are refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from forgetfilter.classifiers.embedder import Embedder
from forgetfilter.errors import ModelError
from support.tiny_models import make_model

TEXTS = ["a rather long text about bread", "short", "", "another one"]


@pytest.fixture
def folder(tmp_path):
    return make_model("bert", tmp_path / "embedder")


def pool(folder, **config):
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))


@torch.inference_mode()
def alone(folder, text):
    """The hidden states of one text, without padding."""
    inputs = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    return AutoModel.from_pretrained(folder)(**inputs).last_hidden_state[0].numpy()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (None, lambda states: states.mean(axis=0)),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, lambda states: states.mean(axis=0)),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}, lambda states: states[0]),
        ({"pooling_mode_lasttoken": True}, lambda states: states[-1]),
    ],
)
def test_hidden_states_are_pooled_as_the_model_says(folder, config, expected):
    if config is not None:
        pool(folder, **config)
    found = Embedder(str(folder), "cpu").embed(TEXTS)
    assert found.shape == (4, 32)
    for text, embedding in zip(TEXTS, found, strict=True):
        wanted = expected(alone(folder, text)) if text else np.zeros(32)
        assert np.allclose(embedding, wanted / max(np.linalg.norm(wanted), 1e-9), atol=1e-5)


def test_a_text_is_read_up_to_256_tokens(folder):
    embedder = Embedder(str(folder), "cpu")
    found = embedder.embed(["a" * 256, "a" * 256 + "b", "a" * 255 + "b"])
    assert np.allclose(found[0], found[1], atol=1e-6)
    assert not np.allclose(found[0], found[2], atol=1e-3)


def test_a_decoder_can_embed(tmp_path):
    assert Embedder(str(make_model("qwen", tmp_path / "qwen")), "cpu").embed(["text"]).shape == (1, 32)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ('{"pooling_mode_max_tokens": true}', "asks for the pooling max; known are mean, cls, lasttoken"),
        ('{"pooling_mode_max_tokens": true, "pooling_mode_cls_token": true}', "asks for the pooling max, cls"),
        ("{}", "asks for the pooling none"),
        ("[1", "cannot be read as what sentence-transformers writes"),
        ("[1]", "cannot be read as what sentence-transformers writes"),
    ],
)
def test_other_poolings_are_refused(folder, config, said):
    pool(folder)
    (folder / "1_Pooling" / "config.json").write_text(config)
    with pytest.raises(ModelError, match=said) as error:
        Embedder(str(folder), "cpu")
    assert "\n" not in str(error.value)


def test_what_is_no_embedding_model_is_refused(folder, tmp_path):
    with pytest.raises(ModelError, match="there is no such model file or folder"):
        Embedder(str(tmp_path / "nothing"), "cpu")
    shutil.copy(make_model("llama", tmp_path / "llama") / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(ModelError, match="its weights lack"):
        Embedder(str(folder), "cpu")
