"""RELAX and REBAR: score function and pathwise derivative of a control variate, balanced."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_relax.estimators.estimator import Estimate, Estimator, Replay
from tf_relax.relaxations.event import along_event, sum_event
from tf_relax.sites import Site, Sites, ancestors


class ControlVariate(Estimator):
    r"""``g = [f(b) - c(z~)] d log p(b | a)/da + dc(z)/da - dc(z~)/da``, trained on its variance.

    Grathwohl et al. (2018), equation 8. Subclasses say what ``c`` is made of.

    Args:
        coupled: whether z~ shares its noise with (z, b) such that it equals z in value and differs
            only in its derivative. Every term depends on the marginal of z and on the joint
            distribution of (b, z~) alone, so this is as unbiased as an independent z~, and it
            needs one evaluation of ``c`` instead of two.
    """

    def __init__(self, coupled: bool = True):
        self.coupled = coupled
        self.needs_conditional = not coupled

    @abc.abstractmethod
    def uses_objective(self, layer: Any) -> bool:
        """Returns whether ``c`` contains ``scale f(relax(z, t))``."""

    @abc.abstractmethod
    def remainder(self, site: Site, z: tf.Tensor) -> tf.Tensor | None:
        """Returns the rest of ``c(z)``, `[batch]`, or `None` if there is none."""

    def estimate(self, sites: Sites, f: tf.Tensor, replay: Replay) -> Estimate:
        gradients = {}
        for level in sites.levels():
            # h = dc/dz; in the coupled case z~ = z in value, hence also c(z~) = c(z), h(z~) = h(z).
            c, h = self._evaluate(sites, level, [site.z for site in level], replay)
            if not self.coupled:
                z_tilde = [site.z_tilde for site in level]
                c, h_tilde = self._evaluate(sites, level, z_tilde, replay)
            for k, site in enumerate(level):
                relaxation, a, draw = site.layer.relaxation, site.logits, site.draw
                score = relaxation.score(a, draw)
                if self.coupled:
                    pathwise = relaxation.delta_vjp(a, draw, h[k])
                else:
                    pathwise = h[k] - relaxation.conditional_vjp(a, draw, z_tilde[k], h_tilde[k])
                gradients[site] = along_event(f - c[k], score) * score + pathwise
        g = [gradients[site] for site in sites]
        return Estimate(g, surrogate_loss=squared_gradient(g))

    def _evaluate(
        self, sites: Sites, level: Sequence[Site], z: Sequence[tf.Tensor], replay: Replay
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Returns c and dc/dz at the sites of one level."""
        objective, h_objective = self._relaxed_objective(level, z, replay)
        values, derivatives = [], []
        for k, site in enumerate(level):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(z[k])
                r = self.remainder(site, z[k])
            c, h = tf.zeros((1,), z[k].dtype), tf.zeros_like(z[k])
            if r is not None:
                c += sites.signal(r)
                h += tape.gradient(r, z[k], unconnected_gradients="zero")
            if objective is not None and self.uses_objective(site.layer):
                c += site.layer.scale * objective
                h += site.layer.scale * h_objective[k]
            values.append(c)
            derivatives.append(h)
        return values, derivatives

    def _relaxed_objective(
        self, level: Sequence[Site], z: Sequence[tf.Tensor], replay: Replay
    ) -> tuple[tf.Tensor | None, list[tf.Tensor]]:
        """Returns f(relax(z, t)) and its derivative in z; the sites of a level share one replay."""
        if not (replay.relaxable and any(self.uses_objective(site.layer) for site in level)):
            return None, []
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(z)
            objective = replay(level, z)
        derivatives = tape.gradient(objective, z)
        for k, site in enumerate(level):
            if derivatives[k] is None:
                if replay.complete:
                    raise ValueError(
                        f"The objective has no derivative with respect to the sample of "
                        f"{type(site.layer).__name__} '{site.name}', so it cannot serve as its "
                        "surrogate: the sample is not used, or passes an operation without a "
                        "derivative (rounding, casting to integers, argmax). Use "
                        "`surrogate='network'` in the layer, or estimator='reinforce'."
                    )
                derivatives[k] = tf.zeros_like(z[k])
        _check_second_derivative(level, derivatives)
        return objective, derivatives


