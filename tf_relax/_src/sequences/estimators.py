"""How the gradient of the expected reward is estimated, in the logits of every token."""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_relax._src import rules, surrogates
from tf_relax._src.critic import Critic
from tf_relax._src.estimators.citations import Cited
from tf_relax._src.estimators.leave_one_out import check_samples
from tf_relax._src.estimators.unordered_set import log_1mexp, set_weights
from tf_relax._src.relaxations import Categorical, Draw
from tf_relax._src.surrogates import Surrogate


class Group(NamedTuple):
    """K sequences of every prompt, side by side.

    Attributes:
        relaxation: of the tokens.
        logits: of every token, given those before it, a constant, `[batch, K, tokens, vocabulary]`.
        draw: the tokens, one-hot.
        log_p: of the sequences, `[batch, K]`.
        exists: whether there was such a sequence to draw, `[batch, K]`.
        returns: the reward from every token on, less what divergences cost after it,
            `[batch, K, tokens]`; of the end also where a sequence is over.
        mask: 1 for tokens, 0 after the end, `[batch, K, tokens]`.
        noise: independent of all else, shaped like the logits.
        critic: ``c_t(z_t, a_t)``, or `None`.
    """

    relaxation: Categorical
    logits: tf.Tensor
    draw: Draw
    log_p: tf.Tensor
    exists: tf.Tensor
    returns: tf.Tensor
    mask: tf.Tensor
    noise: tf.Tensor
    critic: Critic | None


class SequenceEstimator(Cited, abc.ABC):
    """Strategy that turns K sequences of every prompt into a gradient for the logits of each token.

    Attributes:
        unbiased: whether its expectation is the gradient of the expected reward.
        without_replacement: whether the sequences of a prompt are different ones.
        num_samples: $K$.
        papers: names of the papers that it comes from, or their BibTeX, which `citation()` returns.
    """

    unbiased: bool = True
    without_replacement: bool = False
    num_samples: int

    def critic(self, dtype: Any) -> Critic | None:
        """Returns the surrogate that the gradient is made with: by default none."""
        return None

    def weights(self, group: Group) -> tf.Tensor:
        """Returns the weights with which a sum over the sequences is a mean over all there are."""
        return tf.ones_like(group.log_p) / self.num_samples

    @abc.abstractmethod
    def advantages(self, group: Group) -> tf.Tensor:
        """Returns what is left of the returns, `[batch, K, tokens]`."""

    def gradient(self, group: Group) -> tf.Tensor:
        """Returns the gradient of the expected return, shaped like the logits; ascend it."""
        signal = self.weights(group)[..., tf.newaxis] * self.advantages(group) * group.mask
        return signal[..., tf.newaxis] * group.relaxation.score(group.logits, group.draw)

    def get_config(self) -> dict[str, Any]:
        return {"num_samples": self.num_samples}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SequenceEstimator:
        return cls(**config)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.get_config())
        return f"{type(self).__name__}({shown})"


@keras.saving.register_keras_serializable(package="tf_relax.sequences")
class SequenceReinforce(SequenceEstimator):
    r"""REINFORCE on sequences, Williams (1992): no baseline.

    $$g = \sum_t R_t \nabla \log p(y_t \mid y_1, \ldots, y_{t-1})$$

    Args:
        num_samples: $K$ sequences per prompt, over which the estimate is averaged.

    Example:

    >>> SequenceReinforce()
    SequenceReinforce(num_samples=1)
    """

    papers = ("williams1992",)

    def __init__(self, num_samples: int = 1):
        self.num_samples = check_samples(type(self).__name__, num_samples, least=1)

    def advantages(self, group: Group) -> tf.Tensor:
        return group.returns


@keras.saving.register_keras_serializable(package="tf_relax.sequences")
class SequenceLeaveOneOut(SequenceEstimator):
    r"""Leave-one-out on sequences, "RLOO".

    $$g = \frac{1}{K} \sum_k \sum_t (R_{kt} - \frac{1}{K - 1} \sum_{j \ne k} R_{jt})
        \nabla \log p(y_{kt} \mid \ldots)$$

    Kool et al. (2019), equation 8. $K$ independent sequences per prompt are each the others'
    baseline.

    Args:
        num_samples: $K$, at least 2.

    Raises:
        ValueError: for fewer than two samples.

    Example:

    >>> SequenceLeaveOneOut(4)
    SequenceLeaveOneOut(num_samples=4)
    """

    papers = ("kool2019",)

    def __init__(self, num_samples: int = 4):
        self.num_samples = check_samples(type(self).__name__, num_samples)

    def advantages(self, group: Group) -> tf.Tensor:
        return _less_others(group.returns)


