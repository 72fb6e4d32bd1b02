"""The importance-weighted bound on the log-likelihood."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tf_relax._src.sites import Record
from tf_relax._src.training.checks import has_prior
from tf_relax._src.training.objective import per_example_objective


def importance_weighted_bound(
    model: keras.Model,
    x: Any,
    y: Any = None,
    num_samples: int = 100,
    batch_size: int = 100,
    verbose: int | str = "auto",
) -> float:
    r"""Importance-weighted lower bound on $\log p(y)$, in nats per example.

    $$\mathbb{E}[\log \frac{1}{K} \sum_k \frac{p(y \mid b_k) p(b_k)}{q(b_k \mid x)}]$$

    Burda et al. (2016), equation 8, with the samples of every stochastic layer. For $K = 1$ it is
    the ELBO.

    Args:
        model: a compiled model whose loss is a negative log-likelihood in nats per example (such as
            `BernoulliNLL`) and whose stochastic layers have priors.
        x: inputs, arrays of `[examples, ...]`.
        y: targets; `None` takes the inputs.
        num_samples: $K$.
        batch_size: examples per evaluation.
        verbose: `"auto"` or 1 shows a progress bar, 0 nothing.

    Returns:
        The mean over all examples.

    Raises:
        ValueError: if no stochastic layer has a prior, for a model that is not compiled, or for
            `num_samples < 1`.

    Example:

    >>> import keras, numpy as np, tf_relax
    >>> inputs = keras.Input((3,))
    >>> code = tf_relax.layers.RelaxBernoulli(prior="uniform")(keras.layers.Dense(2)(inputs))
    >>> model = tf_relax.RelaxModel(inputs, keras.layers.Dense(3)(code))
    >>> model.compile(loss=tf_relax.losses.BernoulliNLL())
    >>> bound = importance_weighted_bound(model, np.eye(3), num_samples=10, verbose=0)
    """
    if num_samples < 1:
        raise ValueError(f"`num_samples` must be at least 1. Received: {num_samples}")
    if not model.compiled:
        raise ValueError(
            f"Model '{model.name}' is not compiled: call `compile` with the likelihood as its loss."
        )
    if not has_prior(model):
        raise ValueError(
            f"Model '{model.name}' has no prior, so there is no likelihood to bound. Give its "
            "stochastic layers one, for example RelaxBernoulli(prior='learned')."
        )

    def log_weight(x: Any, y: Any) -> tf.Tensor:
        """Returns log p(y | b) p(b) / q(b | x) for one sample of every layer, `[batch]`."""
        with Record(divergence="sampled", always_samples=True):
            y_pred = model(x, training=False)
        return -per_example_objective(model, x, y, y_pred, None, training=False).f

    @tf.function(reduce_retracing=True, jit_compile=bool(model.jit_compile), autograph=False)
    def bound(x: Any, y: Any) -> tf.Tensor:
        def add_sample(k: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return k + 1, tfp.math.log_add_exp(total, log_weight(x, y))

        _, total = tf.while_loop(
            lambda k, total: k < num_samples, add_sample, [1, log_weight(x, y)]
        )
        return total - math.log(num_samples)

    data = (x, x if y is None else y)
    flat = keras.tree.flatten(data)
    given = [array for array in flat if array is not None]  # optional inputs may be left out
    batches = tf.data.Dataset.from_tensor_slices(tuple(given)).batch(batch_size)
    progress = keras.utils.Progbar(len(batches), verbose=1 if verbose == "auto" else verbose)
    total, examples = 0.0, 0
    for step, arrays in enumerate(batches):
        remaining = iter(arrays)
        batch = [None if array is None else next(remaining) for array in flat]
        bounds = bound(*keras.tree.pack_sequence_as(data, batch))
        total, examples = total + float(tf.reduce_sum(bounds)), examples + len(bounds)
        progress.update(step + 1)
    return total / examples