# Derivatives of image resizing, which TensorFlow does not differentiate again, and does not say so.
_DIFFERENTIABLE_ONCE = {"ResizeBilinearGrad", "ResizeBicubicGrad", "ScaleAndTranslateGrad"}


def _check_second_derivative(level: Sequence[Site], derivatives: Sequence[tf.Tensor]) -> None:
    if tf.executing_eagerly():
        return  # there is no graph to look at
    types = {operation.type for operation in ancestors(derivatives)} & _DIFFERENTIABLE_ONCE
    if types:
        names = ", ".join(f"'{site.name}'" for site in level)
        raise ValueError(
            f"The objective passes through an operation without a second derivative "
            f"({', '.join(sorted(types))}) after stochastic layer {names}: its temperature would "
            "learn from a wrong gradient. Resize with interpolation='nearest', or use "
            "`surrogate='network'` in the layer."
        )


@keras.saving.register_keras_serializable(package="tf_relax")
class Relax(ControlVariate):
    r"""RELAX: a control variate learned on the variance of the gradient itself.

    ``g = [f(b) - c(z~)] d log p(b | a)/da + dc(z)/da - dc(z~)/da``, Grathwohl et al. (2018),
    equation 8. ``c`` is the surrogate of the layer: by default the objective at relaxed inputs plus
    a network. Unbiased for every surrogate and every objective, black boxes included.

    Args:
        coupled: whether z~ shares its noise with (z, b). The coupled estimator evaluates the
            surrogate once instead of twice, at practically the same variance.

    Example:

    >>> Relax()
    Relax(coupled=True)
    """

    def uses_objective(self, layer: Any) -> bool:
        return layer.surrogate.uses_objective

    def remainder(self, site: Site, z: tf.Tensor) -> tf.Tensor:
        return site.layer.surrogate(z, site.logits, site.context)

    def surrogate_variables(self, layer: Any, relaxable: bool) -> list[keras.Variable]:
        if layer.surrogate.needs_objective and not relaxable:
            raise ValueError(
                f"{type(layer).__name__} '{layer.name}' has the surrogate "
                f"{type(layer.surrogate).__name__}, which evaluates the objective at relaxed "
                "samples, and the objective is a BlackBox. Use `surrogate='network'` in the layer."
            )
        objective = layer.objective_variables if relaxable and self.uses_objective(layer) else []
        return [*objective, *layer.surrogate.trainable_variables]

    def get_config(self) -> dict[str, Any]:
        return {"coupled": self.coupled}


@keras.saving.register_keras_serializable(package="tf_relax")
class Rebar(ControlVariate):
    r"""REBAR: RELAX with the objective at relaxed inputs as its only surrogate.

    ``c(z) = eta f(relax(z, t))``, Tucker et al. (2017), equation 7, with ``eta`` (the layer's
    `scale`) and the temperature learned on the variance of the gradient. Unbiased.

    Args:
        coupled: whether z~ shares its noise with (z, b), as in the paper.

    Example:

    >>> Rebar(coupled=False)
    Rebar(coupled=False)
    """

    needs_differentiable_objective = True

    def uses_objective(self, layer: Any) -> bool:
        return True

    def remainder(self, site: Site, z: tf.Tensor) -> None:
        return None

    def surrogate_variables(self, layer: Any, relaxable: bool) -> list[keras.Variable]:
        return layer.objective_variables

    def get_config(self) -> dict[str, Any]:
        return {"coupled": self.coupled}


def squared_gradient(g: Sequence[tf.Tensor]) -> tf.Tensor:
    r"""Objective of the surrogates, ``mean over examples of sum over units of g^2``.

    As ``E[g]`` does not depend on phi, ``d Var(g)/d phi = E[d g^2/d phi]`` (Grathwohl et al. 2018,
    equation 5). Squares are taken per example, before the batch is averaged: that is the variance
    of one example's gradient, whatever the batch size.

    Args:
        g: gradients with respect to the logits, one `[batch, *event]` per site.

    Returns:
        A scalar.
    """
    return tf.add_n([tf.reduce_mean(sum_event(tf.square(g_site))) for g_site in g])
