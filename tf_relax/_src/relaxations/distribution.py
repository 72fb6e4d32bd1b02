"""Any TensorFlow Probability distribution, by its sampler and its density."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp

from tf_relax._src.relaxations.capabilities import Continuous, Discrete, KnownMean, Relaxed
from tf_relax._src.relaxations.event import all_finite, along_event
from tf_relax._src.relaxations.impossible import IMPOSSIBLE
from tf_relax._src.relaxations.noise import seed_pair
from tf_relax._src.relaxations.relaxation import Draw, Relaxation

tfd = tfp.distributions


class Distribution(KnownMean):
    r"""The distribution `make_distribution(a)`, with derivatives by automatic differentiation.

    Where TensorFlow Probability reparameterises the sampler (explicitly or implicitly, Figurnov et
    al. 2018), $b = z$ has a derivative in `a`. Where it does not, nothing but the score is known.
    The noise of a draw is the seed of the sampler: the same seed gives the same noise to other
    parameters.

    Args:
        make_distribution: maps parameters `[batch, *event]` to a `tfp.distributions.Distribution`
            whose batch shape starts with `[batch]`.

    Example:

    >>> import tensorflow as tf
    >>> import tensorflow_probability as tfp
    >>> poisson = Distribution(lambda a: tfp.distributions.Poisson(log_rate=a))
    >>> type(poisson.for_shape(tf.TensorShape([None, 3]))).__name__
    'DiscreteDistribution'
    """

    def __init__(self, make_distribution: Callable[[tf.Tensor], Any]):
        self.make_distribution = make_distribution

    def probe(self, logits_shape: tf.TensorShape, dtype: Any = tf.float32) -> Probe:
        """Returns what the distribution is for logits of a shape, by making it once."""
        return _probe(self.make_distribution, tuple(logits_shape.as_list()), tf.as_dtype(dtype))

    def for_shape(self, logits_shape: tf.TensorShape, dtype: Any = tf.float32) -> Relaxation:
        found = self.probe(logits_shape, dtype)
        if found.reparameterized:
            return Reparameterized(self.make_distribution)
        kind = ContinuousDistribution if found.continuous else DiscreteDistribution
        return kind(self.make_distribution)

    def relaxed_shape(self, logits_shape: tf.TensorShape) -> tf.TensorShape:
        return self.probe(logits_shape).shape

    def noise_shape(self, logits_shape: tf.TensorShape) -> tf.TensorShape:
        return tf.TensorShape([2])

    def noise(self, shape: Any, dtype: Any, seed: Any) -> tf.Tensor:
        pair = seed_pair(seed)
        bits = tf.random.stateless_uniform(
            shape, pair, minval=None, maxval=None, dtype=tf.int32, alg="philox"
        )
        return tf.reshape(bits, shape)

    def bounded(self, a: tf.Tensor) -> tf.Tensor:
        # A category that is impossible, a rate of zero: formulas rarely take -inf for it.
        return tf.where(a == float("-inf"), tf.constant(IMPOSSIBLE, a.dtype), a)

    def sample(self, a: tf.Tensor, noise: tf.Tensor) -> Draw:
        # Samplers that try until they succeed do not end with NaN for a parameter.
        distribution = self.make_distribution(numbers(a))
        b = nan_unless_finite(a, tf.cast(distribution.sample(seed=noise), a.dtype))
        return Draw(noise=noise, z=b, b=b)

    def log_prob(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        return self.relaxed_log_prob(a, draw.b)

    def relaxed_log_prob(self, a: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        distribution = self.make_distribution(a)
        return tf.cast(distribution.log_prob(tf.cast(y, distribution.dtype)), a.dtype)

    def kl(self, a: tf.Tensor, prior: tf.Tensor) -> tf.Tensor | None:
        return kl_divergence(self.make_distribution(a), self.make_distribution(prior))

    def score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(a)
            log_prob = self.relaxed_log_prob(a, tf.stop_gradient(draw.b))
        return tape.gradient(log_prob, a, unconnected_gradients="zero")

    def mean(self, a: tf.Tensor) -> tf.Tensor:
        return tf.cast(self.make_distribution(a).mean(), a.dtype)

    def mode(self, a: tf.Tensor) -> tf.Tensor:
        return tf.cast(self.make_distribution(a).mode(), a.dtype)


class Reparameterized(Continuous, Relaxed, Distribution):
    """A distribution whose samples have a derivative in its parameters."""

    initial_temperature = None

    def relaxed_score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        return self.score(a, draw)

    def vjp(self, a: tf.Tensor, draw: Draw, h: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(a)
            z = self.sample(a, draw.noise).z
        return tape.gradient(z, a, output_gradients=h, unconnected_gradients="zero")

    def relax(self, z: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        return z


class ContinuousDistribution(Continuous, Distribution):
    """A distribution of real numbers of which nothing but the score is known."""


class DiscreteDistribution(Discrete, Distribution):
    """A discrete distribution of which nothing but the score is known."""


def numbers(a: tf.Tensor) -> tf.Tensor:
    """Returns parameters with 0 in the place of what is not finite."""
    return tf.where(tf.math.is_finite(a), a, tf.zeros_like(a))


def nan_unless_finite(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Returns samples, NaN for the examples whose parameters are not all finite."""
    return tf.where(along_event(all_finite(a), b), b, tf.constant(float("nan"), b.dtype))


