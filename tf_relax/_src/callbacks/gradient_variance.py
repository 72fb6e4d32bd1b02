"""Variance of the gradient while a model trains."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from tf_relax._src.relaxations.event import sum_event
from tf_relax._src.training.batch import as_tensors
from tf_relax._src.training.state import moving_state, unchanged


class GradientVariance(keras.callbacks.Callback):
    r"""Logs variance and signal-to-noise ratio of the gradient at every stochastic layer.

    Every `frequency` batches two gradients g and g' of the same batch are drawn with the compiled
    estimator. ``(g - g')^2 / 2`` is an unbiased estimate of their variance and ``g g'`` of the
    squared signal; both are averaged over the logits and over the draws of the epoch. The logs
    `<layer>_gradient_variance` (per logit and example) and `<layer>_gradient_snr`
    (``|E g| / sqrt(tr Cov g)``, 0 where the signal drowns) appear in the progress bar, in
    `History`, and in `CSVLogger`, `TensorBoard`, `EarlyStopping` and the like where these come
    later in the list of callbacks. Training itself is not changed by a bit: seeds, statistics and
    weights are what they would be without the callback.

    Args:
        x: inputs of a batch to measure on, arrays or tensors; a batch of the size trained on, or
            smaller.
        y: its targets.
        frequency: batches between measurements. The price is two gradients each time: at 100 about
            2 % of an epoch, plus compiling them once.

    Raises:
        ValueError: for a frequency below 1.
        TypeError: (from `fit`) for a model that is not a `RelaxModel`.

    Example:

    >>> import keras, numpy as np, tf_relax
    >>> inputs = keras.Input((3,))
    >>> code = tf_relax.layers.RelaxBernoulli(name="code")(keras.layers.Dense(2)(inputs))
    >>> model = tf_relax.RelaxModel(inputs, keras.layers.Dense(3)(code))
    >>> model.compile("adam", loss="mse", jit_compile=False)
    >>> x = np.eye(3)
    >>> history = model.fit(x, x, callbacks=[GradientVariance(x, x)], verbose=0)
    >>> sorted(history.history)
    ['code_gradient_snr', 'code_gradient_variance', 'loss']
    """

    def __init__(self, x: Any, y: Any = None, frequency: int = 100):
        super().__init__()
        if frequency < 1:
            raise ValueError(
                f"GradientVariance: `frequency` must be at least 1. Received: {frequency}"
            )
        self.x, self.y = as_tensors(x), as_tensors(y)
        self.frequency = frequency
        self._compiled_with: Any = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if not hasattr(self.model, "differentiate"):
            raise TypeError(
                f"GradientVariance measures the estimator of a tf_relax.RelaxModel. "
                f"'{self.model.name}' is a {type(self.model).__name__}."
            )
        if self._compiled_with is not self.model.optimizer:  # `compile` brings a new one
            self._compiled_with = self.model.optimizer
            self._measure = tf.function(
                self._pair, jit_compile=bool(self.model.jit_compile), autograph=False
            )
        if self.model.run_eagerly:
            self._measure = self._pair
        self._batches = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._sums: dict[str, list[float]] = {}
        self._values: dict[str, float] = {}
        self._measurements = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._batches % self.frequency == 0 or not self._measurements:
            self._add_measurement()
        self._batches += 1
        if logs is not None:
            logs.update(self._values)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None:
            logs.update(self._values)

    def _pair(self) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
        """Returns variance and squared signal per logit, from two draws, at every site."""
        with unchanged(moving_state(self.model)):
            first = self.model.differentiate(self.x, self.y)
            second = self.model.differentiate(self.x, self.y)
        pairs = zip(first.logit_gradients, second.logit_gradients, strict=True)
        return {
            site.name: pair_moments(*pair) for site, pair in zip(first.sites, pairs, strict=True)
        }

    def _add_measurement(self) -> None:
        self._measurements += 1
        for name, (variance, squared_signal) in self._measure().items():
            sums = self._sums.setdefault(name, [0.0, 0.0])
            sums[0] += float(variance)
            sums[1] += float(squared_signal)
            self._values[f"{name}_gradient_variance"] = sums[0] / self._measurements
            self._values[f"{name}_gradient_snr"] = signal_to_noise(*sums)


def pair_moments(g: tf.Tensor, other: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the means over logits and examples of ``(g - g')^2 / 2`` and of ``g g'``.

    Args:
        g: gradient in the logits of every example, `[batch, *event]`.
        other: another draw of it.
    """
    size = tf.cast(tf.size(g), g.dtype)
    variance = tf.reduce_sum(sum_event(tf.square(g - other))) / 2 / size
    return variance, tf.reduce_sum(sum_event(g * other)) / size


def signal_to_noise(variance: float, squared_signal: float) -> float:
    """Returns ``|E g| / sqrt(tr Cov g)`` from estimates of both squares; 0 if the signal drowns."""
    return math.sqrt(max(squared_signal, 0.0) / variance) if variance > 0 else math.inf
