"""Every command and every piece of Python that the documents show, run as it stands on a tiny model."""

import functools
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import tomllib

import datasets
import pytest
import torch
import transformers

from forgetfilter.cli import main
from forgetfilter.models import sources
from forgetfilter.models.architecture import add_adapter
from forgetfilter.models.cpu.blocks import use_fast_blocks
from forgetfilter.models.cpu.lora import fuse_lora
from forgetfilter.models.forward import CompletionScorer
from forgetfilter.settings.groups import AdapterSettings
from support.documents import ROOT, blocks
from support.quick_runs import NOISY, QUICK, SAFE, write_jsonl

DOCS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
# These need files of their own, TRL or the hub, and are tested elsewhere; pages of measurements have long commands.
ELSEWHERE = [
    "how-to/data",
    "how-to/studies",
    "how-to/trainers",
    "how-to/publishing",
    "evidence",
    "appendix",
    "performance",
    "studies",
]
PAGES = ["README.md", *(page for page in DOCS if page not in [f"docs/{name}.md" for name in ELSEWHERE])]
# A large model stands for itself in the documents, and for a tiny one here.
LARGE, LARGER = "meta-llama/Llama-2-7b-chat-hf", "meta-llama/Llama-2-70b-chat-hf"


def commands(page):
    """The commands that a page shows, each as its words."""
    lines = [line for block in blocks(page, "console") for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line[2:]) for line in lines if line.startswith("$ ")]


@pytest.fixture
def place(tmp_path, model, monkeypatch):
    """A folder with the files that the documents name, where the model they name is a tiny one."""
    monkeypatch.setattr(sources, "_smollm2", lambda: sources.ModelSource(str(model)))
    monkeypatch.chdir(tmp_path)
    rows = [{**row, "id": f"{row['id']}-{i}"} for i in range(4) for row in NOISY]
    write_jsonl(tmp_path / "noisy.jsonl", rows)
    write_jsonl(tmp_path / "safe.jsonl", SAFE * 4)
    (tmp_path / "aligned-model").symlink_to(model)
    monkeypatch.setenv("FORGETFILTER_CACHE", str(tmp_path / "cache"))
    pairs = [{"prompt": r["prompt"], "chosen": r["completion"], "rejected": f"No, {r['id']}."} for r in rows]
    write_jsonl(tmp_path / "pairs.jsonl", pairs)
    write_jsonl(tmp_path / "trusted.jsonl", [r for r in NOISY if r["label"] == "task"])
    write_jsonl(tmp_path / "unsafe.jsonl", [r for r in NOISY if r["label"] == "unsafe"])
    choices = [{"prompt": f"Who, {i}?", "completion": f"The answer is ans{i % 3}: nobody"} for i in range(24)]
    write_jsonl(tmp_path / "choices.jsonl", choices)
    (tmp_path / "broken.jsonl").write_text("{broken\n" + (tmp_path / "noisy.jsonl").read_text())
    (tmp_path / "questions.csv").write_text("question,answer\nWhat now?,Nothing.\nAnd then?,That.\n")
    umlauts = [f"Wärst du so nett, {i}?;Schön wär’s.\n" for i in range(12)]
    (tmp_path / "umlauts.csv").write_bytes("".join(["prompt;completion\n", *umlauts]).encode("cp1252"))
    write_jsonl(tmp_path / "part1.jsonl", rows[:24])
    write_jsonl(tmp_path / "next-week.jsonl", rows[24:])
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "a.csv").write_text("prompt,completion\nWhat now?,Nothing.\nAnd then?,That.\n")
    whole = datasets.Dataset.from_list([{key: row[key] for key in ("id", "prompt", "completion")} for row in rows])
    datasets.DatasetDict(train=whole.select(range(32)), test=whole.select(range(32, 48))).save_to_disk("questions")
    write_jsonl(tmp_path / "held-out.jsonl", [{**row, "notion": "task"} for row in NOISY[:3]])
    (tmp_path / "overrides-20261129-181203.json").write_text(json.dumps({"decisions": {"n0-0": "kept"}}))
    return tmp_path


