"""Recognise a file by its first bytes, whatever its name says."""

from __future__ import annotations

import json
import re
from pathlib import Path

_PACKED = "unpack it and name the file that is in it"
_SHEET = "save the sheet as .csv"
_PICKLE = "that is never opened, as it can run code; save the rows as .jsonl or .parquet"
_DATABASE = "export the table as .csv or .jsonl"

# The first bytes of compressed files, by the endings of their names.
_COMPRESSED = {".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd", ".xz": b"\xfd7zXZ\x00", ".bz2": b"BZh"}

# First bytes, what such a file is, and what to do with it.
_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (_COMPRESSED[".gz"], "a gzip file", "let its name end in .gz, as in rows.jsonl.gz"),
    (_COMPRESSED[".zst"], "a zstd file", "let its name end in .zst, as in rows.jsonl.zst"),
    (_COMPRESSED[".xz"], "an xz file", "let its name end in .xz, as in rows.jsonl.xz"),
    (_COMPRESSED[".bz2"], "a bzip2 file", "let its name end in .bz2, as in rows.jsonl.bz2"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _PACKED),
    (b"Rar!", "a rar archive", _PACKED),
    (b"PAR1", "a parquet file", "let its name end in .parquet"),
    (b"PARE", "an encrypted parquet file", "decrypt it first"),
    (b"ARROW1", "an Arrow file", "save it as .parquet, or with datasets' save_to_disk"),
    (b"\xff\xff\xff\xff", "an Arrow stream", "save it as .parquet, or name the folder that save_to_disk wrote"),
    (b"FEA1", "a Feather file", "save it as .parquet"),
    (b"ORC", "an ORC file", "save it as .parquet"),
    (b"Obj\x01", "an Avro file", "save it as .parquet"),
    (b"SQLite format 3\x00", "an SQLite database", _DATABASE),
    (b"\x89HDF", "an HDF5 file", "save its rows as .jsonl or .parquet"),
    (b"\xd0\xcf\x11\xe0", "an old Office file, perhaps .xls", _SHEET),
    (b"\x93NUMPY", "a NumPy array", "save its rows as .jsonl"),
    (b"GGUF", "a GGUF model", "models go after --model"),
    (b"%PDF", "a PDF", "save its text as .txt"),
    (b"\x89PNG", "an image", "the filter reads text alone"),
    (b"\xff\xd8\xff", "an image", "the filter reads text alone"),
    (b"GIF8", "an image", "the filter reads text alone"),
    (b"\x7fELF", "a program", "name the data"),
    (b"{\\rtf", "an RTF document", "save its text as .txt"),
)
_POINTER = "the data itself was not downloaded; fetch it"
# Endings of names that are known, of files that cannot be read.
_ENDINGS = {
    **dict.fromkeys((".xlsx", ".xls", ".ods"), ("a spreadsheet", _SHEET)),
    **dict.fromkeys((".pkl", ".pickle", ".pt", ".pth", ".joblib"), ("a pickle", _PICKLE)),
    **dict.fromkeys((".db", ".sqlite", ".sqlite3"), ("a database", _DATABASE)),
    **dict.fromkeys(
        (".arrow", ".feather"), ("an Arrow file", "name the folder that save_to_disk wrote, or save it as .parquet")
    ),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z", ".rar"), ("an archive", _PACKED)),
    **dict.fromkeys((".yaml", ".yml"), ("YAML", "save its rows as .jsonl")),
    **dict.fromkeys((".xml", ".html", ".htm"), ("a marked-up document", "save its rows as .jsonl")),
    **dict.fromkeys((".docx", ".pdf", ".doc"), ("a document", "save its text as .txt")),
}


def told_by_bytes(start: bytes) -> tuple[str, str] | None:
    """Say what a file with these first bytes is, and what to do with it; None if it may be text."""
    # A signature of letters alone may be the beginning of a text.
    binary = re.search(rb"[\x00-\x08\x0e-\x1a]", start) is not None
    for signature, what, advice in _SIGNATURES:
        if start.startswith(signature) and (binary or not signature.isalnum()):
            return what, advice
    if start.startswith(b"PK\x03\x04"):
        return ("an Excel workbook", _SHEET) if b"xl/" in start or b"[Content_Types]" in start else ("a zip", _PACKED)
    if start[257:262] == b"ustar":
        return "a tar archive", _PACKED
    if re.match(rb"\x80[\x02-\x05]", start):
        return "a pickle", _PICKLE
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer", f"{_POINTER} with 'git lfs pull'"
    if b"/annex/objects/" in start[:400] and len(start) < 400:
        return "a git-annex pointer", f"{_POINTER} with 'git annex get'"
    opened = start.removeprefix(b"\xef\xbb\xbf").lstrip()[:64].lower()
    if opened.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page or XML", "perhaps an error page was saved in place of the data; download it again"
    return None


def told_by_name(name: str) -> tuple[str, str] | None:
    """Say what an unreadable file is by its name, and what to do with it; None where the name does not show it."""
    return _ENDINGS.get(Path(name.lower()).suffix)


def compression_told(start: bytes) -> str:
    """Return how the name of a compressed file with these first bytes should end; empty for other files."""
    return next((ending for ending, mark in _COMPRESSED.items() if start.startswith(mark)), "")


def kind_of_text(text: str) -> str:
    """Recognise the first lines of a text file: `.json` (an array), `.jsonl`, or empty for neither."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if not lines:
        return ""
    if re.match(r"\[\s*(\{|$)", text.lstrip()[:4096]):
        return ".json"
    return ".jsonl" if _is_object(lines[0]) or sum(map(_is_object, lines[1:50])) > len(lines[1:50]) / 2 else ""


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
