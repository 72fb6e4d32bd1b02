"""Statistics that bring observations and rewards to a common size."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from gymnasium.wrappers.utils import RunningMeanStd

from tf_relax._src.rl.world.rollout import Rollout

_EPSILON = 1e-8


class Normalization:
    """Running mean and variance of observations, and of the discounted rewards received so far.

    The latter is ``S_t = r_t + gamma S_{t-1}``, from the beginning of an episode on: what
    Gymnasium's `NormalizeReward` and Stable-Baselines3's `VecNormalize` divide rewards by.

    They move on between updates only: the policy of a rollout and that of its update then see the
    same numbers, and the noise that was recorded belongs to both.

    Args:
        shape: of one observation.
        observations: whether observations are normalised.
        rewards: whether rewards are.
    """

    def __init__(self, shape: tuple[int, ...], observations: bool, rewards: bool):
        self.observations = RunningMeanStd(shape=shape) if observations else None
        self.rewards = RunningMeanStd(shape=()) if rewards else None
        self._begun = True  # else the rewards of a rollout were taken in before it was used
        self.forget()

    def forget(self) -> None:
        """Drops the sums of the episodes under way: the next steps begin new ones."""
        self._sums: np.ndarray | None = None

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Returns normalised observations, at most 10 deviations from the mean."""
        if self.observations is None:
            return observations
        moments = self.observations
        scaled = (observations - moments.mean) / np.sqrt(moments.var + _EPSILON)
        return np.clip(scaled, -10.0, 10.0).astype(np.float32)

    def tensor(self, observations: tf.Tensor) -> tf.Tensor:
        """Does the same to a tensor, with the present statistics as constants."""
        observations = tf.cast(observations, tf.float32)
        if self.observations is None:
            return observations
        mean, scale = self.observations.mean, np.sqrt(self.observations.var + _EPSILON)
        scaled = (observations - mean.astype(np.float32)) / scale.astype(np.float32)
        return tf.clip_by_value(scaled, -10.0, 10.0)

    @property
    def reward_scale(self) -> float:
        """What rewards are multiplied with."""
        if self.rewards is None:
            return 1.0
        return float(1 / np.sqrt(self.rewards.var + _EPSILON))

    def begin(self, raw: Rollout, gamma: float, carries: bool) -> None:
        """Takes in the rewards of the first rollout, which are divided by their own deviation.

        Else a value would begin with rewards of another size than all that follow. The arguments
        are those of `update`.
        """
        self._begun = self.rewards is None or self.rewards.count >= 1
        if not self._begun:
            self._update_rewards(raw, gamma, carries)

    def update(self, raw: Rollout, gamma: float, carries: bool) -> None:
        """Takes in a rollout whose observations are not normalised.

        Args:
            raw: what was recorded.
            gamma: discount of the sums.
            carries: whether its trajectories go on in the next rollout.
        """
        if self.observations is not None:
            self.observations.update(raw.observations[raw.mask > 0].astype(np.float64))
        if self._begun:
            self._update_rewards(raw, gamma, carries)
        self._begun = True

    def _update_rewards(self, raw: Rollout, gamma: float, carries: bool) -> None:
        if self.rewards is None:
            return
        counts = raw.mask > 0
        sums = np.zeros(raw.rewards.shape)
        total = np.zeros(raw.rewards.shape[1]) if self._sums is None else self._sums
        for t, rewards in enumerate(raw.rewards):
            total = np.where(counts[t], rewards + gamma * total, total)
            sums[t] = total
            total = total * (1 - raw.done[t])
        self._sums = total if carries else None
        self.rewards.update(sums[counts])

    def state(self) -> dict[str, np.ndarray]:
        """Returns the statistics as arrays."""
        result = {}
        for name in ("observations", "rewards"):
            moments = getattr(self, name)
            if moments is not None:
                for field in ("mean", "var", "count"):
                    result[f"{name}_{field}"] = np.asarray(getattr(moments, field), np.float64)
        return result

    def load(self, state: Any) -> None:
        """Takes statistics that `state` returned."""
        for key in self.state():
            name, field = key.rsplit("_", 1)
            value = np.array(state[key], np.float64)
            setattr(getattr(self, name), field, value if value.ndim else float(value))