@keras.saving.register_keras_serializable(package="tf_relax.sequences")
class SequenceUnorderedSet(SequenceEstimator):
    r"""The unordered set estimator on sequences, drawn without replacement.

    $$g = \sum_{y \in S} p(y) R(S, y) (f(y) - \beta(y)) \nabla \log p(y)$$

    Kool, van Hoof and Welling (2020), equations 10 and 15, as `tf_relax.estimators.UnorderedSet`;
    the $K$ different sequences $S$ are found by stochastic beam search (Kool et al. 2019). For
    distributions of which few sequences have most of the probability; where $S$ holds all sequences
    it is exact.

    Args:
        num_samples: $K$, at least 2.

    Raises:
        ValueError: for fewer than two samples.

    Example:

    >>> SequenceUnorderedSet(4)
    SequenceUnorderedSet(num_samples=4)
    """

    papers = ("kool2020", "kool2019beams")
    without_replacement = True

    def __init__(self, num_samples: int = 4):
        self.num_samples = check_samples(type(self).__name__, num_samples)

    def weights(self, group: Group) -> tf.Tensor:
        return self._weights(group)[0]

    def advantages(self, group: Group) -> tf.Tensor:
        _, of_others = self._weights(group)
        return group.returns - tf.einsum("bkj,bjt->bkt", of_others, group.returns)

    def _weights(self, group: Group) -> tuple[tf.Tensor, tf.Tensor]:
        # In float64: what is left of the probability is a difference of nearly equal numbers.
        log_p = tf.cast(group.log_p, tf.float64)
        lowest = tf.constant(log_p.dtype.min, log_p.dtype)
        there = tf.where(group.exists, log_p, lowest)
        total = tf.reduce_logsumexp(there, axis=-1)
        log_left = tf.where(total < 0, _log_1mexp_of(total), lowest)
        # What does not exist arrives at once, and weighs nothing.
        certain = tf.where(group.exists, log_p, tf.zeros_like(log_p))
        weights, of_others = set_weights(certain, log_left)
        exists = tf.cast(group.exists, log_p.dtype)
        dtype = group.returns.dtype
        return tf.cast(weights * exists, dtype), tf.cast(of_others * exists[:, tf.newaxis], dtype)


@keras.saving.register_keras_serializable(package="tf_relax.sequences")
class SequenceRelax(SequenceEstimator):
    r"""RELAX on sequences, with a surrogate $c_t$ for every token.

    $$g = \sum_t [A_t - c_t(\tilde z_t)] \nabla \log p(y_t)
        + \nabla c_t(z_t) - \nabla c_t(\tilde z_t)$$

    Grathwohl et al. (2018), equation 8, for every token in turn: $c_t$ sees the relaxed token and
    the logits, which are all that there is before it, and nothing that comes after. With several
    sequences $A_t$ is what leave-one-out leaves of the return, and the estimate is their mean. The
    surrogate learns on the square of the gradient.

    Args:
        num_samples: $K$ sequences per prompt.
        surrogate: $c$: `"network"`, a `tf_relax.surrogates.Surrogate` or a Keras model of z. Its
            context is the position, from 0 to 1.
        temperature: where the temperature of the relaxed tokens starts; it is learned.

    Raises:
        ValueError: for fewer than one sample.

    Example:

    >>> SequenceRelax(4)
    SequenceRelax(num_samples=4, surrogate='network', temperature=0.5)
    """

    papers = ("grathwohl2018",)

    def __init__(
        self,
        num_samples: int = 4,
        surrogate: str | Surrogate = "network",
        temperature: float = 0.5,
    ):
        self.num_samples = check_samples(type(self).__name__, num_samples, least=1)
        self.surrogate = surrogates.checked(surrogate)
        self.temperature = temperature
        if self.surrogate in ("objective", "sum") or getattr(
            self.surrogate, "uses_objective", False
        ):
            raise ValueError(
                "SequenceRelax: its surrogate evaluates the objective at relaxed samples, and the "
                "reward of a sequence is a Python function. Use surrogate='network'."
            )

    def critic(self, dtype: Any) -> Critic:
        surrogate = self.surrogate
        if isinstance(surrogate, str):
            surrogate = surrogates.get(surrogate, units=(64, 64), activation="tanh", dtype=dtype)
        return Critic(Categorical(), surrogate, self.temperature)

    def advantages(self, group: Group) -> tf.Tensor:
        return group.returns if self.num_samples == 1 else _less_others(group.returns)

    def gradient(self, group: Group) -> tf.Tensor:
        assert group.critic is not None
        shape = tf.shape(group.logits)
        rows = [-1, group.logits.shape[-1]]
        a, b, noise = (
            tf.reshape(x, rows) for x in (group.logits, group.draw.b, group.noise)
        )  # every token an example
        draw = Draw(noise, b, b)
        # z is drawn given b: the joint distribution is that of z drawn first.
        draw = draw._replace(z=group.relaxation.conditional(a, draw, noise))
        steps = tf.cast(tf.range(shape[2]) / shape[2], a.dtype)
        position = tf.reshape(tf.broadcast_to(steps, shape[:3]), [-1, 1])
        c, h = group.critic.value_and_derivative(draw.z, a, position)
        signal = tf.reshape(self.advantages(group), [-1]) - c
        path = rules.coupled_path(group.relaxation, a, draw, h)
        g = rules.relax(group.relaxation, a, draw, signal, path)
        g = rules.times(tf.reshape(group.mask, [-1]), g) / self.num_samples
        return tf.reshape(g, shape)

    def get_config(self) -> dict[str, Any]:
        return {
            "num_samples": self.num_samples,
            "surrogate": surrogates.serialize(self.surrogate),
            "temperature": self.temperature,
        }


