"""Networks for those who have none: their shapes, what they share, and that they learn."""

import gymnasium
import keras
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from tf_relax import rl


class Bright(gymnasium.Env):
    """Images of which one half is bright: action 1 is right for the upper half, 0 for the lower."""

    observation_space = Box(0, 255, (12, 10, 1), np.uint8)
    action_space = Discrete(2)

    def _observe(self):
        self.upper = int(self.np_random.integers(2))
        image = self.np_random.integers(0, 60, (12, 10, 1))
        image[:6] += 150 * self.upper
        image[6:] += 150 * (1 - self.upper)
        return image.astype(np.uint8)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.step_number = 0
        return self._observe(), {}

    def step(self, action):
        reward = float(action == self.upper)
        self.step_number += 1
        return self._observe(), reward, self.step_number >= 10, False, {}


def test_a_policy_learns_to_see():
    keras.utils.set_random_seed(0)
    torso = rl.convolutional_torso((12, 10, 1), filters=((8, 3, 2),), units=(16,))
    policy, value = rl.actor_critic(Bright, torso)
    trainer = rl.PolicyGradient(policy, Bright, "a2c", value=value, n_steps=10, n_envs=4)
    trainer.compile(keras.optimizers.Adam(0.01), jit_compile=False)
    trainer.fit(2000, seed=0, verbose=0)
    assert trainer.evaluate(5, seed=0)[0] > 9  # of 10; chance is 5


def test_images_get_convolutions_by_themselves():
    policy, value = rl.actor_critic(Bright)
    kinds = [type(layer).__name__ for layer in policy.get_layer("torso").layers]
    assert kinds.count("Conv2D") == 3
    assert policy.get_layer("torso") is value.get_layer("torso")
    image = np.full((1, 12, 10, 1), 255.0)
    assert float(policy.get_layer("torso").layers[0](image)[0, 0, 0, 0]) == pytest.approx(1.0)


@pytest.mark.parametrize(("env", "outputs"), [("CartPole-v1", 2), ("Pendulum-v1", 2)])
def test_what_is_shared_and_what_is_not(env, outputs):
    policy, value = rl.actor_critic(env)
    assert policy.output_shape == (None, outputs)
    trainer = rl.PolicyGradient(policy, env, "a2c", value=value)
    assert len(trainer.shared_variables) == 4  # two dense layers
    assert len(trainer.value_variables) == 2  # the last
    observations = np.ones((3, *trainer.environments.observation_shape), "float32")
    np.testing.assert_array_equal(value(observations), np.zeros((3, 1)))


def test_no_convolutions_without_images():
    with pytest.raises(ValueError, match=r"takes images.*shape \(4,\)"):
        rl.convolutional_torso((4,))
