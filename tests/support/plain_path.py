"""Leave the fast forward paths of models out, here and in other processes of the command."""

import sys
from pathlib import Path

import pytest

# What Python is given to run the command; another process takes the paths that this one takes.
COMMAND = ["-m", "forgetfilter"]


def leave_fast_paths_out(patch: pytest.MonkeyPatch) -> None:
    """Let models keep the layers of their libraries, and pad rows."""
    for install in ("use_own_attention", "fuse_lora", "use_fast_blocks"):
        patch.setattr(f"forgetfilter.models.forward_path.{install}", lambda _: None)
    patch.setattr("forgetfilter.models.forward_path.can_pack", lambda *_: False)
    patch.setattr("support.plain_path.COMMAND", [str(Path(__file__).resolve())])


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from forgetfilter.cli import main

    with pytest.MonkeyPatch.context() as patch:
        leave_fast_paths_out(patch)
        sys.exit(main(sys.argv[1:]))