@keras.saving.register_keras_serializable(package="tf_relax.sequences")
class GroupNormalized(SequenceEstimator):
    r"""GRPO's advantage: returns normalised within the group of a prompt; **biased**.

    $$g = \frac{1}{K} \sum_k \frac{1}{\lvert y_k \rvert}
        \sum_t \frac{R_{kt} - \bar R_t}{\mathrm{std}_j R_j} \nabla \log p(y_{kt} \mid \ldots)$$

    Shao et al. (2024), equation 3. The mean $\bar R_t = \frac{1}{K} \sum_j R_{jt}$ holds the
    sequence's own return, which only shrinks the gradient; the division by the deviation weighs
    prompts by how sure the model is of them, and that by the length favours short good sequences
    and long bad ones. $10^{-4}$ is added to the deviation: equal returns teach nothing.

    Args:
        num_samples: $K$, at least 2.
        by_length: whether every sequence is divided by its length, as in the paper.

    Raises:
        ValueError: for fewer than two samples.

    Example:

    >>> GroupNormalized(4).unbiased
    False
    """

    papers = ("shao2024",)
    unbiased = False

    def __init__(self, num_samples: int = 4, by_length: bool = True):
        self.num_samples = check_samples(type(self).__name__, num_samples)
        self.by_length = by_length

    def advantages(self, group: Group) -> tf.Tensor:
        returns = group.returns
        centred = returns - tf.reduce_mean(returns, axis=1, keepdims=True)
        whole = returns[:, :, :1]
        deviation = tf.math.reduce_std(whole, axis=1, keepdims=True)
        # Where all returns are alike there is nothing to learn, not a division by zero.
        advantages = centred / (deviation + tf.constant(1e-4, returns.dtype))
        if self.by_length:
            advantages /= tf.reduce_sum(group.mask, axis=-1, keepdims=True)
        return advantages

    def get_config(self) -> dict[str, Any]:
        return {"num_samples": self.num_samples, "by_length": self.by_length}


def _less_others(returns: tf.Tensor) -> tf.Tensor:
    """Returns ``R_k - mean_{j != k} R_j`` for returns `[batch, K, tokens]`."""
    return tf.stack(rules.leave_one_out(tf.unstack(returns, axis=1)), axis=1)


def _log_1mexp_of(log_x: tf.Tensor) -> tf.Tensor:
    """Returns ``log(1 - x)`` for a logarithm of x below 0."""
    return log_1mexp(tf.math.log(-log_x))


_BY_NAME: dict[str, type[SequenceEstimator]] = {
    "grpo": GroupNormalized,
    "leave_one_out": SequenceLeaveOneOut,
    "reinforce": SequenceReinforce,
    "relax": SequenceRelax,
    "unordered_set": SequenceUnorderedSet,
}


def get(identifier: str | SequenceEstimator) -> SequenceEstimator:
    """Returns an estimator of sequences by name, from its config, or as it is.

    Raises:
        ValueError: for a name that is not known.

    Example:

    >>> get("leave_one_out")
    SequenceLeaveOneOut(num_samples=4)
    """
    if isinstance(identifier, dict):
        identifier = keras.saving.deserialize_keras_object(identifier)
    if isinstance(identifier, SequenceEstimator):
        return identifier
    if isinstance(identifier, str) and identifier in _BY_NAME:
        return _BY_NAME[identifier]()
    raise ValueError(
        f"Unknown estimator of sequences: {identifier!r}. Known names are {sorted(_BY_NAME)}; or "
        "pass an object such as tf_relax.sequences.SequenceLeaveOneOut(4)."
    )
