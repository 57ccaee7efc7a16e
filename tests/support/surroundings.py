"""Keep what is installed and cached on this machine from what tests with tiny models do."""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

NO_EMBEDDER = str(Path(__file__).parent / "no_embedder")
CONVERTED = Path("~/.cache/forgetfilter/gguf").expanduser()


def leave_embedder_out() -> None:
    """Let an empty package stand before the one with the embedding model, also in processes that tests start."""
    sys.path.insert(0, NO_EMBEDDER)
    os.environ["PYTHONPATH"] = os.pathsep.join([NO_EMBEDDER, *filter(None, [os.environ.get("PYTHONPATH")])])


def take_own_cache() -> None:
    """Keep what is cached of tiny models for this session alone; the real model, once converted, is still found."""
    if "FORGETFILTER_CACHE" in os.environ:
        return
    cache = Path(tempfile.mkdtemp(prefix="forgetfilter-tests-"))
    atexit.register(shutil.rmtree, cache, ignore_errors=True)
    CONVERTED.mkdir(parents=True, exist_ok=True)
    (cache / CONVERTED.name).symlink_to(CONVERTED)
    os.environ["FORGETFILTER_CACHE"] = str(cache)