class Probe(NamedTuple):
    """What is known of a distribution without drawing from it.

    Attributes:
        name: its class.
        shape: of its samples, with `None` for unknown sizes.
        reparameterized: whether its samples have a derivative in its parameters.
        continuous: whether its samples are real numbers with a density.
        rejection: whether it is made of gamma variables, see `Rejection`.
    """

    name: str
    shape: tf.TensorShape
    reparameterized: bool
    continuous: bool
    rejection: bool


@functools.lru_cache(maxsize=256)
def _probe(make: Callable[[Any], Any], shape: tuple[int | None, ...], dtype: tf.DType) -> Probe:
    made: list[Any] = []

    def sample(a: tf.Tensor) -> tf.Tensor:
        made.append(make(a))
        if not isinstance(made[-1], tfd.Distribution):
            raise TypeError(
                "`make_distribution` must return a `tfp.distributions.Distribution`. "
                f"Received: {made[-1]!r}"
            )
        return made[-1].sample(seed=[0, 0])

    # Traced, not run: the shapes of a batch of unknown size follow without any numbers.
    traced = tf.function(sample, autograph=False).get_concrete_function(tf.TensorSpec(shape, dtype))
    distribution = made[-1]
    reparameterized = distribution.reparameterization_type == tfd.FULLY_REPARAMETERIZED
    return Probe(
        name=type(distribution).__name__,
        shape=traced.output_shapes,
        reparameterized=reparameterized,
        continuous=reparameterized or _is_continuous(distribution),
        rejection=isinstance(distribution, (tfd.Gamma, tfd.Beta, tfd.Dirichlet)),
    )


def _is_continuous(distribution: Any) -> bool:
    """Distributions on whole numbers have no bijector onto their support."""
    if isinstance(distribution, (tfd.Independent, tfd.Sample)):
        return _is_continuous(distribution.distribution)
    if isinstance(distribution, tfd.MixtureSameFamily):
        return _is_continuous(distribution.components_distribution)
    if not distribution.dtype.is_floating:
        return False
    try:
        return distribution.experimental_default_event_space_bijector() is not None
    except NotImplementedError:
        return False


def kl_divergence(q: Any, p: Any) -> tf.Tensor | None:
    """Returns ``KL(q || p)``, or `None` where TensorFlow Probability has no formula for it."""
    try:
        return tfd.kl_divergence(q, p)
    except NotImplementedError:
        return None
