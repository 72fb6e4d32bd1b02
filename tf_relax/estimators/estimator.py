"""What every gradient estimator answers."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import keras
import tensorflow as tf

from tf_relax.relaxations.event import along_event, sum_event
from tf_relax.sites import Site, Sites


class Pass(Protocol):
    """One run of the model on hard samples, and the ways to run parts of it again.

    Attributes:
        sites: the samples of the pass.
        f: objective of every example, `[batch]`, a constant for gradients (`[1]` where batch
            statistics couple the examples: then it is the sum over the batch).
        objective: the same, per example, as a differentiable tensor.
        targets: the step's `y` if it is a single tensor, for surrogates that look at it.
        relaxable: whether any part of the objective can be evaluated at relaxed samples.
        complete: whether all of it can; a black-box part is left out.
    """

    sites: Sites
    objective: tf.Tensor
    relaxable: bool
    complete: bool

    @property
    def f(self) -> tf.Tensor: ...

    @property
    def targets(self) -> tf.Tensor | None: ...

    def relaxed(self, level: Sequence[Site], z: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns the objective with the sites of `level` at `z`, and all later ones, relaxed."""
        ...

    def at_mean(self, level: Sequence[Site], mean: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns the objective with the sites of `level`, and all later ones, at their mean."""
        ...

    def resampled(self, level: Sequence[Site], k: int) -> tf.Tensor:
        """Returns the differentiable objective with the sites of `level` sampled by noise `k`."""
        ...

    def forced(self, outcomes: Sequence[tf.Tensor]) -> Pass:
        """Returns the pass in which every site takes the given hard sample."""
        ...

    def signal(self, per_example: tf.Tensor) -> tf.Tensor:
        """Returns what may multiply a score, as a constant: an example's value, or the batch's."""
        ...

    def derivative(self) -> list[tf.Tensor]:
        """Returns ``df/db`` at every site, shaped like `b`."""
        ...


class Passes(list[Pass]):
    """The passes of one step. They share the logits of their first level of sites.

    Attributes:
        objective: what the model minimises, per example and differentiable: the mean over the
            passes, or minus the importance-weighted bound that they form together.
        f: the same as a constant for gradients, `[batch]` (`[1]` where examples are coupled).
    """

    objective: tf.Tensor
    f: tf.Tensor


class Estimate(NamedTuple):
    """What an estimator returns.

    Attributes:
        gradients: per pass and per site, the estimate's share of ``d E[f_i] / d logits_i`` of every
            example, shaped like the logits; `None` if the passes themselves were differentiable and
            backpropagation does it.
        surrogate_loss: scalar whose gradient trains the surrogates, or `None`.
        updates: variables and the values that they take after the step.
        objectives: what deterministic weights descend, a sum of products: per-example weights,
            constants, and differentiable per-example objectives; `None` is the passes' own.
        passes: the passes that `gradients` belong to; `None` are those that were given.
    """

    gradients: list[list[tf.Tensor]] | None
    surrogate_loss: tf.Tensor | None = None
    updates: Sequence[tuple[keras.Variable, tf.Tensor]] = ()
    objectives: Sequence[tuple[Any, tf.Tensor]] | None = None
    passes: Passes | None = None


class Estimator(abc.ABC):
    """Strategy that turns recorded passes into gradients for the logits of every site.

    Estimators own no variables: what they learn lives in the stochastic layers. They are given to
    `RelaxModel.compile(estimator=...)` by name or as objects.

    Attributes:
        unbiased: whether the expectation of the estimate is the gradient of the expectation.
        needs_differentiable_objective: whether a black-box objective is refused.
        needs_deterministic_objective: whether an objective that draws random numbers of its own is
            refused.
        relaxes_samples: whether the recorded pass itself runs on relaxed samples.
        importance_weighted: whether the estimator works with the importance-weighted objective,
            in which one value depends on the samples of all passes.
        num_passes: independent passes per step.
        num_noises: noise tensors per site; by default one per pass.
        num_z_tildes: samples of `z | b` per site.
    """

    unbiased: bool = True
    needs_differentiable_objective: bool = False
    needs_deterministic_objective: bool = False
    relaxes_samples: bool = False
    importance_weighted: bool = False
    num_passes: int = 1
    num_noises: int = 1
    num_z_tildes: int = 0

    def check(self, layer: Any) -> None:
        """Raises a ValueError that names both if the estimator is not defined for a layer."""
        require_discrete(self, layer)

    def check_objective(self, importance_samples: int | None) -> None:
        """Raises a ValueError if the estimator does not work with the model's objective.

        Args:
            importance_samples: samples of the importance-weighted objective, `None` for the ELBO
                or any other mean over samples.
        """
        if importance_samples is None:
            return
        if not isinstance(importance_samples, int) or importance_samples < 1:
            raise ValueError(
                "`importance_samples` must be at least 1 (a whole number). Received: "
                f"{importance_samples}"
            )
        if not self.importance_weighted:
            raise ValueError(
                f"{self} estimates the gradient of a mean over samples, and importance_samples="
                f"{importance_samples} asks for the logarithm of one. Use 'vimco' or 'reinforce', "
                "or one of the pathwise estimators."
            )

    def couple(self, noises: list[tf.Tensor], logits: tf.Tensor) -> list[tf.Tensor]:
        """Maps independent noise tensors of a site to those that its samples are made of."""
        return noises

    def output(self, site: Site) -> tf.Tensor:
        """Returns what the layer gives to the rest of the model: by default the hard sample."""
        return tf.stop_gradient(site.layer.as_output(site.draw))

    def surrogate_variables(self, layer: Any, relaxable: bool) -> list[keras.Variable]:
        """Returns the layer's variables that `surrogate_loss` trains.

        Args:
            layer: a stochastic layer.
            relaxable: whether any part of the objective can be evaluated at relaxed samples.
        """
        return []

    @abc.abstractmethod
    def estimate(self, passes: Passes) -> Estimate:
        """Estimates the gradient at every site of every pass."""

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Estimator:
        """Returns the estimator with these constructor arguments."""
        return cls(**config)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


def require_discrete(estimator: Estimator, layer: Any) -> None:
    """Raises a ValueError if the layer's samples are continuous."""
    if not layer.relaxation.discrete:
        raise ValueError(
            f"{estimator} estimates gradients for discrete samples, and "
            f"{type(layer).__name__} '{layer.name}' draws continuous ones. Use 'lax', "
            "'reparameterization' or 'reinforce'."
        )


def require_binary(estimator: Estimator, layer: Any) -> None:
    """Raises a ValueError if the layer's samples are not independent binary units."""
    if not layer.relaxation.binary:
        raise ValueError(
            f"{estimator} is defined for independent binary units, which "
            f"{type(layer).__name__} '{layer.name}' does not draw. Use 'relax' or "
            "'leave_one_out' for other discrete layers, 'lax' or 'reinforce' for continuous ones."
        )


def require_conditional(estimator: Estimator, layer: Any) -> None:
    """Raises a ValueError unless ``p(b | a)`` is known and ``z | b`` can be drawn."""
    require_discrete(estimator, layer)
    if not layer.relaxation.has_conditional:
        raise ValueError(
            f"{estimator} draws z given b, which is not known for {type(layer).__name__} "
            f"'{layer.name}'. Use {_remedy(layer)} or 'leave_one_out'."
        )


def _remedy(layer: Any) -> str:
    """Names the quietest unbiased estimator that goes with discrete samples."""
    if layer.relaxation.has_conditional:
        return "'relax'"
    return "'dlax'" if layer.relaxation.has_relaxation else "'reinforce'"


def require_relaxation(estimator: Estimator, layer: Any) -> None:
    """Raises a ValueError if there is no z behind the layer's samples."""
    if not layer.relaxation.has_relaxation:
        raise ValueError(
            f"{estimator} needs a relaxed sample with a derivative, which {type(layer).__name__} "
            f"'{layer.name}' does not have. Use 'reinforce', 'leave_one_out' or 'nvil'."
        )


def require_mean(estimator: Estimator, layer: Any) -> None:
    """Raises a ValueError unless the mean of the layer's samples is known."""
    require_discrete(estimator, layer)
    if not layer.relaxation.has_mean or not layer.relaxation.has_relaxation:
        raise ValueError(
            f"{estimator} needs the mean of the samples, which is not known for "
            f"{type(layer).__name__} '{layer.name}'. Use {_remedy(layer)} or 'leave_one_out'."
        )


def require_continuous(estimator: Estimator, layer: Any) -> None:
    """Raises a ValueError if the layer's samples are discrete."""
    if layer.relaxation.discrete:
        raise ValueError(
            f"{estimator} differentiates the sample itself, and {type(layer).__name__} "
            f"'{layer.name}' draws discrete ones. Use {_remedy(layer)}, or 'leave_one_out'."
        )
    require_relaxation(estimator, layer)


def score(site: Site) -> tf.Tensor:
    """Returns ``d log p(b | a) / da`` at a site."""
    return site.layer.relaxation.score(site.logits, site.draw)


def times(signal: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Returns ``signal x`` for one number per example and `[batch, *event]`."""
    return along_event(signal, x) * x


def squared_gradient(gradients: Sequence[Sequence[tf.Tensor]]) -> tf.Tensor:
    r"""Objective of the surrogates, ``mean over examples of sum over units of g^2``.

    As ``E[g]`` does not depend on phi, ``d Var(g)/d phi = E[d g^2/d phi]`` (Grathwohl et al. 2018,
    equation 5). Squares are taken per example, before the batch is averaged: that is the variance
    of one example's gradient, whatever the batch size. Where several passes share their logits,
    their shares are summed first: it is the sum that the model trains on.

    Args:
        gradients: gradients with respect to the logits, `[batch, *event]`, per pass and site.

    Returns:
        A scalar.
    """
    totals = [tf.add_n(shares) for shares in zip(*gradients, strict=True)]
    return tf.add_n([tf.reduce_mean(sum_event(tf.square(g))) for g in totals])
