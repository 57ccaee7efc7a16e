"""Clean an untrusted fine-tuning data set: remove what a safety review makes a model forget.

ForgetFilter (Zhao, Deng, Madras, Zou and Ren, "Learning and Forgetting Unsafe Examples in Large
Language Models", ICML 2024).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "AppliedResult",
    "FilterResult",
    "ForgetFilter",
    "ForgetFilterError",
    "KeepLearned",
    "RowScorer",
    "__version__",
    "apply",
    "model_path",
]

if TYPE_CHECKING:
    from .api import AppliedResult, FilterResult, ForgetFilter, apply, model_path
    from .applying.scorer import RowScorer
    from .errors import ForgetFilterError
    from .integrations.trainers import KeepLearned


def __getattr__(name: str) -> Any:
    # Loaded on first use, so that importing the package costs next to nothing.
    if name in ("AppliedResult", "ForgetFilter", "FilterResult", "apply", "model_path"):
        from . import api

        return getattr(api, name)
    if name == "RowScorer":
        from .applying.scorer import RowScorer

        return RowScorer
    if name == "ForgetFilterError":
        from .errors import ForgetFilterError

        return ForgetFilterError
    if name == "KeepLearned":
        from .integrations.trainers import KeepLearned

        return KeepLearned
    raise AttributeError(f"module 'forgetfilter' has no attribute '{name}'")
