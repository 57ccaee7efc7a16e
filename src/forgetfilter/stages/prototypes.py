"""Read the package's own rows, the prototypes, and choose those that the rows of a run are compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ..data.chats import Chat
from ..data.containers import open_container
from ..data.rows import ReadOptions, Said, read_chats
from ..runs.inputs import BUILTIN, Material, prototypes
from ..runs.layout import ORDINARY_PROTOTYPES, SAFE_PROTOTYPES, TRUSTED, UNSAFE_PROTOTYPES
from ..settings.groups import Settings

PROTOTYPES = (*UNSAFE_PROTOTYPES, SAFE_PROTOTYPES, ORDINARY_PROTOTYPES)
# This many ordinary rows are as informative as more (docs/evidence.md).
_ORDINARY = 120


def choose_prototypes(name: str, material: Material, settings: Settings) -> Iterator[Said]:
    """Yield the package's unsafe rows, as many safe ones of each notion, or ordinary ones.

    Those that the run itself uses are left out.
    """
    if name == SAFE_PROTOTYPES and BUILTIN in settings.safe.safe:
        return
    used = set()
    if name == ORDINARY_PROTOTYPES and settings.planted.trusted == BUILTIN and TRUSTED in material.parts:
        used = set(material.texts(TRUSTED))
    # How many there are at most of each notion, which ordinary rows have none of.
    most = Counter({"": _ORDINARY})
    if name != ORDINARY_PROTOTYPES:
        most = Counter(notion for unsafe in UNSAFE_PROTOTYPES for _, notion, _ in _of_package(unsafe))
    seen = Counter[str]()
    for position, notion, chat in _of_package(name):
        if seen[notion] < most[notion] and (chat.prompt, chat.completion) not in used:
            seen[notion] += 1
            yield f"{name} {position}", position, chat


def _of_package(name: str) -> Iterator[tuple[int, str, Chat]]:
    """Read the package's rows of a kind: each one's place in the file, its notion, empty if ordinary, and the row."""
    container = open_container(str(prototypes(name.removeprefix("builtin-"))), "train")
    for position, (record, _, chat) in enumerate(read_chats(container, ReadOptions())):
        assert isinstance(chat, Chat)
        assert record.fields is not None
        yield position, str(record.fields.get("notion", "")), chat
