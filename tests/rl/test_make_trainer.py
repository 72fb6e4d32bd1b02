"""The trainer whose settings work in most environments."""

import gymnasium
import numpy as np
import pytest

from tests.rl.envs import Counter, Picture
from tf_relax import rl

SMALL = {"n_envs": 2, "n_steps": 8, "jit_compile": False}


@pytest.mark.parametrize("estimator", ["a2c", "relax"])
def test_discrete_actions(estimator):
    made = rl.make_trainer("CartPole-v1", estimator, **SMALL)
    assert type(made.trust_region) is rl.NaturalGradient
    assert made.normalize_observations
    assert made.normalize_rewards
    assert not made.shared_variables
    history = made.fit(32, seed=0, verbose=0).history
    assert made.updates >= 2
    assert np.isfinite(history["value_loss"]).all()


def test_real_actions():
    made = rl.make_trainer("Pendulum-v1", "lax", log_scale=-1.0, **SMALL)
    assert made.policy.layers[-1].log_scale.numpy().tolist() == [-1.0]
    assert made.action_space.bounds.kind == "clip"
    made.fit(16, seed=0, verbose=0)


def test_images():
    made = rl.make_trainer(lambda: Picture(), **SMALL)
    kinds = [type(layer).__name__ for layer in made.policy.layers[1].layers]
    assert kinds.count("Conv2D") == 3
    assert not made.normalize_observations  # pixels are scaled by the torso
    assert not made.shared_variables
    made.fit(16, seed=0, verbose=0)


def test_recurrent_policies():
    policy = rl.recurrent_policy("CartPole-v1", units=4)
    made = rl.make_trainer("CartPole-v1", policy=policy, **SMALL)
    assert len(made.value.inputs) == 2
    made.fit(16, seed=0, verbose=0)


def test_whole_episodes():
    options = {"n_envs": 2, "jit_compile": False}
    made = rl.make_trainer(lambda: Counter(), "reinforce", **options)
    assert made.value is None
    made.fit(8, seed=0, verbose=0)
    made = rl.make_trainer(lambda: Counter(), n_episodes=2, **options)
    assert made.n_steps is None
    made.fit(8, seed=0, verbose=0)


def test_vectors_and_ready_made_environments_say_how_many_they_are():
    def vector():
        return gymnasium.vector.SyncVectorEnv([Counter] * 3)

    for env, count in ((vector, 3), (vector(), 3), (Counter(), 1), (lambda: Counter(), 8)):
        made = rl.make_trainer(env, n_steps=4, jit_compile=False)
        assert made.environments.n_envs == count


def test_what_is_given_takes_the_place_of_the_defaults():
    value = rl.dense_value((4,), units=(3,))
    made = rl.make_trainer(
        lambda: gymnasium.make("CartPole-v1"), value=value, trust_region=None, gamma=0.9, **SMALL
    )
    assert made.value is value
    assert made.trust_region is None
    assert made.gamma == 0.9


@pytest.mark.slow
def test_cartpole_is_solved():
    """In every seed of the benchmark; here in one, and sooner than all of its frames."""
    made = rl.make_trainer("CartPole-v1")
    made.fit(100_000, seed=7, verbose=0)
    assert np.mean(list(made.episode_returns)[-100:]) > 475
