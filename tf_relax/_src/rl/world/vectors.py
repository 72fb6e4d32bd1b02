"""A vector environment from whatever an environment was given as."""

from __future__ import annotations

from typing import Any

import numpy as np

from tf_relax._src.rl.world.gym import gymnasium


class Pausable(gymnasium.Wrapper):
    """An environment that can be left alone while others go on: steps then change nothing.

    A vector environment steps all of its environments. Where the episodes of some are complete,
    and those of others are not, frames would be spent on steps that nobody looks at.

    Steps go straight to the environment as long as it is not paused.
    """

    def __init__(self, env: Any):
        super().__init__(env)
        self.resume()

    @property
    def spec(self) -> Any:  # type: ignore[override]
        """That of the environment: nothing about it is changed."""
        return self.env.spec

    def resume(self) -> None:
        """Lets it go on."""
        vars(self).update(step=self.env.step, reset=self.env.reset)

    def pause(self, observation: Any) -> None:
        """Makes steps and resets return an observation, and do nothing."""
        vars(self).update(
            step=lambda action: (observation, 0.0, False, False, {}),
            reset=lambda **options: (observation, {}),
        )


def as_array(env: Any) -> Any:
    """Returns an environment whose observations are arrays, if it has no others.

    Gymnasium's own flattening: numbers of `Discrete` spaces become one-hot, parts of `Dict` and
    `Tuple` spaces stand side by side.
    """
    space = env.observation_space
    if is_array(space) or not space.is_np_flattenable:
        return env
    return gymnasium.wrappers.FlattenObservation(env)


def is_array(space: Any) -> bool:
    """Returns whether observations of a space are arrays of numbers."""
    return isinstance(space, (gymnasium.spaces.Box, gymnasium.spaces.MultiBinary))


def make_vector(env: Any, n_envs: int) -> Any:
    """Returns a vector environment.

    Args:
        env: id or specification of a registered environment, an `Env`, a `VectorEnv`, or a function
            that makes one of the two.
        n_envs: how many environments run side by side.

    Raises:
        ValueError: for a number that does not fit, an environment that is in two places at once, or
            a vector environment that does not say how it goes on after an episode.
        TypeError: for anything else as `env`.
    """
    if not isinstance(n_envs, (int, np.integer)) or isinstance(n_envs, bool) or n_envs < 1:
        raise ValueError(f"`n_envs` must be a whole number of at least 1. Received: {n_envs!r}")
    vector = _vector(env, n_envs)
    _check_autoreset(vector)
    _check_distinct(vector)
    return vector


def _vector(env: Any, n_envs: int) -> Any:
    given = env
    if isinstance(env, (str, gymnasium.envs.registration.EnvSpec)):
        return _side_by_side([lambda: gymnasium.make(env)] * n_envs)
    if not isinstance(env, (gymnasium.Env, gymnasium.vector.VectorEnv)) and callable(env):
        env = env()
        if isinstance(env, gymnasium.Env):
            made = [env]  # the one that told what the function makes is used, too
            return _side_by_side([lambda: made.pop() if made else given()] + [given] * (n_envs - 1))
    if isinstance(env, gymnasium.vector.VectorEnv):
        if n_envs not in (1, env.num_envs):
            raise ValueError(
                f"n_envs={n_envs}, and the vector environment has {env.num_envs}: leave `n_envs` "
                "out, or make as many."
            )
        return env
    if isinstance(env, gymnasium.Env):
        if n_envs != 1:
            raise ValueError(
                f"n_envs={n_envs} needs as many environments, and one was given. Pass its id, or "
                "a function that makes one."
            )
        return _side_by_side([lambda: env])
    raise TypeError(
        "`env` must be the id or the EnvSpec of an environment, a gymnasium.Env, a "
        f"gymnasium.vector.VectorEnv or a function that makes one. Received: {env!r}"
    )


def _side_by_side(makers: list[Any]) -> Any:
    def pausable(make: Any) -> Any:
        return lambda: Pausable(as_array(make()))

    return gymnasium.vector.SyncVectorEnv([pausable(make) for make in makers])


def _check_autoreset(vector: Any) -> None:
    # Gymnasium 1.0 knows no modes, and resets in the step after the last one.
    modes = getattr(gymnasium.vector, "AutoresetMode", None)
    if modes is None:
        return
    mode = (vector.metadata or {}).get("autoreset_mode")
    known = [each.value for each in modes]
    if getattr(mode, "value", mode) not in known:
        raise ValueError(
            f"The vector environment {vector_name(None, vector)} does not say how it goes on after "
            f"the end of an episode: metadata['autoreset_mode'] is {mode!r}. Without it, steps of "
            "one episode would be taken for those of another. Set it to the "
            f"gymnasium.vector.AutoresetMode that `step` follows, one of {', '.join(known)}."
        )


def _check_distinct(vector: Any) -> None:
    envs = getattr(vector.unwrapped, "envs", None) or ()
    if len({id(env.unwrapped) for env in envs}) < len(envs):
        raise ValueError(
            f"The environment {vector_name(None, vector)} is the same object in several of the "
            f"{len(envs)} places: each would reset and step the episode of the others. Make one "
            "for each: the function has to return a new environment every time."
        )


def vector_name(env: Any, vector: Any) -> str:
    """Returns what an error calls the environment.

    Args:
        env: what it was given as.
        vector: what was made of it.
    """
    if isinstance(env, str):
        return f"'{env}'"
    envs = getattr(vector.unwrapped, "envs", None)
    spec = vector.spec or (envs[0].spec if envs else None)
    if spec is not None:
        return f"'{spec.id}'"
    return type((envs[0] if envs else vector).unwrapped).__name__
