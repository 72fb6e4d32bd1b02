"""How a trainer is saved, and what of it goes on after it was loaded."""

from __future__ import annotations

import collections
import contextlib
import contextvars
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_relax._src.rl import saved_environment
from tf_relax._src.rl.gradient import estimators
from tf_relax._src.rl.world import wrapper_statistics
from tf_relax._src.rl.world.recurrence import state_shapes, step
from tf_relax._src.whole_files import WholeFiles, check_store

# The environment that a trainer under deserialization gets instead of the one it was saved with.
_given: contextvars.ContextVar[Any] = contextvars.ContextVar("environment", default=None)

_OBJECTS = ("policy", "value", "surrogate", "trust_region", "reuse")
_NUMBERS = (
    "gamma",
    "gae_lambda",
    "bootstrap",
    "n_episodes",
    "n_steps",
    "normalize_observations",
    "normalize_rewards",
)
_OPTIMIZERS = ("optimizer", "value_optimizer", "surrogate_optimizer")


def load(path: str | Path, env: Any = None, custom_objects: dict[str, Any] | None = None) -> Any:
    """Returns a trainer as it was saved: `fit` goes on where it stopped.

    `keras.models.load_model` does the same for environments that can be made from their id or
    specification.

    Args:
        path: file that `trainer.save("trainer.keras")` wrote.
        env: environment to go on in, as `PolicyGradient` takes it; `None` makes the saved one.
        custom_objects: classes and functions that are not registered with Keras, by name.

    Raises:
        ValueError: if the environment could not be saved, and none is given.

    Example:

    >>> import tempfile
    >>> import tf_relax
    >>> policy = tf_relax.rl.dense_policy("CartPole-v1", units=(10,))
    >>> trainer = tf_relax.rl.PolicyGradient(policy, "CartPole-v1", estimator="reinforce")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     trainer.save(f"{folder}/trainer.keras")
    ...     loaded = load(f"{folder}/trainer.keras")
    >>> loaded.environments.name
    "'CartPole-v1'"
    """
    with _environment(env):
        return keras.models.load_model(path, custom_objects=custom_objects)


@contextlib.contextmanager
def _environment(env: Any) -> Iterator[None]:
    token = _given.set(env)
    try:
        yield
    finally:
        _given.reset(token)


