"""Gymnasium environments side by side, whatever they were given as, and what they may do wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tf_relax._src.rl.world.action_space import ActionSpace, check_observation_space
from tf_relax._src.rl.world.gym import gymnasium
from tf_relax._src.rl.world.recurrence import blank, forgetting
from tf_relax._src.rl.world.vectors import Pausable, make_vector, vector_name

_ENDED = (
    "runs in processes that have ended, or were interrupted in the middle of a step (Ctrl-C "
    "reaches them as well), and cannot go on. Give PolicyGradient a function that makes the "
    "environment, and it is made anew by itself; or go on in a new one: trainer.save(path), then "
    "tf_relax.rl.load(path, env=...)."
)


class ProcessEnded(RuntimeError):
    """A process of an environment is gone, and another can be started in its place."""


class Transition(NamedTuple):
    """What a step of all environments gave, `[n_envs, ...]`.

    Attributes:
        rewards: after the action.
        successors: the observation after the action, the true last one where an episode ended.
        terminated: whether the environment ended the episode.
        done: whether it ended for any reason.
        counts: whether there was a step at all: an environment may have used it to reset itself, or
            be paused.
    """

    rewards: np.ndarray
    successors: np.ndarray
    terminated: np.ndarray
    done: np.ndarray
    counts: np.ndarray


class Environments:
    """Steps environments side by side and says which episode a step belongs to.

    Args:
        env: id or specification of a registered environment, an `Env`, a `VectorEnv`, or a function
            that makes one of the two.
        n_envs: how many environments run side by side.
        action_bounds: how real samples get into the bounds of a `Box`; see `ActionSpace`.

    Attributes:
        observations: `[n_envs, ...]`, `None` before `reset`.
        memory: what a recurrent policy remembers of the episodes under way, `[n_envs, ...]` each;
            whoever acts writes it, and it is zero where an episode begins.
        owned: whether they were made here, and are closed here.
        pausable: whether some may be left alone while others go on.
        finished: return and length of every episode that has ended; whoever reads it clears it.

    Raises:
        ValueError: for spaces that are not supported, a number that does not fit, or a vector
            environment that does not say how it goes on after an episode.
        TypeError: for anything else as `env`.
        RuntimeError: (from `step` and `reset`) if the environment raises; the message names the
            environment, the episode and the step. `ProcessEnded` if its process has ended, and the
            next `reset` starts another.
        FloatingPointError: if it returns a reward or an observation that is not finite.
    """

    def __init__(self, env: Any, n_envs: int, action_bounds: str | None = None):
        self.action_bounds = action_bounds
        self._make: Callable[[], Any] = lambda: make_vector(env, n_envs)
        self.vector = self._make()
        # What a user made, a user closes.
        self.owned = not isinstance(env, (gymnasium.Env, gymnasium.vector.VectorEnv))
        self.name = vector_name(env, self.vector)
        envs: Any = getattr(self.vector, "envs", None) or [None]
        self.pausable = all(isinstance(each, Pausable) for each in envs)
        # Processes may end, or be left with an answer that nobody waits for any more.
        self._processes = isinstance(self.vector.unwrapped, gymnasium.vector.AsyncVectorEnv)
        self._broken = self._interrupted = False
        self.n_envs = self.vector.num_envs
        space = self.vector.single_action_space
        self.action_space = ActionSpace(space, self.name, action_bounds)
        self.observation_shape = check_observation_space(
            self.vector.single_observation_space, self.name
        )
        wrapped: Any = envs[0].env if isinstance(envs[0], Pausable) else None
        flattens = isinstance(wrapped, gymnasium.wrappers.FlattenObservation)
        self._space = wrapped.env.observation_space if flattens else None
        mode = self.vector.metadata.get("autoreset_mode")
        # Gymnasium 1.0 knows no modes, and resets in the step after the last one.
        self._autoreset = getattr(mode, "value", mode) or "NextStep"
        self._memory_shapes: list[tuple[int, ...]] = []
        self.finished: list[tuple[float, int]] = []
        # Begun so far in each environment: what an error calls the episode under way.
        self._episodes = np.zeros(self.n_envs, int)
        self.forget()

    def remember(self, shapes: list[tuple[int, ...]]) -> None:
        """Says of which shapes it is what a policy remembers of an episode."""
        self._memory_shapes = shapes
        self.forget()

    def forget(self) -> None:
        """Drops the episodes of the rollout under way: the next step needs a `reset` before it."""
        self.memory = blank(self._memory_shapes, self.n_envs)
        self.observations: np.ndarray | None = None
        self._lengths = np.zeros(self.n_envs, int)
        self._returns = np.zeros(self.n_envs)
        self._resetting = np.zeros(self.n_envs, bool)
        self._paused = np.zeros(self.n_envs, bool)

    def as_array(self, observation: Any) -> np.ndarray:
        """Returns observations as policies see them, from those of the environment itself.

        Args:
            observation: one, or a batch of arrays.

        Raises:
            ValueError: for anything else.
        """
        if self._space is not None and self._space.contains(observation):
            observation = gymnasium.spaces.flatten(self._space, observation)
        shape = self.observation_shape
        try:
            array = np.asarray(observation, np.float32)
        except (TypeError, ValueError):
            array = None
        if array is None or array.shape[array.ndim - len(shape) :] != shape:
            got = type(observation).__name__ if array is None else f"shape {array.shape}"
            raise ValueError(
                f"The environment {self.name} has observations of shape {shape}, one or a batch of "
                f"them, and not {got}."
            )
        return array

    def pause(self, i: int) -> None:
        """Leaves environment i alone until the next `reset`, if that can be done."""
        if self.pausable and self.observations is not None:
            self._paused[i] = True
            kind = self.vector.single_observation_space.dtype
            self.vector.envs[i].pause(self.observations[i].astype(kind))

    def reset(self, seed: int | None = None) -> np.ndarray:
        """Starts an episode in every environment and returns the observations."""
        self.forget()
        self._episodes += 1
        if self.pausable:
            for env in self.vector.envs:
                env.resume()
        if self._processes:
            self._broken |= self._some_have_ended()
        try:
            observations = self._call(lambda: self.vector.reset(seed=seed)[0])
        except RuntimeError:
            if not (self._broken and self.owned):
                raise
            self._remake()
            observations = self._call(lambda: self.vector.reset(seed=seed)[0])
        observations = self._checked(observations)
        self._check_declared(observations)
        self.observations = observations
        return observations

    def step(self, b: np.ndarray) -> Transition:
        """Takes a step everywhere; `observations` are then the next ones.

        Args:
            b: samples of the policy, `[n_envs, ...]`.
        """
        actions = self.action_space.decode(b)
        self._episodes += self._resetting & ~self._paused
        observations, rewards, terminated, truncated, infos = self._call(
            lambda: self.vector.step(actions)
        )
        observations = successors = self._checked(observations, rewards)
        counts = ~(self._resetting | self._paused)
        done = np.asarray(terminated | truncated)
        ended = np.flatnonzero(done)
        if len(ended) and self._autoreset == "SameStep":
            successors = observations.copy()
            for i in ended:
                successors[i] = infos["final_obs"][i]
            self._checked(successors)
        if self.memory:
            self.memory = forgetting(self.memory, ~counts | done)
        self._lengths += counts
        self._returns += np.where(counts, rewards, 0.0)
        if len(ended):
            self.finished += [(float(self._returns[i]), int(self._lengths[i])) for i in ended]
            self._lengths[ended], self._returns[ended] = 0, 0.0
            if self._autoreset != "NextStep":
                self._episodes[ended] += 1
            if self._autoreset == "Disabled":
                self._resetting = done
                options = {"reset_mask": done}
                observations = self._checked(
                    self._call(lambda: self.vector.reset(options=options)[0])
                )
        self._resetting = done if self._autoreset == "NextStep" else np.zeros_like(done)
        self.observations = observations
        return Transition(rewards, successors, terminated, done, counts)

    def close(self) -> None:
        """Closes the environments, unless they were given ready-made."""
        if self.owned and self._broken:
            self._discard()
        elif self.owned:
            self.vector.close()

    def interrupted(self) -> None:
        """Drops what is under way after Ctrl-C, which processes may have got as well."""
        self.forget()
        self._interrupted = True

    def _some_have_ended(self) -> bool:
        processes = self.vector.unwrapped.processes
        for process in processes if self._interrupted else ():
            process.join(timeout=0.5)  # it takes them a moment
        self._interrupted = False
        return not all(process.is_alive() for process in processes)

    def _remake(self) -> None:
        self._discard()
        self.vector, self._broken = self._make(), False

    def _discard(self) -> None:
        """Ends all processes; `close` would wait for the answer of one that is gone."""
        vector = self.vector.unwrapped
        for process in vector.processes:
            process.terminate()
        for process, pipe in zip(vector.processes, vector.parent_pipes, strict=True):
            process.join()
            if pipe is not None:
                pipe.close()
        vector.closed = True

    def _call(self, function: Callable[[], Any]) -> Any:
        if self._broken:
            raise RuntimeError(f"The environment {self.name} {_ENDED}")
        try:
            return function()
        except Exception as error:
            # Which of several it was, a vector environment does not say.
            where = " or ".join(self._where(i) for i in range(min(self.n_envs, 4)))
            where += " or later ones" if self.n_envs > 4 else ""
            self.forget()
            self._broken = self._processes
            hint = f"\nIt {_ENDED}" if self._processes and not self.owned else ""
            # What a pipe says whose other end is gone; environments of ours can be made anew.
            gone = self._processes and self.owned and isinstance(error, (EOFError, ConnectionError))
            kind = ProcessEnded if gone else RuntimeError
            raise kind(
                f"The environment {self.name} raised {type(error).__name__} in {where}: "
                f"{error}{hint}"
            ) from error
        except BaseException:
            self._broken = self._processes
            raise

    def _checked(self, observations: Any, rewards: np.ndarray | None = None) -> np.ndarray:
        observations = np.asarray(observations, np.float32)
        rewards = np.zeros(self.n_envs) if rewards is None else rewards
        # A sum is finite only if every term is, and much quicker than looking at each.
        if np.isfinite(observations.sum()) and np.isfinite(rewards.sum()):
            return observations
        axes = tuple(range(1, observations.ndim))
        bad_observation = ~np.isfinite(observations).all(axis=axes)
        bad = bad_observation | ~np.isfinite(rewards)
        if not bad.any():
            return observations
        i = int(np.flatnonzero(bad)[0])
        what = "an observation" if bad_observation[i] else f"a reward ({rewards[i]})"
        where = self._where(i)
        self.forget()
        raise FloatingPointError(
            f"The environment {self.name} returned {what} that is not finite in {where}. Mend the "
            "environment, or end the episode before it happens."
        )

    def _check_declared(self, observations: np.ndarray) -> None:
        """Raises a ValueError if episodes begin outside of the space that was declared.

        Later observations of many environments leave it: bounds of velocities are guesses.
        """
        space = self.vector.single_observation_space
        if not isinstance(space, gymnasium.spaces.Box):
            return
        slack = 1e-5 * (1 + np.abs(observations))  # of float32
        inside = (observations >= space.low - slack) & (observations <= space.high + slack)
        if inside.all():
            return
        i, *place = np.argwhere(~inside)[0].tolist()
        at = tuple(place)
        raise ValueError(
            f"The environment {self.name} begins outside of its observation space {space} in "
            f"{self._where(i)}: component {list(at)} is {observations[i][at]:g}, and declared are "
            f"{space.low[at]:g} to {space.high[at]:g}. Declare what it returns, or wrap it in "
            "gymnasium.wrappers.TransformObservation."
        )

    def _where(self, i: int) -> str:
        # Without observations, or where it is being reset, an episode is only beginning.
        begins = self.observations is None or self._resetting[i]
        step = "the reset" if begins else f"step {self._lengths[i] + 1}"
        which = f" of environment {i}" if self.n_envs > 1 else ""
        return f"{step} of episode {self._episodes[i]}{which}"
