"""Put the parts together that `gpu.pack` made, as far as they have arrived.

python -m gpu.unpack --parts /tmp/gpu-parts --to /tmp/gpu
"""

from __future__ import annotations

import argparse
import tarfile
from pathlib import Path

from gpu.pack import DATA
from gpu.parts import join


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=Path, required=True, help="folder with the parts and parts.json")
    parser.add_argument("--to", type=Path, required=True, help="folder for models; the data sets go to data/ in it")
    options = parser.parse_args()
    for name, state in join(options.parts, options.to).items():
        print(f"{name}: {state}")
    if (options.to / DATA).exists():
        with tarfile.open(options.to / DATA) as packed:
            packed.extractall(options.to / "data", filter="data")


if __name__ == "__main__":
    main()
