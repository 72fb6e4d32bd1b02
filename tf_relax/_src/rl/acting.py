"""How a trainer's policy acts: logits, samples, and the noise behind them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_relax._src.rl import check
from tf_relax._src.rl.persistence import Saved
from tf_relax._src.rl.world.collector import Collector
from tf_relax._src.rl.world.recurrence import (
    Seen,
    blank,
    forgetting,
    seen_in,
    state_shapes,
    step,
    unroll,
)
from tf_relax._src.rl.world.rollout import Rollout


class Acting(Saved):
    """The part of a `PolicyGradient` that evaluates its policy and value."""

    def build_actions(self) -> None:
        """Makes what `samples` runs."""
        # Without XLA, which would compile for every number of observations.
        self._act = tf.function(self._sample, autograph=False)
        self._mode = tf.function(self._most_probable, autograph=False)
        self._draw_block = tf.function(self.draw_noise, autograph=False)

    def action(self, observations: Any, deterministic: bool = True) -> np.ndarray:
        """Returns actions, as the environment takes them, for observations `[batch, ...]`.

        Raises:
            ValueError: for a recurrent policy, whose actions depend on what it remembers.
        """
        self._must_remember_nothing("action")
        return self.action_space.decode(self.samples(observations, deterministic)[0])

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None,
        deterministic: bool = False, **kwargs: Any,
    ) -> tuple[np.ndarray, Any]:  # fmt: skip
        """Returns the action for an observation, or the actions for a batch, as SB3 does.

        Args:
            observation: one, as the environment gives it (`Dict` and `Tuple` spaces included), or a
                batch of arrays.
            state: what a recurrent policy remembers, as the last call returned it; `None` at the
                beginning.
            episode_start: of every observation whether an episode begins with it, before which it
                remembers nothing.
            deterministic: whether the most probable action is taken, or one is drawn.
            **kwargs: those of `keras.Model.predict`; refused.

        Returns:
            The action or the actions, and what the policy remembers then; `None` if it does not.

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
        batch = array[np.newaxis] if single else array
        shapes = state_shapes(self.policy)
        memory = state or blank(shapes, len(batch))
        if episode_start is not None:
            begins = np.broadcast_to(np.asarray(episode_start, bool), len(batch))
            memory = forgetting(memory, begins)
        b, memory = self.samples(batch, deterministic, memory)
        actions = self.action_space.decode(b)
        return (actions[0] if single else actions), memory or None

    def log_prob(self, observations: Any, actions: Any) -> np.ndarray:
        """Returns the log-probability of actions, as the environment takes them, `[batch]`.

        For a `Box` it is a log-density; at a bound that actions are clipped to, the logarithm of
        the probability to be there.

        Args:
            observations: as the environment gives them, `[batch, ...]`.
            actions: `[batch, ...]`.

        Raises:
            ValueError: for a recurrent policy.
        """
        self._must_remember_nothing("log_prob")
        states = tf.constant(self.normalization(np.asarray(observations, np.float32)))
        return self.action_space.log_prob(self.logits(states), actions).numpy()

    def samples(
        self, observations: Any, deterministic: bool = False, memory: Any = ()
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """Returns the policy's samples ``b`` for observations `[batch, ...]`, or its modes.

        Args:
            observations: as the environment gives them.
            deterministic: whether the most probable action is taken.
            memory: what it remembers, `[batch, ...]` each.

        Returns:
            The samples, and what is remembered after them.
        """
        states = tf.constant(self.normalization(np.asarray(observations, np.float32)))
        memory = tuple(tf.constant(state, tf.float32) for state in memory)
        if deterministic:
            b, memory = self._mode(states, memory)
        else:
            b, memory = self._act(states, self._block(1, len(states))[0], memory)
        return b.numpy(), tuple(state.numpy() for state in memory)

    def call(self, observations: Any, training: bool | None = None) -> Any:
        """Returns the logits of the policy, for observations as the environment gives them.

        A recurrent policy takes `[observations, *states]` to `[logits, *states]`.
        """
        observations, *memory = tf.nest.flatten(observations)
        logits, memory = step(self.policy, self.normalization.tensor(observations), memory)
        return [logits, *memory] if memory else logits

    def logits(self, states: tf.Tensor) -> tf.Tensor:
        """Returns the logits of a policy that remembers nothing, finite in float32.

        Args:
            states: observations as it sees them, `[batch, ...]`.
        """
        return self.action_space.bounded(step(self.policy, states, ())[0])

    def values(self, states: tf.Tensor) -> tf.Tensor:
        """Returns the state value, `[batch]`, of one that remembers nothing."""
        return tf.reshape(step(self.value, states, ())[0], [-1])

    @property
    def memory_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of what policy and value remember, one after the other."""
        return state_shapes(self.policy) + state_shapes(self.value)

    def seen(self, rollout: Rollout) -> Seen:
        """Returns what policy and value see of a rollout."""
        memory = rollout.memory or blank(self.memory_shapes, rollout.rewards.shape[1])
        return seen_in(rollout, tuple(map(tf.convert_to_tensor, memory)))

    def unrolled_logits(self, seen: Seen) -> tf.Tensor:
        """Returns the logits of the policy at all rows, one below the other."""
        own = seen.memory[: len(state_shapes(self.policy))]
        return self.action_space.bounded(unroll(self.policy, seen._replace(memory=own))[0])

    def unrolled_values(
        self, seen: Seen, successors: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Returns the state value at all rows, and that of the observations after them."""
        own = seen._replace(memory=seen.memory[len(state_shapes(self.policy)) :])
        if successors is not None and not own.memory:  # both at once
            both = tf.concat([seen.observations, successors], axis=0)
            now, after = tf.split(self.values(tf.reshape(both, [-1, *both.shape[2:]])), 2)
            return now, after
        values, memory = unroll(self.value, own)
        now = tf.reshape(values, [-1])
        if successors is None:
            return now, None
        rows = tf.reshape(successors, [-1, *successors.shape[2:]])
        return now, tf.reshape(step(self.value, rows, memory)[0], [-1])

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

    def _sample(self, states: tf.Tensor, noise: tf.Tensor, memory: Any) -> tuple[tf.Tensor, Any]:
        logits, memory = self._one_step(states, memory)
        return self.action_space.relaxation.sample(logits, noise).b, memory

    def _most_probable(self, states: tf.Tensor, memory: Any) -> tuple[tf.Tensor, Any]:
        logits, memory = self._one_step(states, memory)
        return self.action_space.relaxation.mode(logits), memory

    def _one_step(self, states: tf.Tensor, memory: Any) -> tuple[tf.Tensor, Any]:
        """Returns logits, and what policy and value (of which that is given) remember then."""
        count = len(state_shapes(self.policy))
        logits, own = step(self.policy, states, memory[:count])
        of_value = memory[count:]
        if of_value:
            _, of_value = step(self.value, states, of_value)
        return self.action_space.bounded(logits), (*own, *of_value)

    def _must_remember_nothing(self, method: str) -> None:
        if state_shapes(self.policy):
            raise ValueError(
                f"The policy '{self.policy.name}' of '{self.name}' is recurrent, and `{method}` "
                "gives it nothing to remember: use predict(observation, state, episode_start), "
                "which returns the action and the next state."
            )

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
        shapes = self.memory_shapes
        memory = tuple(tf.TensorSpec((environments.n_envs, *shape)) for shape in shapes)
        compiled = self._act_compiled.get_concrete_function(
            spec, tf.TensorSpec(noise_shape), memory
        )

        def act(observations: np.ndarray, noise: np.ndarray) -> np.ndarray:
            states = tf.constant(self.normalization(observations))
            before = tuple(tf.constant(state) for state in environments.memory)
            b, after = compiled(states, tf.constant(noise), before)
            environments.memory = tuple(state.numpy() for state in after)
            return b.numpy()

        return Collector(
            environments,
            act,
            lambda steps: self._block(steps, environments.n_envs),
            self.n_episodes,
            self.n_steps,
        )
