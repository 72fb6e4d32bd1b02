"""The equations of the estimators, as functions of tensors: models and policies share them.

Letters are those of the papers: `a` are logits, ``b = H(z)`` a sample with its relaxation `z`,
``z~`` (`z_tilde`) another sample of ``z | b``, `f` what is minimised (or a return), `c` the control
variate, `h` its derivative in z. Signals have one number per example, `[batch]`; gradients the
shape of the logits, `[batch, *event]`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from tf_relax._src.relaxations import Conditional, Draw, Relaxation, Relaxed
from tf_relax._src.relaxations.event import along_event, sum_event


def times(signal: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Returns ``signal x`` for one number per example and `[batch, *event]`."""
    return along_event(signal, x) * x


def score_function(
    relaxation: Relaxation, a: tf.Tensor, draw: Draw, signal: tf.Tensor
) -> tf.Tensor:
    """Returns ``signal d log p(b | a)/da``, Williams (1992), equation 5."""
    return times(signal, relaxation.score(a, draw))


def relax(
    relaxation: Relaxation, a: tf.Tensor, draw: Draw, signal: tf.Tensor, path: tf.Tensor
) -> tf.Tensor:
    """Returns ``signal d log p(b | a)/da + path``, Grathwohl et al. (2018), equation 8.

    Args:
        relaxation: of the samples.
        a: logits.
        draw: the sample.
        signal: ``f(b) - c(z~)``.
        path: ``dc(z)/da - dc(z~)/da``, by `coupled_path` or `independent_path`.
    """
    return score_function(relaxation, a, draw, signal) + path


def coupled_path(relaxation: Conditional, a: tf.Tensor, draw: Draw, h: tf.Tensor) -> tf.Tensor:
    """Returns ``dc(z)/da - dc(z~)/da`` where z~ shares its noise with z, and equals it in value.

    Every term of equation 8 depends on the marginal of z and on the joint distribution of (b, z~)
    alone, so this is as unbiased as an independent z~, with one evaluation of ``c`` for two.
    """
    return relaxation.delta_vjp(a, draw, h)


def independent_path(
    relaxation: Conditional,
    a: tf.Tensor,
    draw: Draw,
    z_tilde: tf.Tensor,
    h: tf.Tensor,
    h_tilde: tf.Tensor,
) -> tf.Tensor:
    """Returns ``dc(z)/da - dc(z~)/da`` where z~ has noise of its own, as in the paper."""
    path = relaxation.vjp(a, draw, h)
    return path - relaxation.conditional_vjp(a, draw, z_tilde, h_tilde)


def lax(
    relaxation: Relaxed, a: tf.Tensor, draw: Draw, signal: tf.Tensor, h: tf.Tensor
) -> tf.Tensor:
    """Returns ``[f(b) - c(b)] d log p(b | a)/da + dc(b)/da``, Grathwohl et al. (2018), equation 6.

    Args:
        relaxation: of continuous samples.
        a: logits.
        draw: the sample.
        signal: ``f(b) - c(b)``.
        h: ``dc/db``.
    """
    return score_function(relaxation, a, draw, signal) + relaxation.vjp(a, draw, h)


def dlax(
    relaxation: Relaxed,
    a: tf.Tensor,
    draw: Draw,
    f: tf.Tensor,
    c: tf.Tensor,
    h: tf.Tensor,
) -> tf.Tensor:
    """Returns ``f(b) d log p(b|a)/da - c(z) d log p(z|a)/da + dc(z)/da``, ibid., equation 7."""
    g = score_function(relaxation, a, draw, f)
    g -= times(c, relaxation.relaxed_score(a, draw))
    return g + relaxation.vjp(a, draw, h)


def value_and_derivative(
    c: Callable[[tf.Tensor], tf.Tensor], z: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns ``c(z)`` and ``h = dc/dz``, both differentiable in what ``c`` has learned."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(z)
        value = c(z)
    return value, tape.gradient(value, z, unconnected_gradients="zero")


def first_order(slope: tf.Tensor, b: tf.Tensor, mean: tf.Tensor) -> tf.Tensor:
    """Returns ``<df/db(mean), b - mean>``, `[batch]`, Gu et al. (2016), equation 6.

    Its mean over b is zero, and exactly known is that of its product with the score.
    """
    return sum_event(slope * (b - mean))


def leave_one_out(f: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Returns ``f_k - mean_{j != k} f_j`` for every k, Kool et al. (2019), equation 8."""
    return [f_k - others for f_k, others in zip(f, mean_of_others(f), strict=True)]


def mean_of_others(x: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Returns ``mean_{j != k} x_j`` for every k."""
    # Summed anew for every k: x_k taken off the sum of all would leave rounding errors of its size.
    return [
        tf.add_n([x_j for j, x_j in enumerate(x) if j != k]) / (len(x) - 1) for k in range(len(x))
    ]


def squared_gradient(gradients: Sequence[Sequence[tf.Tensor]]) -> tf.Tensor:
    r"""Returns the objective of the surrogates, ``mean over examples of sum over units of g^2``.

    As ``E[g]`` does not depend on phi, ``d Var(g)/d phi = E[d g^2/d phi]`` (Grathwohl et al. 2018,
    equation 5). Squares are taken per example, before the batch is averaged: that is the variance
    of one example's gradient, whatever the batch size. Where several passes share their logits,
    their shares are summed first: it is the sum that the model trains on.

    Args:
        gradients: gradients with respect to the logits, per pass and site.
    """
    totals = [tf.add_n(shares) for shares in zip(*gradients, strict=True)]
    return tf.add_n([tf.reduce_mean(sum_event(tf.square(g))) for g in totals])


__all__ = [
    "coupled_path",
    "dlax",
    "first_order",
    "independent_path",
    "lax",
    "leave_one_out",
    "mean_of_others",
    "relax",
    "score_function",
    "squared_gradient",
    "times",
    "value_and_derivative",
]
