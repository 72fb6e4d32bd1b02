"""A trainer with networks, optimizers and a trust region that work in most environments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tf_relax._src.rl.gradient import estimators
from tf_relax._src.rl.gradient.linear_advantage import LinearAdvantage
from tf_relax._src.rl.networks import actor_critic, dense_policy, dense_value
from tf_relax._src.rl.policy_gradient import PolicyGradient
from tf_relax._src.rl.steps.natural_gradient import NaturalGradient
from tf_relax._src.rl.world.environments import Environments
from tf_relax._src.rl.world.recurrence import state_shapes


def make_trainer(
    env: Any,
    estimator: Any = "a2c",
    units: Sequence[int] = (64, 64),
    log_scale: float = 0.0,
    policy: keras.Model | None = None,
    max_kl: float = 0.02,
    value_steps: int = 40,
    learning_rate: float = 3e-3,
    jit_compile: bool = True,
    **arguments: Any,
) -> PolicyGradient:
    r"""Returns a compiled trainer that takes natural-gradient steps.

    Policy, value and surrogate are dense networks of their own (behind convolutions, for images).
    An update is made of 128 steps of each of 8 environments (or of as many as were given), with
    generalised advantages of lambda .95, observations and rewards normalised. The step is one along
    $F^{-1} g$ (`NaturalGradient`); the value takes several of Adam. There is no entropy bonus.
    Chosen on CartPole, Acrobot and Pendulum.

    Args:
        env: as `PolicyGradient` takes it.
        estimator: as `PolicyGradient` takes it.
        units: sizes of the hidden layers.
        log_scale: of continuous actions, where the log standard deviation starts.
        policy: another one, as `PolicyGradient` takes it.
        max_kl: of a step, in nats.
        value_steps: steps of the value's optimizer per update.
        learning_rate: of value and surrogate.
        jit_compile: whether updates are compiled with XLA.
        **arguments: of `PolicyGradient`; they take the place of what is said above.

    Raises:
        ValueError: for what does not fit together; the message names the environment.

    Example:

    >>> trainer = make_trainer("CartPole-v1", n_envs=2, n_steps=16, jit_compile=False)
    >>> history = trainer.fit(total_timesteps=32, seed=0, verbose=0)
    >>> trainer.trust_region.max_kl
    0.02
    """
    environments = Environments(env, 1)
    shape, space = environments.observation_shape, environments.vector.single_observation_space
    # One that was given ready-made cannot be made again, and vectors say how many they have.
    several = environments.owned and environments.n_envs == 1
    environments.close()
    images = len(shape) == 3 and space.dtype == np.uint8
    chosen = estimators.get(estimator)
    if policy is None:
        policy = actor_critic(env)[0] if images else dense_policy(env, units, log_scale=log_scale)
    options: dict[str, Any] = {
        "n_envs": 8 if several else 1,
        "trust_region": NaturalGradient(max_kl),
        "normalize_observations": not images,
        "normalize_rewards": True,
    }
    if chosen.takes_value:
        options["gae_lambda"] = 0.95
        if not state_shapes(policy):  # of a recurrent one the value will be recurrent
            options["value"] = actor_critic(env)[1] if images else dense_value(shape, units)
        if arguments.get("n_episodes") is None:
            options["n_steps"] = 128
    if chosen.uses_critic:
        options["surrogate"] = LinearAdvantage(units)
    options |= arguments
    trainer = PolicyGradient(policy, env, chosen, **options)
    trainer.compile(
        keras.optimizers.Adam(learning_rate),
        value_optimizer=keras.optimizers.Adam(learning_rate),
        surrogate_optimizer=keras.optimizers.Adam(learning_rate),
        entropy_weight=0.0,
        value_steps=value_steps,
        jit_compile=jit_compile,
    )
    return trainer
