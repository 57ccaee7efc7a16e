"""Which rows the models are asked about: the telling ones, whatever the order of the file."""

import numpy as np
import pyarrow as pa
import pytest

from forgetfilter.data.chats import Chat
from forgetfilter.data.tokens import Encoder, TokenTable, write_tokens
from forgetfilter.stages.examples import choose_examples
from support.tiny_models import make_tokenizer


@pytest.fixture
def choose(tmp_path):
    """Choose among rows of (id, prompt, forgetting); returns ids."""
    encoder = Encoder(make_tokenizer(), "auto", 64)

    def chosen(rows, cut):
        said = [(id, i, Chat.of(prompt, "Yes.")) for i, (id, prompt, _) in enumerate(rows)]
        for _ in write_tokens(said, encoder, tmp_path / "t.arrow"):
            pass
        forgetting = np.array([forgetting for _, _, forgetting in rows], dtype=float)
        scores = pa.table({"id": [row[0] for row in rows], "row": np.arange(len(rows)), "suspicion": forgetting})
        table = TokenTable(tmp_path / "t.arrow")
        return [table[int(i)].id for i in choose_examples(table, scores, cut)]

    return chosen


def rows(count=21):
    return [(f"r{i:02}", f"prompt {i}", float(count - i)) for i in range(count)]


def test_the_most_forgotten_the_nearest_and_some_kept(choose):
    # r00 to r08 lie above the cut, so that r09 to r20 are kept.
    assert choose(rows(), 12.5) == ["r00", "r01", "r02", "r08", "r09", "r12", "r15", "r18"]


def test_where_nothing_is_removed_there_is_no_threshold_to_be_near(choose):
    assert choose(rows(), None) == ["r00", "r01", "r02", "r05", "r10", "r15"]


def test_no_prompt_is_asked_twice(choose):
    same = [(id, "the same" if i < 5 else prompt, value) for i, (id, prompt, value) in enumerate(rows())]
    assert choose(same, 12.5)[:3] == ["r00", "r05", "r06"]
    assert choose([(id, "the same", value) for id, _, value in rows()], 12.5) == ["r00"]


def test_the_order_of_the_file_does_not_matter(choose):
    level = [(id, prompt, 1.0 + 1e-6 * i) for i, (id, prompt, _) in enumerate(rows())]
    shuffled = [(*level[i][:2], 1.0 - 1e-6 * n) for n, i in enumerate(np.random.default_rng(0).permutation(21))]
    assert choose(level, None) == choose(shuffled, None)


def test_rows_without_a_score_are_not_asked(choose):
    assert choose([("a", "one", np.nan), ("b", "two", 1.0), ("c", "three", 2.0)], 1.5) == ["c", "b"]
    assert choose([("a", "one", np.nan)], None) == []
