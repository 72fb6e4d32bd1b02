"""Environments that say in `info` which actions are legal, for policies that see observations."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_relax._src.rl.world.gym import gymnasium


class MaskedActions(gymnasium.Wrapper, gymnasium.utils.RecordConstructorArgs):
    """Appends `info["action_mask"]` to the observation, where `masked_policy` looks for it.

    So the mask is recorded with the rest, and the update knows what was legal. Observations are
    flattened before it, as `gymnasium.spaces.flatten` does.

    Args:
        env: with a `Discrete` action space, whose `reset` and `step` return `info["action_mask"]`
            with a number for every action: not 0 where it is legal.

    Raises:
        ValueError: for other action spaces; (from `reset` and `step`) for masks that are missing,
            of another shape, or leave no action.

    Example:

    >>> import gymnasium
    >>> env = MaskedActions(gymnasium.make("Taxi-v4"))
    >>> observation, info = env.reset(seed=0)
    >>> observation.shape, info["action_mask"].shape
    ((506,), (6,))
    """

    def __init__(self, env: Any):
        gymnasium.utils.RecordConstructorArgs.__init__(self)
        gymnasium.Wrapper.__init__(self, env)
        if not isinstance(env.action_space, gymnasium.spaces.Discrete):
            raise ValueError(
                f"MaskedActions is for Discrete actions, and {self._name} has {env.action_space}. "
                "Let the policy return -inf for what is not legal."
            )
        self._given = env.observation_space
        size = gymnasium.spaces.flatdim(self._given) + int(env.action_space.n)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self._steps = 0

    def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        observation, info = self.env.reset(**options)
        self._steps = 0
        return self._with_mask(observation, info, over=False), info

    def step(self, action: Any) -> tuple[Any, ...]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._steps += 1
        observation = self._with_mask(observation, info, over=bool(terminated))
        return observation, reward, terminated, truncated, info

    @property
    def _name(self) -> str:
        spec = self.env.spec
        return type(self.env.unwrapped).__name__ if spec is None else f"'{spec.id}'"

    def _with_mask(self, observation: Any, info: dict[str, Any], over: bool) -> np.ndarray:
        count = int(self.env.action_space.n)  # type: ignore[attr-defined]
        where = f"after {self._steps} steps" if self._steps else "in the reset"
        mask = info.get("action_mask")
        if over and (mask is None or not np.any(mask)):
            mask = np.ones(count)  # nobody acts any more
        if mask is None:
            raise ValueError(
                f"The environment {self._name} gave no info['action_mask'] {where}. It returned "
                f"{sorted(info)}."
            )
        mask = np.asarray(mask, np.float32).reshape(-1)
        if mask.shape != (count,):
            raise ValueError(
                f"The environment {self._name} gave an action mask of {len(mask)} numbers {where}, "
                f"for {count} actions."
            )
        if not mask.any():
            raise ValueError(
                f"The environment {self._name} left no legal action {where}: end the episode there."
            )
        flat = np.asarray(gymnasium.spaces.flatten(self._given, observation), np.float32)
        return np.concatenate([flat, (mask != 0).astype(np.float32)])


@keras.saving.register_keras_serializable(package="tf_relax.rl")
class LegalActions(keras.layers.Layer):
    """Logits of -inf where the last numbers of an observation are 0.

    Example:

    >>> import tensorflow as tf
    >>> LegalActions()([tf.zeros((1, 2)), tf.constant([[7.0, 0.0, 1.0]])]).numpy()
    array([[-inf,   0.]], dtype=float32)
    """

    def call(self, inputs: Any) -> tf.Tensor:
        logits, observations = inputs
        legal = observations[:, -logits.shape[-1] :] > 0
        return tf.where(legal, logits, tf.constant(-np.inf, logits.dtype))


def masked_policy(policy: keras.Model) -> keras.Model:
    """Returns a policy for `MaskedActions`, from one that knows of no masks.

    Args:
        policy: from the observations before the mask to the logits of all actions, with an
            `input_shape`: `dense_policy` makes one for the environment that is wrapped.

    Example:

    >>> policy = keras.Sequential([keras.Input((500,)), keras.layers.Dense(6)])
    >>> masked_policy(policy).input_shape
    (None, 506)
    """
    size, count = policy.input_shape[-1], policy.output_shape[-1]
    observations = keras.Input((size + count,))
    logits = policy(observations[:, :size])
    return keras.Model(observations, LegalActions()([logits, observations]), name="policy")
