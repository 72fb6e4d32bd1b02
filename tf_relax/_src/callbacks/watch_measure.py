"""What the code of a model and its surrogates are like, measured on one batch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_relax._src.callbacks.gradient_variance import pair_moments, signal_to_noise
from tf_relax._src.estimators import Nvil, Reinforce
from tf_relax._src.estimators.per_layer import OwnSites
from tf_relax._src.estimators.score_function import LEARNED, learned_baseline
from tf_relax._src.estimators.surrogate_value import SurrogateUser, surrogate_and_derivative
from tf_relax._src.layers.mask import restricted
from tf_relax._src.relaxations import (
    BinaryUnits,
    Categorical,
    Counts,
    Discrete,
    Distribution,
    KnownMean,
    Relaxation,
    Sticks,
)
from tf_relax._src.training.checks import check_coupling
from tf_relax._src.training.compiled_model import CompiledModel
from tf_relax._src.training.passes import Step
from tf_relax._src.training.state import moving_state, unchanged

_DRAWS, _DRAWS_OF_EVEN_USE = 16, 256


class SiteMeasurement(NamedTuple):
    """What was measured at one call of a stochastic layer. Entropies are in nats.

    Attributes:
        kind: class of the layer.
        usage: mean of b over the batch, shaped like b; `nan` for what is masked everywhere.
        probabilities: ``E[b | x]`` of every example, `[batch, ...]`.
        sampled: how many draws both were estimated from, 0 where the law knows them.
        binary: whether b consists of zeros and ones.
        entropy: of ``p(b | x)``, averaged over the batch, per unit or choice; `None` if unknown.
        usage_entropy: of the usage itself, per unit or choice; `None` where it is no law.
        even_entropy: entropy of a unit or choice whose logits favour nothing, or `None`.
        dead: which units are always or never used, shaped like b; `None` if b is no zeros and ones.
        units: how many of b can be used at all.
        temperature: of the relaxation in the surrogate, or `None`.
        scale: of the objective in the surrogate, or `None`.
        surrogate_fit: ``1 - E (f - c)^2 / Var f``, or `None`.
        gradient_variance: per logit and example.
        squared_signal: ``|E g|^2`` per logit and example, an estimate that may lie below 0.
        gradient_snr: ``|E g| / sqrt(tr Cov g)``.
        notes: why something is left out or estimated.
    """

    kind: str
    usage: np.ndarray
    probabilities: np.ndarray
    sampled: int
    binary: bool
    entropy: np.ndarray | None
    usage_entropy: np.ndarray | None
    even_entropy: float | None
    dead: np.ndarray | None
    units: int
    temperature: float | None
    scale: float | None
    surrogate_fit: float | None
    gradient_variance: float
    squared_signal: float
    gradient_snr: float
    notes: tuple[str, ...]

    @property
    def scalars(self) -> dict[str, float]:
        """The numbers among them by their names; means over units and choices."""
        found = {
            "entropy": None if self.entropy is None else _mean(self.entropy),
            "usage_entropy": None if self.usage_entropy is None else _mean(self.usage_entropy),
            "dead": None if self.dead is None else float(self.dead.sum()),
            "temperature": self.temperature,
            "scale": self.scale,
            "surrogate_fit": self.surrogate_fit,
            "gradient_variance": self.gradient_variance,
            "gradient_snr": self.gradient_snr,
        }
        return {name: value for name, value in found.items() if value is not None}


def draw(model: CompiledModel, x: Any, y: Any) -> dict[str, dict[str, tf.Tensor]]:
    """Returns logits, their gradient, and the mask where there is one, by site.

    Args:
        model: compiled and built.
        x: inputs.
        y: targets.
    """
    step = model.differentiate(x, y)
    result = {}
    for site, gradient in zip(step.sites, step.logit_gradients, strict=True):
        result[site.name] = {"logits": site.logits, "gradient": gradient}
        if site.mask is not None:
            result[site.name]["mask"] = site.mask
    return result


def measured(
    model: CompiledModel,
    draw_once: Callable[[], dict[str, dict[str, tf.Tensor]]],
    fit: Callable[[], dict[str, tf.Tensor]],
    gradients: int,
) -> dict[str, dict[str, tf.Tensor]]:
    """Returns logits, masks and moments of gradients and surrogates by site; changes nothing.

    Args:
        model: compiled and built.
        draw_once: calls `draw`, perhaps as a graph.
        fit: calls `surrogate_fits` likewise.
        gradients: how many to draw, 2 at least.
    """
    with unchanged(moving_state(model)):
        draws = [draw_once() for _ in range(gradients)]
        fits = fit()
    result = {}
    for name, found in draws[0].items():
        of_site = [each[name]["gradient"] for each in draws]
        moments = [pair_moments(*pair) for pair in itertools.combinations(of_site, 2)]
        variance, squared = (tf.add_n(each) / len(each) for each in zip(*moments, strict=True))
        result[name] = {**found, "gradient_variance": variance, "squared_signal": squared}
        if name in fits:
            result[name]["surrogate_fit"] = fits[name]
    return result


def surrogate_fits(model: CompiledModel, x: Any, y: Any) -> dict[str, tf.Tensor]:
    """Returns ``1 - E (f - c)^2 / Var f`` at every site whose estimator has a ``c``.

    ``c`` is the control variate at z, or the baseline of the input; `f` is the objective of every
    example at one sample. Means are over the batch.
    """
    parts = {layer.name: model.estimator.part(layer) for layer in model.stochastic_layers}
    with_c = {name for name, part in parts.items() if isinstance(part, SurrogateUser)}
    with_baseline = {name for name, part in parts.items() if _learns_a_baseline(part)}
    if model.importance_samples is not None or not with_c | with_baseline:
        return {}
    step = Step(model, (x, y, None))
    one = step.record()
    # Where examples are coupled f is one number for all of them, and has no variance.
    check_coupling(model, one.sites, one.parts, step.moved(), step.tape)
    found: dict[str, tf.Tensor] = {}
    for level in OwnSites(one, with_c).sites.levels():
        values, _ = surrogate_and_derivative(one, level, [site.z for site in level])
        found.update({site.name: c for site, c in zip(level, values, strict=True)})
    for site in OwnSites(one, with_baseline).sites:
        c = learned_baseline(one, site)
        if isinstance(parts[site.layer.name], Nvil):
            c = site.state.mean.value + tf.sqrt(site.state.variance.value) * c
        found[site.name] = c
    variance = tf.math.reduce_variance(one.f)
    return {name: 1 - tf.reduce_mean(tf.square(one.f - c)) / variance for name, c in found.items()}


def _learns_a_baseline(part: Any) -> bool:
    return isinstance(part, Nvil) or (isinstance(part, Reinforce) and part.baseline == LEARNED)


def site_measurement(layer: Any, state: Any, found: dict[str, Any], dead: float) -> SiteMeasurement:
    """Turns the tensors of a site into what is shown.

    Args:
        layer: the stochastic layer.
        state: what the estimator has learned for it.
        found: its tensors.
        dead: entropy of a unit's usage, as a share of that of even use, below which it is dead.
    """
    relaxation, logits, mask = layer.relaxation, found["logits"], found.get("mask")
    law = Law(relaxation, logits, _DRAWS)
    weights = _weights(relaxation, logits, mask)
    usage = _average(law.mean, weights)
    notes = []
    if law.sampled:
        notes.append(f"Usage and probabilities are estimated from {law.sampled} draws per example.")
    if law.entropy is None:
        notes.append(f"No entropy: the probability of a sample of {type(layer).__name__} is open.")
    elif law.entropy_is_sampled:
        notes.append(f"The entropy is estimated, by -log p of {_DRAWS} draws per example.")
    even_entropy, gone, units = None, None, usage.size
    binary = isinstance(relaxation, Discrete) and not isinstance(relaxation, (Counts, Distribution))
    if binary:
        even = _even(relaxation, logits, mask)
        even_usage = _average(even.mean, weights if mask is not None else None)
        can_be_used = (even_usage > 0) & ~np.isnan(usage)
        units = int(can_be_used.sum())
        gone = can_be_used & (_binary_entropy(usage) < dead * _binary_entropy(even_usage))
        even_entropy = None if even.entropy is None else _mean(even.entropy)
    else:
        notes.append("No unit is called dead: the samples are no zeros and ones.")
    temperature, scale = getattr(state, "temperature", None), getattr(state, "scale", None)
    fit = found.get("surrogate_fit")
    if fit is not None and not math.isfinite(float(fit)):
        fit = None
        notes.append("No fit of the surrogate: the objective is one number for the batch.")
    variance, squared = float(found["gradient_variance"]), float(found["squared_signal"])
    if variance == 0:
        notes.append("The gradient has no noise.")
    return SiteMeasurement(
        kind=type(layer).__name__,
        usage=usage,
        probabilities=law.mean,
        sampled=law.sampled,
        binary=binary,
        entropy=None if law.entropy is None else _average(law.entropy, weights),
        usage_entropy=_usage_entropy(relaxation, usage),
        even_entropy=even_entropy,
        dead=gone,
        units=units,
        temperature=None if temperature is None else float(temperature),
        scale=None if scale is None else float(scale.numpy()),
        surrogate_fit=None if fit is None else float(fit),
        gradient_variance=variance,
        squared_signal=squared,
        gradient_snr=signal_to_noise(variance, squared),
        notes=tuple(notes),
    )


class Law:
    """Mean and entropy of ``p(b | a)`` for every example, by formula or from draws.

    Seeds of the draws are fixed, so that nothing moves but the logits.

    Args:
        relaxation: what is drawn.
        a: logits, `[batch, *event]`.
        draws: for each example, where there is no formula.

    Attributes:
        mean: ``E[b | a]``, `[batch, ...]`.
        entropy: in nats, `[batch, ...]` per unit or choice; `None` where ``p(b | a)`` is unknown.
        sampled: how many draws the mean took, 0 for none.
        entropy_is_sampled: whether the entropy took them.
    """

    def __init__(self, relaxation: Relaxation, a: tf.Tensor, draws: int):
        self.relaxation, self.a, self.draws = relaxation, a, draws
        self._drawn: Any = None
        self.sampled, mean = 0, None
        if isinstance(relaxation, KnownMean):
            try:
                mean = relaxation.mean(a)
            except NotImplementedError:  # of some distributions of TensorFlow Probability
                mean = None
        if mean is None:
            mean, self.sampled = self._over_draws(self._draw()[1].b), draws
        self.mean = np.asarray(mean)
        entropy = relaxation.entropy(a)
        self.entropy_is_sampled = entropy is None
        self.entropy = self._estimated_entropy() if entropy is None else np.asarray(entropy)

    def _draw(self) -> Any:
        """Returns the logits, repeated, and draws of them."""
        if self._drawn is None:
            a = tf.tile(self.a, [self.draws] + [1] * (self.a.shape.rank - 1))
            shape = self.relaxation.noise_shape(a.shape)
            noise = self.relaxation.noise(tf.constant(shape.as_list()), a.dtype, 0)
            self._drawn = a, self.relaxation.sample(a, noise)
        return self._drawn

    def _over_draws(self, x: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(tf.reshape(x, [self.draws, -1, *x.shape[1:]]), axis=0)

    def _estimated_entropy(self) -> np.ndarray | None:
        a, draw = self._draw()
        try:
            log_prob = self.relaxation.log_prob(a, draw)
        except NotImplementedError:
            return None
        # One number per choice.
        last = range(a.shape.rank - self.relaxation.choice_rank, log_prob.shape.rank)
        return np.asarray(-self._over_draws(tf.reduce_sum(log_prob, axis=list(last))))


def _even(relaxation: Relaxation, logits: tf.Tensor, mask: tf.Tensor | None) -> Law:
    """Returns the law of logits that favour nothing, among what a mask leaves."""
    uniform = tf.constant(relaxation.uniform_logits(logits.shape[1:]), logits.dtype)[tf.newaxis]
    if mask is None:
        return Law(relaxation, uniform, _DRAWS_OF_EVEN_USE)
    uniform = restricted(relaxation, tf.broadcast_to(uniform, tf.shape(logits)), mask)
    return Law(relaxation, uniform, _DRAWS)


def _weights(
    relaxation: Relaxation, logits: tf.Tensor, mask: tf.Tensor | None
) -> np.ndarray | None:
    """Returns 1 for the units and choices that take part, `[batch, ...]`; `None` if all do."""
    if mask is None:
        return None
    present = np.broadcast_to(np.asarray(mask), logits.shape)
    last = range(present.ndim - relaxation.choice_rank, present.ndim)
    return present.any(axis=tuple(last)).astype("float64")


def _average(x: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Returns the mean over the batch, `nan` where nothing takes part."""
    x = np.asarray(x, "float64")
    if weights is None or weights.shape != x.shape[: weights.ndim]:
        return x.mean(axis=0)
    weights = weights.reshape(weights.shape + (1,) * (x.ndim - weights.ndim))
    count = np.broadcast_to(weights.sum(axis=0), x.shape[1:])
    total = (weights * np.where(weights > 0, x, 0)).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _mean(x: np.ndarray) -> float:
    """Returns the mean of what takes part."""
    return float(np.nanmean(x)) if np.isfinite(x).any() else math.nan


def _binary_entropy(p: np.ndarray) -> np.ndarray:
    """Returns ``-p log p - (1 - p) log(1 - p)`` in nats."""
    p = np.clip(p, 1e-300, 1)
    return -p * np.log(p) - (1 - p) * np.log1p(-np.minimum(p, 1 - 1e-16))


def _usage_entropy(relaxation: Relaxation, usage: np.ndarray) -> np.ndarray | None:
    """Returns the entropy of a unit or choice without its input, where usage is its law."""
    if isinstance(relaxation, BinaryUnits):
        return _binary_entropy(usage)
    if isinstance(relaxation, (Categorical, Sticks)):
        return -(usage * np.log(np.maximum(usage, 1e-300))).sum(axis=-1)
    return None
