"""How the gradient of the expected return is estimated, in the logits of every step."""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_relax._src import rules
from tf_relax._src.critic import Critic
from tf_relax._src.estimators.citations import PAPERS, Cited
from tf_relax._src.relaxations import Draw
from tf_relax._src.rl.gradient.off_policy import OffPolicy
from tf_relax._src.rl.gradient.returns import discounted_sums
from tf_relax._src.rl.world.action_space import Actions


class Steps(NamedTuple):
    """What an estimator sees of a rollout: its steps one below the other, `[batch, ...]`.

    Attributes:
        relaxation: of the actions.
        logits: of the policy, a constant.
        draw: ``(noise, z, b)`` of the actions taken.
        noise: of ``z~``, independent of all else.
        states: observations as the policy sees them.
        returns: estimates of what followed, ``sum gamma^k r_{t+k}`` or a lambda return.
        values: ``V(s)``; 0 without a value function.
        decay: factor from a step to the next of its episode, 0 at the end, `[steps, trajectories]`.
        mask: 0 where a row is no step, `[steps, trajectories]`.
        critic: ``c(z, s)``, or `None`.
    """

    relaxation: Actions
    logits: tf.Tensor
    draw: Draw
    noise: tf.Tensor
    states: tf.Tensor
    returns: tf.Tensor
    values: tf.Tensor
    decay: tf.Tensor
    mask: tf.Tensor
    critic: Critic | None

    @property
    def sampled(self) -> tuple[Actions, tf.Tensor, Draw]:
        """Relaxation, logits and draw, with which all `rules` begin."""
        return self.relaxation, self.logits, self.draw


class PolicyEstimator(Cited, abc.ABC):
    """Strategy that turns the steps of a rollout into a gradient for the logits of each.

    Estimators own no variables. `PolicyGradient(estimator=...)` takes them by name or as objects.

    Attributes:
        uses_value: whether a state value is a baseline; it is made if the user gives none.
        takes_value: whether a state value can be one.
        uses_critic: whether there is a surrogate $c(z, s)$.
        discrete: the kind of actions it is for; `None` is both.
        off_policy: how the surrogate learns from earlier rollouts, or `None`.
        papers: names of the papers that it comes from, or their BibTeX, which `citation()` returns.
    """

    uses_value: bool = False
    takes_value: bool = True
    uses_critic: bool = False
    discrete: bool | None = None
    off_policy: OffPolicy | None = None

    @property
    def name(self) -> str:
        """What `get` knows the class by; that of the class for those of a user."""
        names = [name for name, kind in _BY_NAME.items() if kind is type(self)]
        return names[0] if names else type(self).__name__

    @abc.abstractmethod
    def gradient(self, steps: Steps) -> tf.Tensor:
        """Returns the gradient of the expected return, `[batch, logits]`; ascend it."""

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PolicyEstimator:
        return cls(**config)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.get_config())
        return f"{type(self).__name__}({shown})"


@keras.saving.register_keras_serializable(package="tf_relax.rl")
class PolicyReinforce(PolicyEstimator):
    r"""REINFORCE, Williams (1992): no control variate.

    $$g_t = R_t \nabla \log \pi(a_t \mid s_t)$$

    Example:

    >>> PolicyReinforce()
    PolicyReinforce()
    """

    papers = ("williams1992", "sutton1999")
    takes_value = False

    def gradient(self, steps: Steps) -> tf.Tensor:
        return rules.score_function(*steps.sampled, steps.returns)


@keras.saving.register_keras_serializable(package="tf_relax.rl")
class A2C(PolicyEstimator):
    r"""Advantage actor-critic: a state value $V$, regressed on the returns, as the baseline.

    $$g_t = [R_t - V(s_t)] \nabla \log \pi(a_t \mid s_t)$$

    Mnih et al. (2016); Grathwohl et al. (2018), section 3.4.

    Example:

    >>> A2C()
    A2C()
    """

    papers = ("mnih2016a3c", "sutton1999")
    uses_value = True

    def gradient(self, steps: Steps) -> tf.Tensor:
        return rules.score_function(*steps.sampled, steps.returns - steps.values)


