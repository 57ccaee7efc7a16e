"""Finds and loads what the user names as a source of examples: a kind of data set, and its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...data.records import Container, hash_chunks
from ...errors import SettingsError
from ...settings.experiments import SourceSettings
from .alpaca import HUB as ALPACA_HUB
from .alpaca import load_alpaca
from .bbq import HUB as BBQ_HUB
from .bbq import load_bbq, open_bbq
from .examples import Loaded
from .harmfulqa import HUB as HARMFULQA_HUB
from .harmfulqa import load_harmfulqa
from .reading import open_files
from .rows import load_rows
from .squad import HUB as SQUAD_HUB
from .squad import load_squad, open_squad
from .toxicity import HUB as TOXICITY_HUB
from .toxicity import load_toxicity


@dataclass(frozen=True)
class _Kind:
    """How to open and load one kind of data set; `hub` is its id on the hub, empty for the user's own rows."""

    load: Callable[[Sequence[Container], SourceSettings], Loaded]
    hub: str = ""
    open: Callable[[str, str], list[Container]] = open_files


_KINDS = {
    "bbq": _Kind(lambda files, _: load_bbq(files), BBQ_HUB, open_bbq),
    "harmfulqa": _Kind(lambda files, _: load_harmfulqa(files), HARMFULQA_HUB),
    "toxicity": _Kind(load_toxicity, TOXICITY_HUB),
    "squad": _Kind(lambda files, _: load_squad(files), SQUAD_HUB, open_squad),
    "alpaca": _Kind(lambda files, _: load_alpaca(files), ALPACA_HUB),
    "rows": _Kind(load_rows),
}
KINDS = tuple(_KINDS)


@dataclass(frozen=True)
class PublishedSource:
    """One source, found but not yet read.

    Attributes:
        kind: One of KINDS.
        place: The file, folder or hub id.
        containers: The opened files.
    """

    kind: str
    place: str
    containers: tuple[Container, ...]

    def fingerprint(self) -> str:
        """Hash the content, whatever its place."""
        return hash_chunks(container.fingerprint().encode() for container in self.containers)

    def load(self, settings: SourceSettings) -> Loaded:
        """Read all examples.

        Raises:
            InputError: The data is not in the published layout.
        """
        return _KINDS[self.kind].load(self.containers, settings)


def find_source(named: str, settings: SourceSettings) -> PublishedSource:
    """Find the source that `KIND=PLACE` names; `KIND` alone stands for the data set on the hub.

    Raises:
        SettingsError: The kind is unknown, or needs a place.
        InputError: There is nothing at the place, or the hub does not provide it.
    """
    name, _, place = named.partition("=")
    if name not in _KINDS:
        raise SettingsError(f"source '{named}': expected KIND=PLACE, where KIND is one of {', '.join(KINDS)}")
    kind = _KINDS[name]
    place = place or kind.hub
    if not place:
        raise SettingsError(f"source '{named}': {name} needs a place, as in {name}=FILE")
    return PublishedSource(name, place, tuple(kind.open(place, settings.split)))