def check_installation(words):
    """Nothing is installed here: the constraints are a file, the packages are among them, and the extras exist."""
    assert words[:2] == ["--constraint", "constraints.txt"]
    pinned = {line.partition("==")[0] for line in (ROOT / words[1]).read_text().splitlines()}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for word in words[2:]:
        if word.startswith("."):
            assert set(word[2:-1].split(",")) <= {*extras}
        else:
            assert word == "--no-deps" or word in pinned


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("page", PAGES)
def test_commands_run_as_they_stand(page, model):
    for words in commands(page):
        if words[0] == "forgetfilter":
            assert main([str(model) if word == LARGE else word for word in words[1:]]) == 0, words
        elif words[0] == "make":
            # What it would do; the test suite itself runs in what it sets up.
            subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, check=True, capture_output=True)
        elif words[:2] == ["pip", "install"]:
            check_installation(words[2:])
        else:
            assert words[:2] in (["accelerate", "launch"], [".", ".venv/bin/activate"]), f"nothing runs {words}"


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(c[0] == "accelerate" for c in commands(page))])
def test_launches_run_as_they_stand_but_for_their_number(page, place, model):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    instead = {"smollm2-135m": str(model), LARGER: str(model), "8": "2", "16": "2"}
    instead |= {"node0": "127.0.0.1", "29500": port}
    launches = {}
    for command in commands(page):
        if command[0] == "accelerate":
            launches.setdefault(command[-1], []).append([instead.get(word, word) for word in command[2:]])
    assert sorted(len(machines) for machines in launches.values()) == [1, 1, 1, 2]
    for output, of_machines in launches.items():
        machines = [
            subprocess.Popen(
                [sys.executable, "-m", "accelerate.commands.launch", *words, *QUICK],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
            for words in of_machines
        ]
        said = [process.communicate()[1] for process in machines]
        assert not any(process.returncode for process in machines), said
        assert sum("2 processes share the work" in text for text in said) == 1
        assert (place / output / "report.html").exists()


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_python_runs_as_it_stands(page):
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), {})


def test_the_index_names_every_page():
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    assert {f"docs/{link}" for link in re.findall(r"\((\S+\.md)\)", index)} == {*DOCS} - {"docs/README.md"}


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", *DOCS])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for link, anchor in re.findall(r"\]\(([^)#:]*)(#[^)]*)?\)", text):
        target = (ROOT / page).parent / link if link else ROOT / page
        assert target.exists(), f"{page}: {link}"
        if anchor:
            heads = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor[1:] in [_anchor(head) for head in heads], f"{page}: {link}{anchor}"


def _anchor(head):
    """The name that a heading has in links, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-")


@pytest.mark.parametrize(("width", "middle", "heads", "of_keys"), [(256, 688, 4, 4), (256, 896, 8, 1)])
@pytest.mark.parametrize(("fast", "times"), [(True, (12, 4, 4)), (False, (18, 4, 8))], ids=["fast", "spread"])
def test_a_pass_keeps_as_much_as_the_page_on_memory_says(fast, times, width, middle, heads, of_keys):
    kept = [_kept_by(layers, fast, width, middle, heads, of_keys) for layers in (1, 2)]
    said = times[0] * width + times[1] * (width * of_keys // heads) + times[2] * middle
    page = (ROOT / "docs/how-to/many-gpus.md").read_text(encoding="utf-8")
    assert "({} h + {} k + {} i)".format(*times) in page
    assert kept[1] - kept[0] == pytest.approx(said, rel=0.05)


def _kept_by(layers, fast, width, middle, heads, of_keys, tokens=256):
    """Bytes that autograd keeps for each token of a pass in bfloat16, weights not counted."""
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=width,
        intermediate_size=middle,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=of_keys,
    )
    model = add_adapter(transformers.AutoModelForCausalLM.from_config(config).bfloat16(), AdapterSettings())
    fuse_lora(model)
    if fast:
        use_fast_blocks(model)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept, alive = {}, []

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    ids = torch.zeros(4, tokens // 4, dtype=torch.long)
    completion = torch.zeros_like(ids, dtype=torch.bool)
    completion[:, -1] = True
    scorer = CompletionScorer(model)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        scorer(ids[:1, :0], ids, completion)
    return sum(kept.values()) / tokens


@pytest.mark.filterwarnings("ignore")
def test_the_page_on_trainers_runs_as_it_stands(place, monkeypatch):
    trl = pytest.importorskip("trl")
    quick = {"max_steps": 1, "save_strategy": "no", "report_to": "none"}
    monkeypatch.setattr(trl, "SFTConfig", functools.partial(trl.SFTConfig, **quick))
    first, to_chats, *others = blocks("docs/how-to/trainers.md", "python")
    for block in (to_chats, first, *others):
        exec(compile(block, "docs/how-to/trainers.md", "exec"), {})
    assert (place / "trained" / "model.safetensors").exists()
    for words in commands("docs/how-to/trainers.md"):
        if words[0] == "pip":
            check_installation(words[2:])
        else:
            assert main([*words[1:], "--output", "again"]) == 0
    assert (place / "scored.jsonl").read_text().count("suspicion") == len((place / "chats.jsonl").open().readlines())
