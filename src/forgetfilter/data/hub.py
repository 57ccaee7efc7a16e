"""Find out whether the Hugging Face hub can be reached, before libraries try for minutes."""

from __future__ import annotations

import sys

# A hub that takes longer to say anything is taken to be out of reach.
_SECONDS = 3.0
# Whether the libraries are told here, rather than by the user, to do without the hub.
_told = False


def can_reach_hub() -> bool:
    """Tell whether the hub can be asked: the user has not forbidden it, and it answers.

    Where it does not answer, `huggingface_hub` and `datasets` are told that they are offline, until it answers again:
    they look into their caches then, instead of asking again and again.
    """
    global _told
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE and not _told:
        return False
    # The client itself refuses while it is told to.
    constants.HF_HUB_OFFLINE = False
    reached = _answers(constants.ENDPOINT)
    constants.HF_HUB_OFFLINE = _told = not reached
    if "datasets" in sys.modules:
        from datasets import config

        config.HF_HUB_OFFLINE = _told
    return reached


def why_not() -> str:
    """Say why the hub cannot be asked."""
    return "the hub cannot be reached" if _told else "HF_HUB_OFFLINE is set"


def is_cached(model: str, file: str, revision: str | None) -> bool:
    """Tell whether the cache has a file of a model on the hub."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return isinstance(try_to_load_from_cache(model, file, revision=revision or "main"), str)
    except HFValidationError:
        return False


def _answers(endpoint: str) -> bool:
    from huggingface_hub.utils import get_session

    try:
        get_session().head(endpoint, timeout=_SECONDS)
    except Exception:
        # Whatever the client makes of it: no route, no name, no time, a proxy that refuses.
        return False
    return True
