"""What every gradient estimator answers."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import keras
import tensorflow as tf

from tf_relax.sites import Site, Sites


class Replay(Protocol):
    """The objective as a function of relaxed samples.

    Attributes:
        relaxable: whether any part of the objective can be evaluated at relaxed samples.
        complete: whether all of it can; a black-box part is left out.
    """

    relaxable: bool
    complete: bool

    def __call__(self, level: Sequence[Site], z: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns the objective with the sites of `level`, and all later ones, relaxed."""
        ...


class Estimate(NamedTuple):
    """What an estimator returns.

    Attributes:
        gradients: per site, the estimate of ``d E[f_i] / d logits_i`` of every example, shaped like
            the logits; `None` if the pass itself was differentiable and backpropagation does it.
        surrogate_loss: scalar whose gradient trains the surrogates, or `None`.
        updates: variables and the values that they take after the step.
    """

    gradients: list[tf.Tensor] | None
    surrogate_loss: tf.Tensor | None = None
    updates: Sequence[tuple[keras.Variable, tf.Tensor]] = ()


class Estimator(abc.ABC):
    """Strategy that turns one recorded pass into gradients for the logits of every site.

    Estimators own no variables: what they learn lives in the stochastic layers. They are given to
    `RelaxModel.compile(estimator=...)` by name or as objects.

    Attributes:
        unbiased: whether the expectation of the estimate is the gradient of the expectation.
        needs_differentiable_objective: whether a black-box objective is refused.
        needs_conditional: whether z~ has to be drawn in the recorded pass.
        relaxes_samples: whether the recorded pass itself runs on relaxed samples.
    """

    unbiased: bool = True
    needs_differentiable_objective: bool = False
    needs_conditional: bool = False
    relaxes_samples: bool = False

    def output(self, site: Site) -> tf.Tensor:
        """Returns what the layer gives to the rest of the model: by default the hard sample."""
        return tf.cast(tf.stop_gradient(site.b), site.layer.compute_dtype)

    def surrogate_variables(self, layer: Any, relaxable: bool) -> list[keras.Variable]:
        """Returns the layer's variables that `surrogate_loss` trains.

        Args:
            layer: a stochastic layer.
            relaxable: whether any part of the objective can be evaluated at relaxed samples.
        """
        return []

    @abc.abstractmethod
    def estimate(self, sites: Sites, f: tf.Tensor, replay: Replay) -> Estimate:
        """Estimates the gradient at every site.

        Args:
            sites: the recorded pass.
            f: objective of every example at the hard samples, `[batch]` (`[1]` where the examples
                are coupled by batch statistics: then it is the sum over the batch).
            replay: evaluates the objective at relaxed samples.
        """

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
