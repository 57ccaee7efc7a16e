"""End learning once the loss has levelled off."""

from __future__ import annotations

import numpy as np

from ..training import Step

# An epoch that gains less than this share of all that was gained since the first epoch adds little to what is known.
_LEAST_GAIN = 0.25
_FEWEST_EPOCHS = 3


class LossPlateau:
    """Ends a session when the loss of its last epoch fell little further: the rows are learned.

    The answer depends on the history alone, so that a session that was killed stops where it would have stopped.

    Args:
        steps_per_epoch: Optimizer steps in one epoch.
    """

    def __init__(self, steps_per_epoch: int) -> None:
        self._steps_per_epoch = steps_per_epoch

    def __call__(self, history: list[Step]) -> bool:
        epochs, rest = divmod(len(history), self._steps_per_epoch)
        if rest or epochs < _FEWEST_EPOCHS:
            return False
        losses = np.array([step.loss for step in history]).reshape(epochs, self._steps_per_epoch).mean(axis=1)
        return bool(losses[-2] - losses[-1] < _LEAST_GAIN * (losses[0] - losses[-1]))
