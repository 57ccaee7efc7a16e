"""Keep what tests cache of tiny models apart from what the user has cached."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from forgetfilter.models.sources import cache_folder


def take_own_cache() -> None:
    """Cache in a folder of this session alone, in which the real model, once converted, is still found."""
    if "FORGETFILTER_CACHE" in os.environ:
        return
    cache = Path(tempfile.mkdtemp(prefix="forgetfilter-tests-"))
    atexit.register(shutil.rmtree, cache, ignore_errors=True)
    converted = cache_folder() / "gguf"
    converted.mkdir(parents=True, exist_ok=True)
    (cache / converted.name).symlink_to(converted)
    os.environ["FORGETFILTER_CACHE"] = str(cache)
