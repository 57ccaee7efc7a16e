"""Pushing to the hub: what is sent, what the cards say, and one line for whatever the hub refuses."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import datasets
import httpx2
import huggingface_hub
import pytest
import yaml
from huggingface_hub import errors
from transformers import AutoModelForCausalLM, AutoTokenizer

from forgetfilter import FilterResult, ForgetFilterError
from forgetfilter.cli import main
from forgetfilter.decision.decide import read_summary
from forgetfilter.publishing.cards import data_card
from forgetfilter.runs.run import Run
from support.quick_runs import NOISY, run
from support.tiny_models import make_tokenizer


class Hub:
    """Stands in for the hub: keeps what is committed in a folder for each repository."""

    def __init__(self, folder):
        self.folder, self.private, self.raises = folder, {}, None

    def __call__(self):
        return self

    def place(self, name, kind):
        return self.folder / kind / name

    def create_repo(self, name, *, repo_type, private, exist_ok):
        assert exist_ok
        if self.raises is not None:
            raise self.raises
        self.place(name, repo_type).mkdir(parents=True, exist_ok=True)
        self.private.setdefault((name, repo_type), bool(private))
        return huggingface_hub.RepoUrl(f"https://huggingface.co/{'datasets/' * (repo_type == 'dataset')}{name}")

    def repo_info(self, name, *, repo_type):
        return SimpleNamespace(private=self.private[name, repo_type])

    def list_repo_files(self, name, *, repo_type):
        place = self.place(name, repo_type)
        return [path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()]

    def create_commit(self, name, operations, *, commit_message, repo_type):
        assert commit_message
        for operation in operations:
            path = self.place(name, repo_type) / operation.path_in_repo
            if isinstance(operation, huggingface_hub.CommitOperationDelete):
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with operation.as_file() as file:
                path.write_bytes(file.read())


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr("forgetfilter.publishing.hub.constants.is_offline_mode", lambda: False)
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr("forgetfilter.publishing.hub.HfApi", hub)
    return hub


def card_of(place):
    text = (place / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


def assert_no_places(place, tmp_path):
    for path in place.rglob("*"):
        if path.is_file() and path.suffix != ".safetensors":
            assert str(tmp_path) not in path.read_text(encoding="utf-8"), path


def test_kept_rows_are_pushed_as_they_are_and_removed_ones_when_asked(command, hub, tmp_path, capsys):
    assert run(command, "--threshold", "top:25%", "--push-to-hub", "me/clean", "--private") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Pushed to https://huggingface.co/datasets/me/clean"
    place, folder = hub.place("me/clean", "dataset"), tmp_path / "run"
    assert hub.private == {("me/clean", "dataset"): True}
    assert sorted(hub.list_repo_files("me/clean", repo_type="dataset")) == ["README.md", "kept/kept.jsonl"]
    assert (place / "kept/kept.jsonl").read_bytes() == (folder / "kept.jsonl").read_bytes()
    front, body = card_of(place)
    assert front["tags"] == ["forgetfilter"]
    assert [config["config_name"] for config in front["configs"]] == ["kept"]
    assert "The removed rows are not here." in body
    assert re.search(r"\| input \| 12 \|\n\| kept \| 9 \|\n\| removed \| 3 \|", body)
    assert "`likelihood`" in body
    assert "`top:25%`" in body
    assert "not known; no trusted rows were learned with the data" in body
    assert "| `review_steps` | `2` |" in body

    urls = FilterResult(folder).push_to_hub("me/clean", removed=True)
    assert urls == ["https://huggingface.co/datasets/me/clean"]
    front, body = card_of(place)
    assert {config["config_name"]: config["data_files"] for config in front["configs"]} == {
        "kept": ["kept/kept.jsonl"],
        "removed": ["removed/removed.jsonl"],
    }
    assert_no_places(place, tmp_path)
    loaded = {name: datasets.load_dataset(str(place), name)["train"] for name in ("kept", "removed")}
    assert {row["id"] for rows in loaded.values() for row in rows} == {row["id"] for row in NOISY}
    assert loaded["removed"].num_rows == 3

    # What was removed is not left there by a later push without it.
    assert main(["push", str(folder), "me/clean"]) == 0
    assert not (place / "removed/removed.jsonl").exists()


def test_the_model_is_pushed_with_a_card_of_its_own(command, hub, model, tmp_path):
    folder = tmp_path / "run"
    assert run(command, "--threshold", "top:25%", "--finetune", "--finetune-epochs", "1") == 0
    front, body = card_of(folder / "model")
    assert front == {"library_name": "peft", "pipeline_tag": "text-generation", "tags": ["forgetfilter", "lora"]}
    assert "1 passes over 9 kept rows" in body
    assert "[More Information Needed]" not in body
    assert str(tmp_path) not in body

    assert main(["push", str(folder), "me/model", "--model"]) == 0
    place = hub.place("me/model", "model")
    assert json.loads((place / "adapter_config.json").read_text())["base_model_name_or_path"] == model.name
    weights = (folder / "model" / "adapter_model.safetensors").read_bytes()
    assert (place / "adapter_model.safetensors").read_bytes() == weights
    assert not {"decision.json", "history.json"} & {path.name for path in place.iterdir()}
    assert_no_places(place, tmp_path)

    assert main(["push", str(folder), "me/merged", "--model", "merged"]) == 0
    place = hub.place("me/merged", "model")
    front, body = card_of(place)
    assert front["library_name"] == "transformers"
    assert "merged into the weights" in body
    assert_no_places(place, tmp_path)
    merged, base = (AutoModelForCausalLM.from_pretrained(at).state_dict() for at in (place, model))
    assert merged.keys() == base.keys()
    assert any(not merged[name].equal(base[name]) for name in base)

    # Of an adapter that was there nothing stays, lest it be put onto the merged model.
    (hub.place("me/model", "model") / "notes.md").write_text("Mine.")
    assert main(["push", str(folder), "me/model", "--model", "merged"]) == 0
    assert {path.name for path in hub.place("me/model", "model").iterdir()} == {
        "notes.md", *(path.name for path in place.iterdir())
    }  # fmt: skip

    assert main(["decide", str(folder), "--threshold", "top:50%"]) == 0
    with pytest.raises(ForgetFilterError, match=r"made from an earlier decision.*--finetune"):
        FilterResult(folder).push_to_hub("me/model", model="adapter")


def test_a_card_quotes_no_markup_and_no_place(command, safe, tmp_path):
    hostile = tmp_path / "[x](evil) <b>.jsonl"
    safe.rename(hostile)
    command[command.index("--safe") + 1] = str(hostile)
    assert run(command, "--threshold", "top:25%", "--own-words", "(.*)(`|<b>|)") == 0
    opened = Run.open(tmp_path / "run")
    summary = replace(read_summary(opened), warnings=[f"{hostile}: mind *this*"])
    card = data_card(opened, summary, {"kept": ["kept/kept.jsonl"]})
    assert "\n- \\[x\\](evil) &lt;b\\>.jsonl: mind \\*this\\*\n" in card
    assert "| `own_words` | `(.*)('\\|<b>\\|)` |" in card
    assert str(tmp_path) not in card


def test_a_merged_model_has_the_tokenizer_that_it_was_trained_with(command, hub, tmp_path):
    assert run(command) == 0
    learned, given = tmp_path / "run" / "stages" / "learned", tmp_path / "given"
    tokenizer = make_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace("<|end|>", "<|end|><|end|>")
    tokenizer.save_pretrained(learned)
    command[command.index("--output") + 1] = str(given)
    assert run(command, "--learned", str(learned), "--finetune", "--finetune-epochs", "1") == 0
    assert main(["push", str(given), "me/merged", "--model", "merged"]) == 0
    pushed = AutoTokenizer.from_pretrained(hub.place("me/merged", "model"))
    assert pushed.chat_template == tokenizer.chat_template


def test_a_card_says_that_the_model_was_trained_elsewhere_and_names_no_place(command, tmp_path):
    assert run(command) == 0
    learned, given = tmp_path / "run" / "stages" / "learned", tmp_path / "given"
    card = data_card(Run.open(tmp_path / "run"), read_summary(Run.open(tmp_path / "run")), {"kept": []})
    assert "The aligned model learned all rows" in card
    command[command.index("--output") + 1] = str(given)
    assert run(command, "--learned", str(learned)) == 0
    opened = Run.open(given)
    card = data_card(opened, replace(read_summary(opened), warnings=[f"{learned}: odd"]), {"kept": []})
    assert str(tmp_path) not in card
    assert "The aligned model had been fine-tuned elsewhere (`learned`)" in card
    assert "learned all rows" not in card
    assert "\n- learned: odd\n" in card


def response(status):
    return httpx2.Response(status, request=httpx2.Request("POST", "https://huggingface.co/api"))


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (
            errors.HfHubHTTPError("401 Client Error\nmore", response=response(401)),
            "the hub refuses: 401 Client Error; log in",
        ),
        (errors.HfHubHTTPError("500 Server Error", response=response(500)), "the hub refuses: 500 Server Error"),
        (errors.RepositoryNotFoundError("404", response=response(404)), "does not let you in; log in"),
        (httpx2.ConnectError("Name or service not known"), "cannot be reached: Name or service not known"),
        (errors.OfflineModeIsEnabled("offline"), "cannot be reached: offline"),
        (errors.LocalTokenNotFoundError("no token"), "does not let you in; log in"),
    ],
)
def test_what_the_hub_refuses_is_one_line(finished, hub, capsys, raised, said):
    hub.raises = raised
    assert main(["push", str(finished), "me/clean"]) == 2
    shown = capsys.readouterr().err.splitlines()
    assert said in shown[-1]
    assert "Traceback" not in "".join(shown)


@pytest.fixture
def finished(command, tmp_path):
    run(command, "--threshold", "top:25%")
    return tmp_path / "run"


@pytest.mark.usefixtures("hub")
def test_a_public_name_takes_no_private_rows(finished, capsys):
    assert main(["push", str(finished), "me/clean"]) == 0
    assert main(["push", str(finished), "me/clean", "--private"]) == 2
    assert "is public" in capsys.readouterr().err


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("name", ["../x", "a/b/c", "", "-", "x" * 200])
def test_a_name_that_the_hub_cannot_have_is_refused_before_any_work(command, tmp_path, capsys, name):
    assert run(command, f"--push-to-hub={name}") == 2
    assert "not a valid name on the hub: " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_offline_nothing_is_begun(command, tmp_path, capsys):
    assert run(command, "--push-to-hub", "me/clean") == 2
    assert "offline mode" in capsys.readouterr().err
    assert not Path(tmp_path / "run").exists()


def test_a_saved_data_set_and_several_files_are_read_from_the_hub(command, hub, tmp_path):
    fields = [{name: row[name] for name in ("id", "prompt", "completion")} for row in NOISY]
    datasets.Dataset.from_list(fields).save_to_disk(tmp_path / "saved")
    (tmp_path / "parts").mkdir()
    for name, part in (("a", fields[:6]), ("b", fields[6:])):
        datasets.Dataset.from_list(part).to_csv(tmp_path / "parts" / f"{name}.csv")
    for name in ("saved", "parts"):
        command[1] = str(tmp_path / name)
        command[command.index("--output") + 1] = str(tmp_path / f"{name}-run")
        assert run(command, "--threshold", "top:25%", "--push-to-hub", f"me/{name}") == 0
        kept = datasets.load_dataset(str(hub.place(f"me/{name}", "dataset")), "kept")["train"]
        assert kept.to_list() == FilterResult(tmp_path / f"{name}-run").kept.to_list()