class Saved(WholeFiles):
    """The part of a `PolicyGradient` that Keras's saving talks to."""

    def get_config(self) -> dict[str, Any]:
        objects = {name: getattr(self, name) for name in _OBJECTS}
        return {
            **super().get_config(),
            **{name: keras.saving.serialize_keras_object(x) for name, x in objects.items()},
            **{name: getattr(self, name) for name in _NUMBERS},
            "action_bounds": self.environments.action_bounds,
            "estimator": keras.saving.serialize_keras_object(self.estimator),
            "n_envs": self.environments.n_envs,
            "env": saved_environment.saved(self._given_env, self.environments),
            "env_name": self.environments.name,
            "shared_layers": self._shared_layers(),
            "shared_variables": len(self.shared_variables),
        }

    def _shared_layers(self) -> list[str]:
        # Keras saves them with either model, and says in neither that they are one.
        known = {id(layer) for layer in self.policy.layers}
        return [layer.name for layer in getattr(self.value, "layers", []) if id(layer) in known]

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        # Files of before had neither, and clipped actions in the environment's own units.
        config = {"reuse": None, "action_bounds": None, **config}
        name = config.pop("env_name")
        for key in _OBJECTS:
            config[key] = keras.saving.deserialize_keras_object(config[key], custom_objects)
        config["estimator"] = estimators.get(config["estimator"])
        given = _given.get()
        if given is not None:
            config["env"] = given
        elif config["env"] is None:
            raise ValueError(
                f"The environment {name} could not be saved with the trainer, as it has no "
                "specification from which gymnasium could make another. Make it yourself: "
                "tf_relax.rl.load(path, env=...)."
            )
        else:
            config["env"] = saved_environment.restored(config["env"])
        names, count = config.pop("shared_layers", []), config.pop("shared_variables", 0)
        if names:
            of_policy = {layer.name: layer for layer in config["policy"].layers}
            shared = {name: of_policy[name] for name in names if name in of_policy}
            config["value"] = keras.models.clone_model(
                config["value"], clone_function=lambda layer: shared.get(layer.name, layer)
            )
        made = cls(**config)
        if len(made.shared_variables) != count:
            raise ValueError(
                f"The policy and the value of this trainer share {count} variables, and were saved "
                "in a way that does not say which. Functional models that share whole layers can "
                "be loaded. Here, make the trainer as before, and then load its weights: "
                "trainer.load_weights(path)."
            )
        return made

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Does nothing: the environment tells every shape."""

    def get_compile_config(self) -> dict[str, Any]:
        if not self.compiled:
            return {}
        serialize = keras.optimizers.serialize
        return {
            **{name: serialize(getattr(self, name)) for name in _OPTIMIZERS},
            "entropy_weight": self.entropy_weight,
            "value_steps": self.value_steps,
            "value_weight": self.value_weight,
            "jit_compile": self.jit_compile,
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        # `compile` builds every optimizer, each for its own variables.
        self.compile(**keras.saving.deserialize_keras_object(config))

    def save_own_variables(self, store: Any) -> None:
        store["frames"] = np.array(self.frames)
        store["updates"] = np.array(self.updates)
        store["episode_returns"] = np.array(self.episode_returns, np.float64)
        store["episode_lengths"] = np.array(self.episode_lengths, np.int64)
        for k, seed in enumerate(self._seed_states()):
            store[f"seed_{k}"] = seed.numpy()
        for name, statistic in self.normalization.state().items():
            store[name] = statistic
        statistics = wrapper_statistics.read(self.environments.vector)
        for name, array in wrapper_statistics.to_arrays(statistics).items():
            store[name] = array

    def load_own_variables(self, store: Any) -> None:
        check_store(store)
        self.frames, self.updates = int(store["frames"][()]), int(store["updates"][()])
        self.episode_returns = collections.deque(np.array(store["episode_returns"]).tolist())
        self.episode_lengths = collections.deque(np.array(store["episode_lengths"]).tolist())
        for k, seed in enumerate(self._seed_states()):
            seed.assign(np.array(store[f"seed_{k}"]))
        self.normalization.load(store)
        vector = self.environments.vector
        statistics = wrapper_statistics.read(vector)
        wrapper_statistics.from_arrays(statistics, store)
        wrapper_statistics.write(vector, statistics)
        self.forget_traces()

    def restorer(self) -> Callable[[], None]:
        """Returns a function that makes the trainer what it is now."""
        optimizers = [getattr(self, name, None) for name in _OPTIMIZERS]
        variables = [
            *self.variables,
            *(v for o in optimizers if o is not None for v in o.variables),
        ]
        values = [tf.identity(variable.value) for variable in variables]
        own: dict[str, Any] = {}  # as a file holds it
        Saved.save_own_variables(self, own)

        def restore() -> None:
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
            Saved.load_own_variables(self, own)

        return restore

    def _seed_states(self) -> list[keras.Variable]:
        """Returns the states of all random generators, which Keras's saving passes over."""
        weights = {id(variable) for variable in self.weights}
        return [variable for variable in self.variables if id(variable) not in weights]

    def forget_traces(self) -> None:
        """Drops what `predict` compiled: the statistics of observations are constants in it."""
        self.predict_function = None

    def export(self, filepath: str | Path, *args: Any, **kwargs: Any) -> None:
        """Writes a SavedModel from observations, as the environment gives them, to logits.

        That of a recurrent policy maps `[observations, *states]` to `[logits, *states]`. The
        statistics of the observations are part of it, as they are now.

        Args:
            filepath: where to.
            *args: as of `keras.Model.export`.
            **kwargs: as of `keras.Model.export`.
        """
        inputs = [keras.Input(self.environments.observation_shape, name="observations")]
        for k, shape in enumerate(state_shapes(self.policy)):
            inputs.append(keras.Input(shape, name=f"state_{k}"))
        one_or_all = inputs if len(inputs) > 1 else inputs[0]
        served = keras.Model(one_or_all, _Logits(self)(one_or_all), name=self.name)
        served.export(filepath, *args, **kwargs)


class _Logits(keras.layers.Layer):
    """The policy behind its normalisation, without what only training needs."""

    def __init__(self, trainer: Saved):
        super().__init__(name="logits")
        self.policy, self._scaled = trainer.policy, trainer.normalization.tensor
        self._size = trainer.action_space.logits_size
        self.built = True

    def call(self, inputs: Any) -> Any:
        observations, *memory = tf.nest.flatten(inputs)
        logits, memory = step(self.policy, self._scaled(observations), memory)
        return [logits, *memory] if memory else logits

    def compute_output_spec(self, inputs: Any) -> Any:
        observations, *memory = tf.nest.flatten(inputs)
        logits = keras.KerasTensor((observations.shape[0], self._size), "float32")
        states = [keras.KerasTensor(x.shape, "float32") for x in memory]
        return [logits, *states] if states else logits
