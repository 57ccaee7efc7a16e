"""Files that are there whole or not at all, and manifests."""

import pytest

from forgetfilter.errors import RunError
from forgetfilter.runs.files import keep_once, read_json, write_json, written_whole
from forgetfilter.runs.manifest import Manifest

EARLIER = Manifest("1", {"data": "a", "model": "m"}, {"epochs": 5.0, "seed": 0})


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "study"
    with written_whole(folder) as beside:
        beside.mkdir()
        (beside / "old").write_text("x")
    with pytest.raises(KeyError), written_whole(folder) as beside:
        beside.mkdir()
        (beside / "half").write_text("x")
        raise KeyError
    assert [file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*")] == ["study", "study/old"]
    with written_whole(folder) as beside:
        beside.mkdir()
        (beside / "new").write_text("x")
    assert [file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*")] == ["study", "study/new"]


def test_what_was_left_of_a_kill_is_not_gone_on_with(tmp_path):
    (tmp_path / ".partial.mix").mkdir()
    (tmp_path / ".partial.mix" / "half").write_text("x")
    with written_whole(tmp_path / "mix") as beside:
        beside.mkdir()
    assert not list((tmp_path / "mix").iterdir())


def test_json_is_read_back_even_with_half_characters(tmp_path):
    write_json({"name": "\ud83d", "other": "é"}, tmp_path / "file.json")
    assert read_json(tmp_path / "file.json") == {"name": "\ud83d", "other": "é"}
    assert read_json(tmp_path / "none.json", []) == []


def test_a_folder_in_the_cache_is_written_once(tmp_path):
    written = []

    def write(folder):
        written.append(folder)
        folder.mkdir()

    for _ in range(2):
        assert keep_once(tmp_path / "cache" / "model", write).is_dir()
    assert len(written) == 1


@pytest.mark.parametrize(
    ("now", "names"),
    [
        (EARLIER, []),
        (Manifest("1", {"data": "b", "model": "m"}, {"epochs": 5.0}), ["data"]),
        (Manifest("1", {"data": "a"}, {"epochs": 6.0}), ["model", "epochs"]),
        (Manifest("2", {"data": "a", "model": "m", "safe": "s"}, {"epochs": 5.0}), ["safe", "version"]),
    ],
)
def test_a_manifest_names_what_differs(now, names):
    assert list(EARLIER.differences(now)) == names


def test_a_folder_is_claimed_by_the_first(tmp_path):
    path = tmp_path / "lab" / "manifest.json"
    EARLIER.claim(path, "its sessions were trained differently")
    EARLIER.claim(path, "its sessions were trained differently")
    assert Manifest.find(path) == EARLIER
    other = Manifest("1", EARLIER.fingerprints, {"epochs": 6.0})
    with pytest.raises(RunError, match=r"lab: its sessions .* epochs: was 5.0, is now 6.0. Name another --output"):
        other.claim(path, "its sessions were trained differently")
    path.write_text("[]")
    with pytest.raises(RunError, match="not a manifest"):
        EARLIER.claim(path, "its sessions were trained differently")


def test_settings_are_compared_as_json_has_them(tmp_path):
    Manifest.now({}, {"columns": ("a", "b")}).claim(tmp_path / "manifest.json", "differs")
    Manifest.now({}, {"columns": ["a", "b"]}).claim(tmp_path / "manifest.json", "differs")
