"""The callbacks of `fit`, where an update is an epoch of one batch."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import numpy as np


class Listeners(keras.callbacks.CallbackList):
    """Keras's list, for quantities that it does not know and that are not known from the start.

    Before an episode has ended there is no mean return, and not a number compares with none:
    callbacks that look for the best are asked only once there is something to compare.
    """

    # Whose direction nobody doubts; Keras asks for that of all others.
    DIRECTIONS: ClassVar[dict[str, str]] = {
        "return": "max",
        "evaluation_return": "max",
        "explained_variance": "max",
        "value_loss": "min",
        "gradient_log_variance": "min",
    }
    MONITORS = (
        keras.callbacks.EarlyStopping,
        keras.callbacks.ModelCheckpoint,
        keras.callbacks.ReduceLROnPlateau,
    )

    callbacks: list[Any]

    def on_train_begin(self, logs: Any = None) -> None:
        for callback in self.callbacks:
            if isinstance(callback, self.MONITORS) and getattr(callback, "mode", None) == "auto":
                callback.mode = self.DIRECTIONS.get(callback.monitor, "auto")
        # Few look at batches, and telling them takes longer than a step of an environment.
        self._batches = any(map(_looks_at_batches, self.callbacks))
        super().on_train_begin(logs)

    def on_update_begin(self, update: int) -> None:
        """Tells all callbacks that an update begins."""
        self.on_epoch_begin(update)
        if self._batches:
            self.on_train_batch_begin(0)

    def on_update_end(self, update: int, logs: dict[str, float]) -> None:
        """Tells all callbacks of an update: of a batch, and of the epoch that it is."""
        every = self.callbacks
        self.callbacks = [callback for callback in every if not self._waits(callback, logs)]
        try:
            if self._batches:
                self.on_train_batch_end(0, logs)
            self.on_epoch_end(update, logs)
        finally:
            self.callbacks = every

    def _waits(self, callback: Any, logs: dict[str, float]) -> bool:
        if not isinstance(callback, self.MONITORS):
            return False
        if not np.isnan(logs.get(callback.monitor, 0.0)):
            return False
        # One that saves every time compares nothing.
        return getattr(callback, "save_best_only", True)


def _looks_at_batches(callback: Any) -> bool:
    names = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
    plain = keras.callbacks.Callback
    return any(
        getattr(getattr(callback, name), "__func__", None) is not getattr(plain, name)
        for name in names
    )
