"""How a trainer's policy acts: logits, samples, and the noise behind them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_relax._src.rl import check
from tf_relax._src.rl.persistence import Saved
from tf_relax._src.rl.world.collector import Collector


class Acting(Saved):
    """The part of a `PolicyGradient` that evaluates its policy and value."""

    def build_actions(self) -> None:
        """Makes what `samples` runs."""
        relaxation = self.action_space.relaxation
        # Without XLA, which would compile for every number of observations.
        self._act = tf.function(self._sample, autograph=False)
        self._mode = tf.function(
            lambda states: relaxation.mode(self.logits(states)), autograph=False
        )
        self._draw_block = tf.function(self.draw_noise, autograph=False)

    def action(self, observations: Any, deterministic: bool = True) -> np.ndarray:
        """Returns actions, as the environment takes them, for observations `[batch, ...]`."""
        return self.action_space.decode(self.samples(observations, deterministic))

    def predict(
        self, observation: Any, state: None = None, episode_start: Any = None,
        deterministic: bool = False, **kwargs: Any,
    ) -> tuple[np.ndarray, None]:  # fmt: skip
        """Returns the action for an observation, or the actions for a batch, as SB3 does.

        Args:
            observation: one, as the environment gives it (`Dict` and `Tuple` spaces included), or a
                batch of arrays.
            state: of a recurrent policy, of which there are none; `None`.
            episode_start: likewise; ignored.
            deterministic: whether the most probable action is taken, or one is drawn.
            **kwargs: those of `keras.Model.predict`; refused.

        Returns:
            The action or the actions, and `None` for a state.

        Raises:
            ValueError: for an observation of another shape.
            TypeError: for further arguments.
        """
        if kwargs:
            raise TypeError(
                f"'{self.name}': `predict` takes observations to actions, and has no "
                f"{sorted(kwargs)}. Logits are trainer(observations)."
            )
        array = self.environments.as_array(observation)
        single = array.ndim == len(self.environments.observation_shape)
        actions = self.action(array[np.newaxis] if single else array, deterministic)
        return (actions[0] if single else actions), None

    def log_prob(self, observations: Any, actions: Any) -> np.ndarray:
        """Returns the log-probability of actions, as the environment takes them, `[batch]`.

        For a `Box` it is a log-density; at a bound that actions are clipped to, the logarithm of
        the probability to be there.

        Args:
            observations: as the environment gives them, `[batch, ...]`.
            actions: `[batch, ...]`.
        """
        states = tf.constant(self.normalization(np.asarray(observations, np.float32)))
        return self.action_space.log_prob(self.logits(states), actions).numpy()

    def samples(self, observations: Any, deterministic: bool = False) -> np.ndarray:
        """Returns the policy's samples ``b`` for observations `[batch, ...]`, or its modes."""
        states = tf.constant(self.normalization(np.asarray(observations, np.float32)))
        if deterministic:
            return self._mode(states).numpy()
        return self._act(states, self._block(1, len(states))[0]).numpy()

    def call(self, observations: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Returns the logits of the policy, for observations as the environment gives them."""
        states = self.normalization.tensor(observations)
        return tf.cast(self.policy(states, training=False), tf.float32)

    def logits(self, states: tf.Tensor) -> tf.Tensor:
        """Returns the logits of the policy, for observations as it sees them, finite in float32."""
        logits = tf.cast(self.policy(states, training=False), tf.float32)
        return self.action_space.bounded(logits)

    def values(self, states: tf.Tensor) -> tf.Tensor:
        """Returns the state value, `[batch]`, in float32."""
        assert self.value is not None
        return tf.reshape(tf.cast(self.value(states, training=False), tf.float32), [-1])

    @property
    def shared_variables(self) -> list[keras.Variable]:
        """Variables of the policy that the value has, too."""
        if self.value is None:
            return []
        return check.common(self.policy.trainable_variables, self.value.trainable_variables)

    @property
    def value_variables(self) -> list[keras.Variable]:
        """Variables of the value alone."""
        if self.value is None:
            return []
        shared = {id(variable) for variable in self.shared_variables}
        return [v for v in self.value.trainable_variables if id(v) not in shared]

    def draw_noise(self, shape: Any) -> tf.Tensor:
        """Returns fresh noise of the relaxation."""
        return self.action_space.relaxation.noise(shape, tf.float32, self.noise_seeds)

    def _sample(self, states: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        return self.action_space.relaxation.sample(self.logits(states), noise).b

    def _noise_shape(self, batch: int) -> list[int]:
        relaxation = self.action_space.relaxation
        shape = tf.TensorShape([batch, self.action_space.logits_size])
        return relaxation.noise_shape(shape).as_list()

    def _block(self, steps: int, batch: int) -> np.ndarray:
        return self._draw_block((steps, *self._noise_shape(batch))).numpy()

    def _collector(self) -> Collector:
        environments = self.environments
        spec = tf.TensorSpec((environments.n_envs, *environments.observation_shape))
        noise_shape = self._noise_shape(environments.n_envs)
        act = self._act_compiled.get_concrete_function(spec, tf.TensorSpec(noise_shape))
        return Collector(
            environments,
            lambda observations, noise: act(
                tf.constant(self.normalization(observations)), tf.constant(noise)
            ).numpy(),
            lambda steps: self._block(steps, environments.n_envs),
            self.n_episodes,
            self.n_steps,
        )
