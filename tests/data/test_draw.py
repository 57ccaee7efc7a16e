"""Draws by id: the order of the rows has no say, and what was drawn once is drawn again."""

import numpy as np
import pyarrow as pa
import pytest

from forgetfilter.data.draw import evenly_by_id, in_random_order, random_numbers, random_ranks, ranks_of_copies

IDS = list("hgfedcba")
DRAWS = [lambda ids: in_random_order(ids, 3), lambda ids: evenly_by_id(ids, 3)]


def test_rows_are_drawn_as_runs_drew_them():
    assert in_random_order(IDS, 0).tolist() == [5, 3, 4, 1, 2, 7, 6, 0]
    assert random_ranks(IDS).tolist() == [7, 1, 0, 5, 6, 3, 4, 2]
    assert evenly_by_id(IDS, 3).tolist() == [7, 4, 0]
    assert random_numbers(["a", "b"], 3) == pytest.approx([0.06492809, 0.84450551])


@pytest.mark.parametrize("draw", DRAWS, ids=["in_random_order", "evenly_by_id"])
def test_the_order_of_the_rows_has_no_say(draw):
    ids = [f"é{i}" for i in range(40)]
    turned = [ids[i] for i in np.random.default_rng(9).permutation(40)]
    assert [ids[i] for i in draw(ids)] == [turned[i] for i in draw(turned)]
    assert dict(zip(ids, random_ranks(ids), strict=True)) == dict(zip(turned, random_ranks(turned), strict=True))


@pytest.mark.parametrize("draw", DRAWS, ids=["in_random_order", "evenly_by_id"])
def test_ids_draw_the_same_from_a_list_as_from_a_table(draw):
    ids = ["z", "é", "a", "𝄞", "B", "\uffff"]
    assert draw(pa.chunked_array([ids[:2], ids[2:]])).tolist() == draw(pa.array(ids)).tolist() == draw(ids).tolist()


@pytest.mark.parametrize("kind", [list, pa.array, lambda ids: pa.chunked_array([ids[:3], ids[3:]])])
def test_copies_of_a_row_have_its_rank(kind):
    ids = ["b", "a", "a#2", "c#7", "a#12", "a#"]
    ranks, shared = random_ranks(ids).tolist(), ranks_of_copies(kind(ids)).tolist()
    assert shared == [ranks[0], ranks[1], ranks[1], ranks[3], ranks[1], ranks[5]]


def test_rows_without_an_id_are_never_drawn():
    assert sorted(in_random_order(pa.chunked_array([["b", None, "a", None]]), 0)) == [0, 2]


def test_no_rows_draw_none():
    assert [len(draw([])) for draw in DRAWS] == [0, 0]
