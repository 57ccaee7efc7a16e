"""Writes and reads mixes: folders with the paper's noisy, safe and held-out sets, drawn from published data.

The labels serve evaluation alone; the filter reads prompt and completion only.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..console import Console, table
from ..data.records import hash_chunks
from ..errors import RunError
from ..runs.files import written_whole
from ..runs.layout import MIX, MIX_FILES
from ..runs.manifest import Manifest, refuse_others
from ..settings.experiments import MixSettings, SourceSettings
from ..settings.option import to_mapping
from .published.examples import LABELS, Example
from .published.sources import PublishedSource, find_source
from .sampling import HELD_OUT, NOISY, PARTS, SAFE_SET, chosen_notions, draw, pools_of

_FILES = dict(zip(PARTS, MIX_FILES, strict=True))
# The fields of an example that the sets to train on keep; the held-out set keeps all.
_TRAINED = ("id", "prompt", "completion", "label", "notion", "source")


@dataclass(frozen=True)
class Mix:
    """A mix that `build_mix` wrote.

    Attributes:
        folder: The folder of the mix.
        notions: Those of `bias`, `toxicity` and `harmfulness` that the mix has.
        unsafe_share: Share of the noisy rows that is unsafe, 0 to 1.
        seed: The seed that it was drawn with.
        info: The content of mix.json: version, settings, notions, sources, counts, files.
    """

    folder: Path
    notions: tuple[str, ...]
    unsafe_share: float
    seed: int
    info: Mapping[str, Any]

    @property
    def noisy(self) -> Path:
        """The untrusted rows: unsafe, safe and task."""
        return self.folder / _FILES[NOISY]

    @property
    def safe(self) -> Path:
        """The safe rows for the review."""
        return self.folder / _FILES[SAFE_SET]

    @property
    def held_out(self) -> Path:
        """Safe and task rows for an evaluation, with the fields that it needs."""
        return self.folder / _FILES[HELD_OUT]

    def table(self) -> str:
        """Format the number of rows of each set by label and notion, for people."""
        counts = self.info["counts"]
        rows = [
            [part, label, notion, f"{sum(sources.values()):,}"]
            for part in PARTS
            for label in LABELS
            for notion, sources in counts[part].get(label, {}).items()
        ]
        return table(["set", "label", "notion", "rows"], rows)


def read_mix(folder: Path) -> Mix:
    """Open a mix.

    Raises:
        RunError: There is no mix, or an incomplete one.
    """
    missing = [name for name in (MIX, *_FILES.values()) if not (folder / name).is_file()]
    if missing:
        raise RunError(f"{folder}: no {missing[0]} here; expected a folder that 'forgetfilter data mix' wrote")
    try:
        info = json.loads((folder / MIX).read_text(encoding="utf-8"))
        drawn = info["settings"]
        return Mix(folder, tuple(info["notions"]), float(drawn["unsafe_share"]), int(drawn["seed"]), info)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{folder / MIX}: not as 'forgetfilter data mix' writes it: {error!r}") from error


def build_mix(
    named: Sequence[str], settings: MixSettings, output: Path, console: Console, *, overwrite: bool = False
) -> Mix:
    """Draw a mix from sources and write it, completely or not at all.

    Args:
        named: The sources, each as KIND=PLACE, or KIND alone for the data set on the hub.
        settings: What to draw.
        output: The folder to write; if it holds the same mix already, it is left as it is.
        console: Where to report progress.
        overwrite: Whether to replace another mix that is there.

    Raises:
        SettingsError: A source or notion is unknown.
        InputError: A source cannot be read, or has too few rows.
        RunError: The output folder holds something else.
    """
    sources = [find_source(name, settings.sources) for name in named]
    source_hashes = [{"kind": source.kind, "fingerprint": source.fingerprint()} for source in sources]
    identity = {"version": __version__, "settings": to_mapping(settings), "sources": source_hashes}
    if _holds_mix(output, identity, overwrite=overwrite):
        console.say(f"{output}: this mix is there already")
        return read_mix(output)
    loaded = [(source.kind, _load(source, settings.sources, console)) for source in sources]
    pools = pools_of(loaded)
    notions = chosen_notions(settings.notion, pools)
    parts = draw(pools, notions, settings)
    output.absolute().parent.mkdir(parents=True, exist_ok=True)
    with written_whole(output.absolute()) as partial:
        partial.mkdir()
        for part, examples in parts.items():
            rows = (example.fields() for example in examples)
            _write(
                partial / _FILES[part],
                rows if part == HELD_OUT else ({name: row[name] for name in _TRAINED} for row in rows),
            )
        info = {
            **identity,
            "notions": notions,
            "sources": [
                {**hashed, "place": source.place, "examples": len(examples)}
                for hashed, source, (_, examples) in zip(source_hashes, sources, loaded, strict=True)
            ],
            "counts": {part: _counts(examples) for part, examples in parts.items()},
            "files": {name: _hash(partial / name) for name in _FILES.values()},
        }
        (partial / MIX).write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")
    return read_mix(output)


def write_rows(named: str, settings: SourceSettings, output: Path, console: Console, *, overwrite: bool = False) -> int:
    """Write all examples of one source as labelled rows; returns how many.

    Raises:
        SettingsError: The source is not known.
        InputError: The source cannot be read.
        RunError: The file exists already, and is not to be replaced.
    """
    if output.exists() and (output.is_dir() or not overwrite):
        raise RunError(f"{output}: is there already; name another file, or pass --overwrite")
    examples = _load(find_source(named, settings), settings, console)
    output.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(output) as beside:
        _write(beside, (example.fields() for example in examples))
    return len(examples)


def _load(source: PublishedSource, settings: SourceSettings, console: Console) -> Sequence[Example]:
    loaded = source.load(settings)
    labels = Counter(example.label for example in loaded.examples)
    counts = ", ".join(f"{labels[label]:,} {label}" for label in LABELS if labels[label])
    console.say(f"{source.kind} from {source.place}: {counts or 'no examples'}")
    for remark in loaded.remarks:
        console.say(f"  {remark}")
    return loaded.examples


def _holds_mix(output: Path, identity: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Tell whether the folder holds exactly this mix.

    Raises:
        RunError: It holds another that is not to be replaced, or something that is not a mix.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return False
    refuse_others(output, "not a mix", ours=(output / MIX).is_file())
    other = sorted(entry.name for entry in output.iterdir() if entry.name not in (MIX, *_FILES.values()))
    if overwrite and other:
        raise RunError(f"{output}: holds {other[0]}, which is not of the mix; move it away, or name another folder")
    if overwrite:
        return False
    info = read_mix(output).info
    there = {name: _hash(output / name) for name in _FILES.values()}
    differs = _manifest(info).differences(_manifest({**identity, "files": there}))
    if differs:
        told = dict.fromkeys("settings" if name in identity["settings"] else name for name in differs)
        raise RunError(
            f"{output}: holds another mix ({', '.join(told)} differ); name another folder, or pass --overwrite"
        )
    return True


def _manifest(info: Mapping[str, Any]) -> Manifest:
    """What a mix was made from, and what its files are."""
    told = [{key: source.get(key) for key in ("kind", "fingerprint")} for source in info.get("sources", [])]
    return Manifest(info.get("version", ""), {"sources": json.dumps(told), **info.get("files", {})}, info["settings"])


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    # Fields for an evaluation may hold lone surrogates, which are written as JSON escapes.
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")


def _counts(examples: Iterable[Example]) -> dict[str, dict[str, dict[str, int]]]:
    """Count rows by label, notion and source."""
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for (label, notion, source), rows in sorted(Counter((e.label, e.notion, e.source) for e in examples).items()):
        counts.setdefault(label, {}).setdefault(notion, {})[source] = rows
    return counts


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hash_chunks(iter(lambda: file.read(1 << 20), b""))
