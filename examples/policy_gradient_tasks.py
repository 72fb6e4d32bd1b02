"""Environments of the policy-gradient example, and how each estimator is trained in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import keras

import tf_relax

if TYPE_CHECKING:
    import gymnasium


class Settings(NamedTuple):
    """How one estimator is trained in one environment.

    Attributes:
        units: sizes of the hidden layers, of policy, value and surrogate alike.
        activation: of the hidden layers.
        optimizer: class of all three optimizers, in `keras.optimizers`.
        learning_rate: of the policy.
        value_learning_rate: of the value.
        surrogate_learning_rate: of the surrogate.
        value_steps: steps of the value's optimizer per update.
        entropy_weight: of the entropy bonus.
        gamma: discount.
        gae_lambda: lambda of the returns; `None` is 1.
        n_steps: steps per environment and update; `None` is one episode per environment.
        n_envs: environments side by side.
        max_kl: KL divergence of natural-gradient steps, which leave the policy's optimizer out;
            `None` takes that optimizer.
        trajectory_wise: whether the surrogate is taken off later steps as well.
        normalize_observations: whether observations are brought to mean 0 and variance 1.
        normalize_rewards: whether rewards are divided by the deviation of the returns.
        action_bounds: how real actions get into the bounds of the environment.
    """

    units: tuple[int, ...] = (64, 64)
    activation: str = "tanh"
    optimizer: str = "Adam"
    learning_rate: float = 1e-3
    value_learning_rate: float = 1e-3
    surrogate_learning_rate: float = 1e-3
    value_steps: int = 1
    entropy_weight: float = 0.01
    gamma: float = 0.99
    gae_lambda: float | None = None
    n_steps: int | None = None
    n_envs: int = 1
    max_kl: float | None = None
    trajectory_wise: bool = False
    normalize_observations: bool = False
    normalize_rewards: bool = False
    action_bounds: str | None = "clip"


class Task(NamedTuple):
    """An environment, when it counts as solved, and how each estimator is trained in it.

    Attributes:
        make: makes the environment; passes on `render_mode`.
        threshold: mean return over `WINDOW` episodes.
        frames: to train for, unless the command line says otherwise.
        axis: what curves are drawn against, "episodes" or "frames".
        settings: by estimator; all of these run unless the command line names some.
    """

    make: Callable[..., gymnasium.Env]
    threshold: float
    frames: int
    axis: str
    settings: dict[str, Settings]


def make(name: str, **options: Any) -> gymnasium.Env:
    """Makes an environment of Gymnasium."""
    import gymnasium  # here, so that the script can say how to get it

    return gymnasium.make(name, **options)


def cartpole(**options: Any) -> gymnasium.Env:
    """Makes CartPole-v1 with the time limit of its first version."""
    return make("CartPole-v1", max_episode_steps=200, **options)


def pendulum(**options: Any) -> gymnasium.Env:
    """Makes the inverted pendulum of MuJoCo."""
    return make("InvertedPendulum-v5", **options)


def lunarlander(**options: Any) -> gymnasium.Env:
    """Makes the lunar lander with discrete actions."""
    return make("LunarLander-v3", **options)


_CARTPOLE = Settings(
    units=(10, 10),
    activation="relu",
    learning_rate=0.01,
    value_learning_rate=0.01,
    surrogate_learning_rate=0.01,
    value_steps=5,
)
_PENDULUM = Settings(
    learning_rate=1e-3,
    value_learning_rate=3e-3,
    # Faster, it can drive the policy into a corner before it knows anything.
    surrogate_learning_rate=5e-4,
    value_steps=10,
    entropy_weight=0.0,
    action_bounds=None,
)
_LUNARLANDER = Settings(
    value_learning_rate=3e-3,
    value_steps=20,
    # A landed craft gets its last 100 points only when it rests: the bonus for entropy, which keeps
    # the engines on, has to be small, and the discount must let those points be seen from above.
    entropy_weight=7e-4,
    gamma=0.999,
    gae_lambda=0.98,
    n_steps=128,
    n_envs=8,
    max_kl=0.01,
    normalize_rewards=True,
)
TASKS = {
    "cartpole": Task(
        make=cartpole,
        threshold=195.0,
        frames=100_000,
        axis="episodes",
        settings={
            "reinforce": _CARTPOLE,
            "a2c": _CARTPOLE,
            "relax": _CARTPOLE,
            "relax_value": _CARTPOLE,
        },
    ),
    "pendulum": Task(
        make=pendulum,
        threshold=950.0,
        frames=500_000,
        axis="episodes",
        settings={"a2c": _PENDULUM, "lax": _PENDULUM, "lax_value": _PENDULUM},
    ),
    "lunarlander": Task(
        make=lunarlander,
        threshold=200.0,
        frames=1_000_000,
        axis="frames",
        settings={"a2c": _LUNARLANDER, "relax_value": _LUNARLANDER},
    ),
}


def build(env: str, estimator: str, jit_compile: bool = True) -> tf_relax.rl.PolicyGradient:
    """Returns a compiled trainer with the settings of the table."""
    task = TASKS[env]
    s = task.settings[estimator]
    rl = tf_relax.rl
    options = {"units": s.units, "activation": s.activation}
    name, *with_value = estimator.split("_")
    policy = rl.dense_policy(task.make, **options)
    value = surrogate = None
    chosen: Any = name
    if name in ("lax", "relax"):
        surrogate = tf_relax.surrogates.Network(looks_at=("context",), **options)
        kind = rl.PolicyLax if name == "lax" else rl.PolicyRelax
        chosen = kind(trajectory_wise=s.trajectory_wise)
    if with_value or name == "a2c":
        value = rl.dense_value(policy.input_shape[1:], **options)
    trainer = rl.PolicyGradient(
        policy,
        task.make,
        estimator=chosen,
        value=value,
        surrogate=surrogate,
        gamma=s.gamma,
        gae_lambda=s.gae_lambda if value is not None else None,
        n_steps=s.n_steps,
        n_envs=s.n_envs,
        trust_region=None if s.max_kl is None else rl.NaturalGradient(s.max_kl),
        normalize_observations=s.normalize_observations,
        normalize_rewards=s.normalize_rewards,
        action_bounds=s.action_bounds,
    )
    optimizer = getattr(keras.optimizers, s.optimizer)
    trainer.compile(
        optimizer=optimizer(s.learning_rate),
        value_optimizer=optimizer(s.value_learning_rate),
        surrogate_optimizer=optimizer(s.surrogate_learning_rate),
        entropy_weight=s.entropy_weight,
        value_steps=s.value_steps,
        jit_compile=jit_compile,
    )
    return trainer
