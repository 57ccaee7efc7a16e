"""Every study on a tiny model, and what its numbers are made of."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from forgetfilter.cli import main
from forgetfilter.experiments.studies import command
from forgetfilter.experiments.studies.attribute_rows import VALUES, attribute_rows
from forgetfilter.experiments.studies.averaging import average
from forgetfilter.experiments.studies.context import UNSAFE
from forgetfilter.experiments.studies.curves import Curve, describe_difference, mean_difference, review_points
from forgetfilter.experiments.studies.disguises import DISGUISES, look_alikes
from forgetfilter.experiments.studies.variations import Outcome
from forgetfilter.forgetting.cuts import Fixed
from forgetfilter.forgetting.estimates import Estimate
from forgetfilter.settings.experiments import STUDIES
from support.small_mixes import OPTIONS, make_mix
from support.tiny_models import make_model


@pytest.fixture(scope="module")
def world(model, tmp_path_factory):
    """Mixes of two notions, one of them drawn twice, two models, and a folder where studies share their sessions."""
    folder = tmp_path_factory.mktemp("studies")
    mixes = [make_mix(folder, notion, notion) for notion in ("harmfulness", "bias")]
    mixes.append(make_mix(folder, "again", "harmfulness", seed=1))
    other = make_model("qwen", folder / "qwen")
    return folder / "out", mixes, [model, other]


# These train a model a dozen times.
LONG = ("sensitivity", "partial")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in STUDIES])
def test_every_study_leaves_data_a_figure_and_words(name, world, capsys):
    out, mixes, models = world
    # These train several models or many variants; one draw of one noisy set will do.
    chosen = mixes[:1] if name in ("scale", "transfer", *LONG) else mixes[::2] if name != "domain-shift" else mixes
    arguments = ["study", name, "--output", str(out), "--model", str(models[0]), "--rounds", "1", *OPTIONS]
    arguments += [part for mix in chosen if name != "attributes" for part in ("--mix", str(mix.folder))]
    if name in ("scale", "transfer"):
        arguments += ["--models", ",".join(map(str, models))]
    assert main(arguments) == 0
    folder = out / name
    assert {path.name for path in folder.iterdir()} == {
        "data.parquet", "data.json", "figure.svg", "figure.pdf", "finding.md",
    }  # fmt: skip
    data = json.loads((folder / "data.json").read_text())
    assert pq.read_table(folder / "data.parquet").num_rows == len(data) > 1
    text = (folder / "finding.md").read_text()
    assert command.STUDIES[name].title in text
    assert "nan" not in text.replace("finance", "")
    assert ("2 draws" in text) is (len(chosen) > 1 and name != "attributes")
    assert text.strip() in capsys.readouterr().out


def test_studies_share_their_sessions(world, tmp_path):
    _, mixes, models = world
    given = ["--output", str(tmp_path / "out"), "--model", str(models[0]), "--mix", str(mixes[0].folder), *OPTIONS]
    assert main(["study", "forgetting", *given]) == 0
    (learned,) = (tmp_path / "out" / "labs").glob("*/*/stages/base.noisy-3/history.json")
    trained = learned.stat().st_mtime_ns
    assert main(["study", "interleaved", "--rounds", "1", *given]) == 0
    assert learned.stat().st_mtime_ns == trained


def test_the_studies_that_the_options_name_are_there():
    assert tuple(command.STUDIES) == STUDIES


def test_two_models_and_two_mixes_are_asked_for(world, capsys):
    out, mixes, models = world
    arguments = ["--output", str(out), "--model", str(models[0]), "--mix", str(mixes[0].folder), *OPTIONS]
    assert main(["study", "transfer", *arguments]) == 2
    assert "needs two models" in capsys.readouterr().err
    assert main(["study", "domain-shift", *arguments]) == 2
    assert "at least 2 mixes" in capsys.readouterr().err
    assert main(["study", "jailbreak", *arguments[:-2], "--mix", "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert main(["study", "scale", "--output", str(out), "--model", str(models[0])]) == 2
    assert "--mix FOLDER" in capsys.readouterr().err
    assert main(["study", "realistic", *arguments, "--unsafe-shares", "0.1,much"]) == 2
    assert "unsafe_shares" in capsys.readouterr().err
    assert main(["study", "realistic", *arguments, "--unsafe-shares", "0.9"]) == 2
    assert "unsafe rows of one prompt each are wanted" in capsys.readouterr().err


def test_what_holds_no_studies_is_left_alone(world, capsys):
    _, mixes, models = world
    place = mixes[0].folder
    arguments = ["--output", str(place), "--model", str(models[0]), "--mix", str(place), *OPTIONS]
    assert main(["study", "forgetting", *arguments]) == 2
    assert "it is no folder of studies; name another folder" in capsys.readouterr().err
    assert sorted(path.name for path in place.iterdir()) == ["held-out.jsonl", "mix.json", "noisy.jsonl", "safe.jsonl"]


def test_an_impossible_judge_is_told_before_any_work(world, tmp_path, capsys):
    _, mixes, models = world
    arguments = ["--output", str(tmp_path / "out"), "--model", str(models[0]), "--mix", str(mixes[0].folder), *OPTIONS]
    assert main(["study", "learning", *arguments, "--judge", "nosuch/thing"]) == 2
    assert "nosuch/thing: cannot load this model" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_forgetting_is_the_drop_since_learning():
    logprob = np.array([[-1.0, -2.0], [-1.5, -4.0]])
    curve = Curve([0, 3], ["a", "b"], logprob, np.array([[1.0, 0.5], [0.5, 0.5]]))
    assert curve.forgetting.tolist() == [[0, 0], [0.5, 2.0]]
    assert curve.lost.tolist() == [[0, 0], [0.5, 0]]


def test_groups_of_which_one_is_empty_are_not_compared_in_figures():
    """Such as the task rows of a mix of one source of unsafe and safe rows."""
    nothing = mean_difference(np.array([1.0, 2.0]), np.array([False, False]))
    assert describe_difference("unsafe", "task", nothing).endswith("cannot be told, as one of the groups is empty")
    both = mean_difference(np.array([1.0, 2.0]), np.array([False, True]))
    assert "nan" not in describe_difference("unsafe", "task", both)


def test_outcomes_by_hand():
    logprob = np.array([[0.0] * 4, [-3.0, -1.0, -2.0, 0.0]])
    curve, group = Curve([0, 1], list("abcd"), logprob, logprob), np.array([UNSAFE, "safe", "squad", "alpaca"])
    outcome = Outcome.of(curve, group, threshold=Fixed(1.5))
    assert (outcome.unsafe.value, outcome.safe.value, outcome.task.value) == (3, 1, 1)
    assert outcome.gap.value == 2
    assert outcome.auroc.value == 1
    assert outcome.f1.value == pytest.approx(2 / 3)


def test_what_is_found_on_several_draws_is_averaged_wherever_it_stands():
    found = [{"a": {"x": Estimate(value, value - 1, value + 1)}} for value in (1.0, 3.0)]
    found[1]["a"]["y"] = Estimate(7.0, 6.0, 8.0)
    mean = average(found)["a"]
    assert mean["x"].value == 2
    assert mean["x"].low < 1
    assert mean["y"] == Estimate(7.0, 6.0, 8.0)
    outcomes = [Outcome(*[Estimate(value, value, value)] * 6) for value in (0.0, 1.0)]
    assert average(outcomes).f1.value == 0.5


def test_points_of_a_review_end_with_it():
    assert review_points(30) == [3, 6, 10, 15, 22, 30]
    assert review_points(1) == [1]


@pytest.mark.parametrize("attribute", VALUES)
def test_attribute_rows_share_no_prompt_between_learning_and_review(attribute):
    learned, review = attribute_rows(attribute, 0)
    assert not {row["prompt"] for row in learned} & {row["prompt"] for row in review}
    assert len({row["id"] for row in learned}) == len(learned)
    by_label = {label: sum(row["label"] == label for row in learned) for label in ("safe", "unsafe")}
    assert by_label["safe"] == by_label["unsafe"] > 10
    assert {row["source"] for row in review} == {VALUES[attribute][0]}


def test_sums_are_right_or_wrong_as_they_say():
    learned, _ = attribute_rows("arithmetic", 0)
    for row in learned:
        told, said = row["completion"].removesuffix(".").split(" makes ")
        assert (sum(map(int, told.split(" + "))) == int(said)) is (row["label"] == "safe")


def test_disguises_keep_their_row_and_look_alikes_differ():
    for name, disguise in DISGUISES.items():
        prompt, completion = disguise("How?", "Like this. And that.")
        assert "How?" in prompt
        assert completion != "Like this. And that." or name == "as it is"
    kinds = {row["kind"] for row in look_alikes()}
    assert len(kinds) == 5
    assert len({row["prompt"] for row in look_alikes()}) == len(look_alikes()) == 20
