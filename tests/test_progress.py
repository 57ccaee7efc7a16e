"""Lines of progress: a step of several pieces, the share of the whole that is done, and the time left."""

import io

import pytest

from forgetfilter.console import Console
from forgetfilter.progress import Effort, Pieces, Plan, Progress, Step


@pytest.fixture(autouse=True)
def now(monkeypatch):
    """A clock that stands still unless it is moved."""
    seconds = [0.0]
    monkeypatch.setattr("forgetfilter.progress.time.monotonic", lambda: seconds[0])
    return seconds


def piece(total, cost, unit="rows", **options):
    return Progress("a piece", total, unit, lambda _: None, cost, **options)


def plan(**finished):
    return Plan(
        {"learned": Step("learning", Effort(scoring=300)), "scored": Step("scoring", Effort(scoring=100))}, **finished
    )


def test_time_left_is_that_of_all_steps(now):
    pieces = Pieces("learning", plan(), "learned")
    learning = piece(10, 300, "steps")
    pieces.add(learning)
    assert pieces.running() == "learning: 0/10 steps; 0% of the whole"
    now[0] = 60
    learning.advance(5, note="loss 2.000")
    # 150 of 400 took a minute, so that the other 250 take 100 seconds.
    assert pieces.running() == "learning: 5/10 steps, loss 2.000; 38% of the whole, about 2 min left in all"
    assert pieces.share == 0.375
    assert pieces.brief() == "about 2 min left in all; learning: 5/10 steps, loss 2.000"


def test_what_an_earlier_attempt_did_counts_as_done_and_not_for_the_rate(now):
    pieces = Pieces("learning", plan(), "learned")
    learning = piece(10, 300, "steps")
    pieces.add(learning)
    learning.skip(5)
    assert pieces.running().endswith("5/10 steps; 38% of the whole")
    now[0] = 60
    learning.advance(1)
    # 30 took a minute, and 220 are left.
    assert pieces.running().endswith("6/10 steps; 45% of the whole, about 7 min left in all")


def test_a_finished_step_is_done_however_early_it_ended(now):
    whole = plan()
    pieces = Pieces("learning", whole, "learned")
    learning = piece(10, 300, "steps")
    pieces.add(learning)
    now[0] = 30
    learning.advance(2)
    learning.total = learning.done
    pieces.end()
    # 60 took half a minute; of the rest only scoring is left.
    assert str(pieces) == "learning: 2/2 steps, took 0:30; 75% of the whole, less than a minute left in all"
    resumed = Pieces("scoring", plan(finished={"learned"}), "scored")
    assert resumed.share == 0.75


def told(pieces):
    return pieces.running().rpartition("whole")[2]


def minutes(pieces):
    return int(told(pieces).split()[2])


def learning_of(steps):
    pieces, learning = Pieces("learning", plan(), "learned"), piece(steps, 300, "steps")
    pieces.add(learning)
    return pieces, learning


def test_no_time_left_is_told_before_a_part_of_the_work_was_measured(now):
    pieces, learning = learning_of(30)
    # The first step is slow, as first steps are: from it an hour and a half would be left.
    now[0] = 150
    learning.advance(1)
    assert told(pieces) == ""
    now[0] = 155
    learning.advance(4)
    # 50 of 400 took 155 seconds.
    assert told(pieces) == ", about 18 min left in all"


def test_of_a_long_run_a_time_left_is_told_after_three_minutes(now):
    pieces, learning = learning_of(300)
    now[0] = 180
    learning.advance(1)
    assert told(pieces) == ", about 19.9 h left in all"


def test_the_time_left_does_not_swing(now):
    whole = plan()
    reading = Pieces("learning", whole, "learned")
    learning = piece(10, 300, "steps")
    reading.add(learning)
    now[0] = 600
    learning.advance(10)
    assert told(reading) == ", about 3 min left in all"
    reading.end()
    scoring = Pieces("scoring", whole, "scored")
    rows = piece(100, 100)
    scoring.add(rows)
    # Ten times as slow as what was learned: half an hour is left by the first rows, and three minutes were told.
    now[0] = 800
    rows.advance(10)
    before = minutes(scoring)
    assert 10 < before < 15
    for _ in range(85):
        now[0] += 20
        rows.advance(1)
        assert abs(minutes(scoring) - before) <= 1
        before = minutes(scoring)
    # In the end it tells what is left: five rows of twenty seconds each.
    assert before in (1, 2)


def test_a_session_that_may_end_early_is_expected_to_end_half_way():
    early = Step("learning", Effort(training=300), Effort(training=100))
    assert [early.expected(position) for position in (0, 100, 200, 300)] == [200, 100, 50, 0]
    assert Step("scoring", Effort(scoring=100)).expected(30) == 70


def test_pieces_are_one_line_and_preparations_are_not_counted():
    stream = io.StringIO()
    console = Console(stream)
    console.follow(
        Plan({"learned": Step("learning", Effort(scoring=1)), "scored": Step("scoring rows", Effort(scoring=40))})
    )
    with console.step("scored"), console.step("within"):
        with console.progress("preparing", 7, "rows", 10, counts=False) as preparing:
            preparing.advance(7)
        for part in ("data", "trusted"):
            with console.progress(f"scoring {part}", 5, "rows", 15) as scoring:
                scoring.advance(5)
    assert stream.getvalue() == "2 of 2, scoring rows: 10/10 rows, took 0:00; 98% of the whole\n"


def test_without_a_plan_each_piece_has_its_line():
    stream = io.StringIO()
    with Console(stream).step("scored"), Console(stream).progress("scoring", 2, "rows") as scoring:
        scoring.advance(2)
    assert stream.getvalue().startswith("scoring: 2/2 rows, ")


def test_work_without_a_known_end_is_not_told_as_done(now):
    reading = Progress("reading", 0, "rows", lambda _: None)
    now[0] = 60
    reading.advance(500)
    assert reading.running() == "reading: 500 rows, 8.3 rows/s, 1:00 so far"
    assert str(reading) == "reading: 500 rows, 8.3 rows/s, took 1:00"


def test_on_a_terminal_lines_of_others_stand_above_the_bar():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    console = Console(stream)
    console.follow(plan())
    with console.step("learned"), console.progress("learning", 2, "steps", 300) as learning:
        learning.advance(1)
        console.say("[bold]loading\x1b[2J the model")
        learning.advance(1)
    shown = stream.getvalue()
    assert "[bold]loading\\x1b[2J the model\n" in shown
    assert shown.endswith("1 of 2, learning: 2/2 steps, took 0:00; 75% of the whole\n")
