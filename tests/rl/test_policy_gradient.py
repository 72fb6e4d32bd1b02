"""The trainer as a whole: what it logs, and that it learns."""

import gymnasium
import keras
import numpy as np
import pytest

from tests.rl.envs import Counter, trainer
from tf_relax import rl

ALWAYS = {"episodes", "frames", "return", "length", "entropy", "kl", "gradient_log_variance"}


@pytest.mark.parametrize(
    ("estimator", "quantities"),
    [("reinforce", set()), ("relax", set()), ("a2c", {"explained_variance", "value_loss"})],
)
def test_one_entry_per_update_and_quantity(estimator, quantities):
    made = trainer(Counter((3, 5)), estimator)
    history = made.fit(20, seed=0, verbose=0)
    assert set(history.history) == ALWAYS | quantities
    assert {len(x) for x in history.history.values()} == {made.updates} == {6}
    assert history.history["episodes"] == [1, 2, 3, 4, 5, 6]
    assert history.history["frames"] == [3, 8, 11, 16, 19, 24]


def test_what_is_logged_is_what_happened():
    made = trainer(Counter((3, 5)), n_episodes=2)
    history = made.fit(17, seed=0, verbose=0).history
    assert history["frames"] == [8, 16, 24]  # the last update is a whole one
    assert history["episodes"] == [2, 4, 6]
    assert history["length"] == [4.0, 4.0, 4.0]
    assert history["return"] == [(6 + 15) / 2] * 3
    assert list(made.episode_returns) == [6.0, 15.0] * 3
    assert list(made.episode_lengths) == [3, 5] * 3
    assert np.isnan(history["gradient_log_variance"][0])
    assert np.isfinite(history["gradient_log_variance"][1:]).all()


def test_the_mean_is_over_a_hundred_episodes():
    made = trainer(Counter((1,) * 30 + (2,) * 100), "reinforce", n_episodes=10)
    history = made.fit(230, seed=0, verbose=0).history
    assert history["episodes"][-1] == 130
    assert history["return"][0] == 1.0
    assert history["return"][-1] == 3.0  # of the hundred latest, none is of the first thirty
    assert history["return"][-2] == pytest.approx((10 * 1 + 90 * 3) / 100)


def test_rewards_are_logged_as_they_are():
    made = trainer(Counter((3,)), normalize_rewards=True, normalize_observations=True)
    history = made.fit(9, seed=0, verbose=0).history
    assert history["return"] == [6.0] * 3
    assert made.normalization.reward_scale != 1.0


def test_a_seed_repeats_training():
    def run(seed):
        keras.utils.set_random_seed(0)
        made = trainer("CartPole-v1", "relax", n_envs=2)
        return made.fit(100, seed=seed, verbose=0).history

    one, same, other = run(1), run(1), run(2)
    np.testing.assert_equal(one, same)
    assert one["length"] != other["length"]


def test_updates_in_a_compiled_graph_are_the_same():
    def run(jit_compile):
        keras.utils.set_random_seed(0)
        made = trainer("CartPole-v1", "relax", n_episodes=2, units=(4,))
        made.compile("adam", jit_compile=jit_compile)
        made.fit(1, seed=0, verbose=0)
        return made.policy.get_weights()

    for x, y in zip(run(False), run(True), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5)


def test_actions_are_the_environment_s():
    made = trainer("CartPole-v1", "reinforce")
    observations = np.zeros((5, 4))
    actions = made.action(observations)
    assert actions.shape == (5,)
    assert (actions == actions[0]).all()  # the most probable one
    assert set(made.action(np.zeros((64, 4)), deterministic=False)) == {0, 1}
    np.testing.assert_array_equal(actions, np.argmax(made(observations), axis=-1))


class Bandit(gymnasium.Env):
    """One step; the third of three actions is rewarded."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,))
    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones(1, np.float32), {}

    def step(self, action):
        return np.ones(1, np.float32), float(action == 2), True, False, {}


@pytest.mark.parametrize("estimator", ["reinforce", "a2c", "relax"])
def test_it_learns(estimator):
    made = trainer(Bandit(), estimator, n_episodes=8)
    made.compile(keras.optimizers.Adam(0.1), jit_compile=False)
    made.fit(400, seed=0, verbose=0)
    assert made.evaluate(4) == (1.0, 0.0)
    assert np.exp(made(np.ones((1, 1)))[0, 2]) / np.exp(made(np.ones((1, 1)))).sum() > 0.8


class Target(Bandit):
    """One step; the reward falls with the distance of the action from 0.7."""

    action_space = gymnasium.spaces.Box(-2, 2, (1,))

    def step(self, action):
        return np.ones(1, np.float32), -float((action[0] - 0.7) ** 2), True, False, {}


def test_it_learns_continuous_actions():
    made = trainer(Target(), "lax", n_episodes=16)
    made.compile(keras.optimizers.Adam(0.05), surrogate_optimizer="adam", jit_compile=False)
    made.fit(1600, seed=0, verbose=0)
    assert made.action(np.ones((1, 1)))[0, 0] == pytest.approx(0.7, abs=0.2)


def test_a_model_of_action_and_state_is_a_surrogate():
    action, state = keras.Input((2,)), keras.Input((4,))
    joined = keras.layers.Concatenate()([action, state])
    surrogate = keras.Model([action, state], keras.layers.Dense(1)(joined))
    made = trainer("CartPole-v1", rl.PolicyRelax(), surrogate=surrogate)
    before = surrogate.get_weights()
    made.fit(20, seed=0, verbose=0)
    assert not np.array_equal(before[0], surrogate.get_weights()[0])
