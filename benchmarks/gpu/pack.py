"""Collect the models and the data that `gpu.measure` needs, in parts that are small enough to be carried.

    python -m gpu.pack --data ../../shared/data --to /tmp/gpu-parts
    python -m gpu.pack --data ../../shared/data --to /tmp/gpu-parts --models smollm2-135m-instruct

The order of the parts is that in which they are worth most: the data and the smallest model first, which are enough for
the first steps.
"""

from __future__ import annotations

import argparse
import tarfile
from pathlib import Path

from gpu.models import MODELS, fetch
from gpu.parts import cut, describe

DATA = "data.tar.gz"
# What is packed of the data, and where it goes: the data sets of the panel, and the published ones that mixes are
# drawn from. All Alpaca rows lie in one folder, as mixes take them for one source.
_PACKED = {
    "normalised/*.jsonl": "normalised",
    "original/bbq_official/*.gz": "original/bbq_official",
    "original/squad_v2_cs224n_dev/*.gz": "original/squad_v2_cs224n_dev",
    "original/task_alpaca_*/*.json.gz": "alpaca",
}


def archive(data: Path, file: Path) -> Path:
    """Write the data sets that are needed into a compressed archive."""
    with tarfile.open(file, "w:gz") as written:
        for pattern, folder in _PACKED.items():
            for path in sorted(data.glob(pattern)):
                written.add(path, f"{folder}/{path.name}")
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with data sets, normalised and original")
    parser.add_argument("--to", type=Path, required=True, help="folder for the parts")
    parser.add_argument("--models", nargs="+", default=[model.name for model in MODELS], metavar="NAME")
    parser.add_argument("--most", type=float, default=56, help="largest size of a part, in MiB")
    options = parser.parse_args()
    whole, most = options.to / "whole", int(options.most * (1 << 20))
    whole.mkdir(parents=True, exist_ok=True)
    files = [archive(options.data, whole / DATA)]
    files += [fetch(model, whole) for model in MODELS if model.name in options.models]
    parts = [part for file in files for part in cut(file, options.to, most)]
    for part in [describe(files, options.to, most), *parts]:
        print(f"{part.stat().st_size / (1 << 20):6.1f} MiB  {part}")


if __name__ == "__main__":
    main()