class ActionDependent(PolicyEstimator):
    """Estimators with a surrogate ``c(z, s)``, trained on the squared gradient of a trajectory.

    Args:
        trajectory_wise: whether what later actions were worth, above the average action in their
            states, is taken off the return as well: ``R_t - sum_k gamma^k w_{t+k}``, with
            ``w = <dc/dy(E[b], s), b - E[b]>``, whose mean is zero given the past (Cheng et al.
            2019). It helps as far as ``c`` knows what actions are worth, and adds noise where not.
        off_policy: an `OffPolicy`, which fits ``c`` to earlier rollouts instead: it is then frozen
            while the gradient is taken.
    """

    papers = ("grathwohl2018",)
    uses_critic = True

    def __init__(self, trajectory_wise: bool = False, off_policy: OffPolicy | None = None):
        self.trajectory_wise = trajectory_wise
        self.off_policy = off_policy

    def cited(self) -> dict[str, str]:
        entries = super().cited()
        return {**entries, "cheng2019": PAPERS["cheng2019"]} if self.trajectory_wise else entries

    def returns(self, steps: Steps) -> tf.Tensor:
        """Returns ``R_t - V(s_t)``, without what later actions contributed."""
        centred = steps.returns - steps.values
        if not self.trajectory_wise:
            return centred
        assert steps.critic is not None
        surprise = steps.critic.surprise(steps.draw, steps.logits, steps.states)
        rows = tf.reshape(surprise, tf.shape(steps.mask)) * steps.mask
        later = discounted_sums(rows, steps.decay) - rows
        return centred - tf.reshape(later, [-1])

    def get_config(self) -> dict[str, Any]:
        off_policy = self.off_policy and keras.saving.serialize_keras_object(self.off_policy)
        return {"trajectory_wise": self.trajectory_wise, "off_policy": off_policy}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PolicyEstimator:
        off_policy = config.get("off_policy")
        if isinstance(off_policy, dict):
            off_policy = keras.saving.deserialize_keras_object(off_policy)
        return cls(**{**config, "off_policy": off_policy})


@keras.saving.register_keras_serializable(package="tf_relax.rl")
class PolicyLax(ActionDependent):
    r"""LAX for continuous actions: a surrogate of the action; unbiased for every $c$.

    $$g_t = [R_t - c(a_t, s_t)] \nabla \log \pi(a_t \mid s_t) + \nabla c(a_t, s_t)$$

    Grathwohl et al. (2018), section 3.4, with $a_t$ a differentiable function of the logits and its
    noise. With a state value, $V(s) + c(a, s)$ takes the place of $c$.

    Args:
        trajectory_wise: whether later actions' worth is taken off the returns.
        off_policy: how $c$ learns from earlier rollouts instead of the squared gradient.

    Example:

    >>> PolicyLax()
    PolicyLax(trajectory_wise=False, off_policy=None)
    """

    discrete = False

    def gradient(self, steps: Steps) -> tf.Tensor:
        assert steps.critic is not None
        c, h = steps.critic.value_and_derivative(steps.draw.z, steps.logits, steps.states)
        return rules.lax(*steps.sampled, self.returns(steps) - c, h)


@keras.saving.register_keras_serializable(package="tf_relax.rl")
class PolicyRelax(ActionDependent):
    r"""RELAX for discrete actions: a surrogate of the relaxed action; unbiased for every $c$.

    $$g_t = [R_t - c(\tilde z_t, s_t)] \nabla \log \pi(a_t \mid s_t)
        + \nabla c(z_t, s_t) - \nabla c(\tilde z_t, s_t)$$

    Grathwohl et al. (2018), section 3.4, with $a_t = H(z_t)$. With a state value, $V(s) + c(z, s)$
    takes the place of $c$.

    Args:
        coupled: whether $\tilde z$ shares its noise with $z$, which needs $c$ only once.
        trajectory_wise: whether later actions' worth is taken off the returns.
        off_policy: how $c$ learns from earlier rollouts instead of the squared gradient.

    Example:

    >>> PolicyRelax(coupled=False)
    PolicyRelax(coupled=False, trajectory_wise=False, off_policy=None)
    """

    discrete = True

    def __init__(
        self,
        coupled: bool = True,
        trajectory_wise: bool = False,
        off_policy: OffPolicy | None = None,
    ):
        super().__init__(trajectory_wise, off_policy)
        self.coupled = coupled

    def gradient(self, steps: Steps) -> tf.Tensor:
        critic, a = steps.critic, steps.logits
        assert critic is not None
        c, h = critic.value_and_derivative(steps.draw.z, a, steps.states)
        if self.coupled:  # z~ = z in value
            path = rules.coupled_path(*steps.sampled, h)
        else:
            z_tilde = steps.relaxation.conditional(a, steps.draw, steps.noise)
            c, h_tilde = critic.value_and_derivative(z_tilde, a, steps.states)
            path = rules.independent_path(*steps.sampled, z_tilde, h, h_tilde)
        return rules.relax(*steps.sampled, self.returns(steps) - c, path)

    def get_config(self) -> dict[str, Any]:
        return {"coupled": self.coupled, **super().get_config()}


_BY_NAME: dict[str, type[PolicyEstimator]] = {
    "a2c": A2C,
    "lax": PolicyLax,
    "reinforce": PolicyReinforce,
    "relax": PolicyRelax,
}


def get(identifier: Any) -> PolicyEstimator:
    """Returns an estimator of the policy gradient from its name, its configuration, or as it is.

    Raises:
        ValueError: for a name that is not known; the message lists the known ones.

    Example:

    >>> get("a2c")
    A2C()
    """
    if isinstance(identifier, PolicyEstimator):
        return identifier
    if isinstance(identifier, dict):
        return keras.saving.deserialize_keras_object(identifier)
    if isinstance(identifier, str) and identifier.lower() in _BY_NAME:
        return _BY_NAME[identifier.lower()]()
    raise ValueError(
        f"Unknown estimator {identifier!r}. Known names are {sorted(_BY_NAME)}; or pass an object "
        "such as tf_relax.rl.PolicyRelax(coupled=False)."
    )
