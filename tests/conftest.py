"""Fixtures: a tiny random model with a byte tokenizer, made in memory, and a few rows to filter."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Two test processes share two cores.
os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1")

from support.own_cache import take_own_cache
from support.plain_path import leave_fast_paths_out
from support.quick_runs import NOISY, QUICK, SAFE, write_jsonl
from support.tiny_models import make_model, make_tokenizer

take_own_cache()


def pytest_addoption(parser):
    parser.addoption("--plain-path", action="store_true", help="leave the fast forward paths of models out")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--plain-path"):
        speed = Path(__file__).parent / "models"
        skip = pytest.mark.skip(reason="tests a fast path, and --plain-path leaves these out")
        for item in items:
            if item.path.is_relative_to(speed / "cpu") or item.path.is_relative_to(speed / "gpu"):
                item.add_marker(skip)


@pytest.fixture(autouse=True, scope="session")
def plain_path(pytestconfig):
    """With `--plain-path`, models keep the layers of their libraries, and rows are padded."""
    with pytest.MonkeyPatch.context() as patch:
        if pytestconfig.getoption("--plain-path"):
            leave_fast_paths_out(patch)
        yield


@pytest.fixture(autouse=True, scope="session")
def short_answers():
    """Examples of what a model says are short, as a tiny model has nothing to say: every run asks for them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("forgetfilter.stages.answers.ANSWER_TOKENS", 8)
        yield


@pytest.fixture(scope="session")
def tokenizer():
    return make_tokenizer()


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A folder with a tiny Llama and its tokenizer."""
    return make_model("llama", tmp_path_factory.mktemp("model"))


@pytest.fixture
def noisy(tmp_path) -> Path:
    return write_jsonl(tmp_path / "noisy.jsonl", NOISY)


@pytest.fixture
def safe(tmp_path) -> Path:
    return write_jsonl(tmp_path / "safe.jsonl", SAFE)


@pytest.fixture
def command(noisy, safe, model, tmp_path) -> list[str]:
    """The arguments of a quick run into tmp_path/run."""
    run = tmp_path / "run"
    return ["filter", str(noisy), "--safe", str(safe), "--model", str(model), "--output", str(run), *QUICK]
