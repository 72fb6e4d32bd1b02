"""Masks in `info`: what is illegal is never done, and gradients are those of what is left."""

import gymnasium
import keras
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from tf_relax import rl


class Doors(gymnasium.Env):
    """Of four doors some are open, another set in every step; the highest open one is best."""

    observation_space = Box(-1, 1, (2,), np.float32)
    action_space = Discrete(4)

    def __init__(self, masks=None):
        self.masks, self.walked_into_walls = masks, 0

    def _look(self):
        if self.masks is None:
            self.open = self.np_random.integers(0, 2, 4)
            self.open[self.np_random.integers(4)] = 1
        else:
            self.open = self.masks[min(self.step_number, len(self.masks) - 1)]
        info = {} if self.open is None else {"action_mask": np.asarray(self.open, np.int8)}
        return self.np_random.normal(size=2).astype(np.float32), info

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.step_number = 0
        return self._look()

    def step(self, action):
        self.walked_into_walls += not self.open[action]
        reward = float(action == np.flatnonzero(self.open).max())
        self.step_number += 1
        observation, info = self._look()
        return observation, reward, self.step_number >= 8, False, info


def masked(**options):
    return rl.MaskedActions(Doors(**options))


@pytest.mark.parametrize("estimator", ["a2c", "relax"])
def test_nothing_illegal_is_done_and_the_rest_is_learned(estimator):
    keras.utils.set_random_seed(0)
    made = []

    def make():
        made.append(Doors())
        return rl.MaskedActions(made[-1])

    policy = rl.masked_policy(rl.dense_policy(Doors, units=(16,)))
    trainer = rl.PolicyGradient(policy, make, estimator, n_episodes=4, n_envs=4)
    trainer.compile(keras.optimizers.Adam(0.02), jit_compile=False)
    before = trainer.evaluate(20, seed=1)[0]
    trainer.fit(2500, seed=0, verbose=0)
    assert trainer.evaluate(20, seed=1)[0] > before + 1
    assert sum(env.walked_into_walls for env in made) == 0


def test_the_mask_stands_behind_the_observation():
    env = masked(masks=[[1, 0, 0, 1], [0, 1, 0, 0]])
    first, _ = env.reset(seed=0)
    second, *_ = env.step(0)
    np.testing.assert_array_equal(first[2:], [1, 0, 0, 1])
    np.testing.assert_array_equal(second[2:], [0, 1, 0, 0])
    assert env.observation_space.contains(first)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ([[1, 1, 1, 1], [0, 0, 0, 0]], "Doors left no legal action after 1 steps"),
        ([[1, 1, 1, 1], None], "Doors gave no info.*after 1 steps"),
        ([[1, 1]], "Doors gave an action mask of 2 numbers in the reset, for 4 actions"),
    ],
)
def test_masks_that_are_none(masks, message):
    env = masked(masks=masks)
    with pytest.raises(ValueError, match=message):
        env.reset(seed=0), env.step(0)


def test_masks_of_other_actions():
    with pytest.raises(ValueError, match="'Pendulum-v1' has Box"):
        rl.MaskedActions(gymnasium.make("Pendulum-v1"))


def test_a_trainer_with_masks_is_saved(tmp_path):
    def make():
        return rl.MaskedActions(gymnasium.make("Taxi-v4"))

    policy = rl.masked_policy(rl.dense_policy("Taxi-v4", units=(4,)))
    trainer = rl.PolicyGradient(policy, make, "a2c", n_steps=5)
    trainer.compile(jit_compile=False)
    trainer.fit(20, seed=0, verbose=0)
    trainer.save(tmp_path / "taxi.keras")
    again = rl.load(tmp_path / "taxi.keras")
    observation, _ = make().reset(seed=2)
    assert again.predict(observation, deterministic=True) == trainer.predict(
        observation, deterministic=True
    )
