r"""The equations of the estimators, as functions of tensors: models and policies share them.

Letters are those of the papers: `a` are logits, $b = H(z)$ a sample with its relaxation `z`,
$\tilde z$ (`z_tilde`) another sample of $z \mid b$, `f` what is minimised (or a return), `c` the
control variate, `h` its derivative in z. Signals have one number per example, `[batch]`; gradients
the shape of the logits, `[batch, *event]`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from tf_relax._src.relaxations import Conditional, Draw, Relaxation, Relaxed
from tf_relax._src.relaxations.event import along_event, sum_event


def times(signal: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Returns the product of one number per example, `signal`, and `x`, `[batch, *event]`."""
    return along_event(signal, x) * x


def score_function(
    relaxation: Relaxation, a: tf.Tensor, draw: Draw, signal: tf.Tensor
) -> tf.Tensor:
    r"""Returns `signal` $\nabla_a \log p(b \mid a)$, Williams (1992), equation 5."""
    return times(signal, relaxation.score(a, draw))


def relax(
    relaxation: Relaxation, a: tf.Tensor, draw: Draw, signal: tf.Tensor, path: tf.Tensor
) -> tf.Tensor:
    r"""Returns `signal` $\nabla_a \log p(b \mid a)$ + `path`, Grathwohl et al. (2018), equation 8.

    Args:
        relaxation: of the samples.
        a: logits.
        draw: the sample.
        signal: $f(b) - c(\tilde z)$.
        path: $\nabla_a c(z) - \nabla_a c(\tilde z)$, by `coupled_path` or `independent_path`.
    """
    return score_function(relaxation, a, draw, signal) + path


def coupled_path(relaxation: Conditional, a: tf.Tensor, draw: Draw, h: tf.Tensor) -> tf.Tensor:
    r"""Returns $\nabla_a c(z) - \nabla_a c(\tilde z)$ for a coupled $\tilde z$.

    It shares its noise with $z$, and equals it in value. Every term of equation 8 depends on the
    marginal of $z$ and on the joint distribution of $(b, \tilde z)$ alone, so this is as unbiased
    as an independent $\tilde z$, with one evaluation of $c$ for two.
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
    r"""Returns $\nabla_a c(z) - \nabla_a c(\tilde z)$ for a $\tilde z$ with noise of its own.

    That is the form of the paper.
    """
    path = relaxation.vjp(a, draw, h)
    return path - relaxation.conditional_vjp(a, draw, z_tilde, h_tilde)


def lax(
    relaxation: Relaxed, a: tf.Tensor, draw: Draw, signal: tf.Tensor, h: tf.Tensor
) -> tf.Tensor:
    r"""Returns the estimate of LAX, Grathwohl et al. (2018), equation 6.

    $$[f(b) - c(b)] \nabla_a \log p(b \mid a) + \nabla_a c(b)$$

    Args:
        relaxation: of continuous samples.
        a: logits.
        draw: the sample.
        signal: $f(b) - c(b)$.
        h: $dc/db$.
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
    r"""Returns the estimate of DLAX, Grathwohl et al. (2018), equation 7.

    $$f(b) \nabla_a \log p(b \mid a) - c(z) \nabla_a \log p(z \mid a) + \nabla_a c(z)$$
    """
    g = score_function(relaxation, a, draw, f)
    g -= times(c, relaxation.relaxed_score(a, draw))
    return g + relaxation.vjp(a, draw, h)


def value_and_derivative(
    c: Callable[[tf.Tensor], tf.Tensor], z: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns $c(z)$ and $h = dc/dz$, both differentiable in what $c$ has learned."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(z)
        value = c(z)
    return value, tape.gradient(value, z, unconnected_gradients="zero")


def first_order(slope: tf.Tensor, b: tf.Tensor, mean: tf.Tensor) -> tf.Tensor:
    r"""Returns $f'(\mu)^T (b - \mu)$ with $\mu = \mathbb{E}[b]$, `[batch]`.

    Gu et al. (2016), equation 6. Its mean over $b$ is zero, and exactly known is that of its
    product with the score.
    """
    return sum_event(slope * (b - mean))


def leave_one_out(f: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    r"""Returns what the mean of the others leaves of every value, Kool et al. (2019), equation 8.

    $$f_k - \frac{1}{K - 1} \sum_{j \ne k} f_j$$
    """
    return [f_k - others for f_k, others in zip(f, mean_of_others(f), strict=True)]


def mean_of_others(x: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    r"""Returns $\frac{1}{K - 1} \sum_{j \ne k} x_j$ for every $k$."""
    # Summed anew for every k: x_k taken off the sum of all would leave rounding errors of its size.
    return [
        tf.add_n([x_j for j, x_j in enumerate(x) if j != k]) / (len(x) - 1) for k in range(len(x))
    ]


def squared_gradient(gradients: Sequence[Sequence[tf.Tensor]]) -> tf.Tensor:
    r"""Returns the objective of the surrogates, the mean over examples of $\lVert g \rVert^2$.

    As $\mathbb{E}[g]$ does not depend on $\phi$,

    $$\nabla_\phi \mathrm{Var}(g) = \mathbb{E}[\nabla_\phi g^2]$$

    (Grathwohl et al. 2018, equation 5). Squares are taken per example, before the batch is
    averaged: that is the variance of one example's gradient, whatever the batch size. Where several
    passes share their logits, their shares are summed first: it is the sum that the model trains
    on.

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
