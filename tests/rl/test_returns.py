"""Returns and discounted sums against numbers worked out by hand and plain loops."""

import numpy as np
import pytest
import tensorflow as tf

from tests.rl.small_mdp import make_trainer
from tf_relax._src.rl.gradient.returns import discounted_sums, lambda_returns
from tf_relax._src.rl.world.rollout import Rollout


def column(*numbers):
    return tf.constant(numbers, "float64")[:, tf.newaxis]


def returns(rewards, after, done, gamma, lam):
    fields = [column(*x) for x in (rewards, after, done)]
    return lambda_returns(*fields, gamma, lam).numpy().ravel()


def test_discounted_sums_by_hand():
    sums = discounted_sums(column(1.0, 2.0, 4.0), column(0.5, 0.0, 0.5), last=8.0)
    np.testing.assert_allclose(sums.numpy().ravel(), [2.0, 2.0, 8.0])


def test_lambda_1_sums_rewards_whatever_the_values():
    found = returns([1, 2, 4], [9, 9, 0], [0, 0, 1], 0.5, None)
    np.testing.assert_allclose(found, [3.0, 4.0, 4.0])
    np.testing.assert_allclose(returns([1, 2, 4], [9, 9, 0], [0, 0, 1], 0.5, 1), found)


def test_lambda_0_looks_one_step_ahead():
    found = returns([1, 2, 4], [10, 20, 0], [0, 0, 1], 0.5, 0.0)
    np.testing.assert_allclose(found, [6.0, 12.0, 4.0])


def test_lambda_between_by_hand():
    # R_2 = 4; R_1 = 2 + .5 (.5 * 20 + .5 * 4) = 8; R_0 = 1 + .5 (.5 * 10 + .5 * 8) = 5.5
    found = returns([1, 2, 4], [10, 20, 0], [0, 0, 1], 0.5, 0.5)
    np.testing.assert_allclose(found, [5.5, 8.0, 4.0])


def test_an_end_in_the_middle_keeps_episodes_apart():
    # The first episode is cut by a time limit, where 6 was still to come.
    found = returns([1, 2, 4, 8], [0, 6, 0, 0], [0, 1, 0, 1], 0.5, 1.0)
    np.testing.assert_allclose(found, [1 + 0.5 * 5, 2 + 0.5 * 6, 4 + 0.5 * 8, 8])


@pytest.mark.parametrize("lam", [0.0, 0.3, 0.95, 1.0])
def test_generalised_advantages_are_sums_of_errors(lam, rng):
    """Schulman et al. (2016), equation 16, as the double sum that it is."""
    steps, columns, gamma = 7, 3, 0.9
    rewards, values, after = rng.normal(size=(3, steps, columns))
    done = (rng.random((steps, columns)) < 0.3).astype(float)
    # The recursion in R and the sum of errors agree where V(s') is that of the next step.
    after[:-1] = np.where(done[:-1] == 1, after[:-1], values[1:])
    advantages = np.zeros((steps, columns))
    for j in range(columns):
        for t in range(steps):
            factor = 1.0
            for k in range(t, steps):
                error = rewards[k, j] + gamma * after[k, j] - values[k, j]
                advantages[t, j] += factor * error
                if done[k, j]:
                    break
                factor *= gamma * lam
    found = lambda_returns(*map(tf.constant, (rewards, after, done)), gamma, lam)
    np.testing.assert_allclose(found - values, advantages, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("bootstrap", ["truncation", None])
def test_a_time_limit_bootstraps_from_the_last_observation(bootstrap, rng):
    """Not from the first of the next episode, and a real end from nothing."""
    trainer = make_trainer(
        "choice", rng, estimator="a2c", with_value=True, gamma=0.5, bootstrap=bootstrap
    )
    trainer.value.set_weights([np.array([[10.0], [100.0]]), np.array([1.0])])
    first, second, last = [1.0, 0.0], [0.0, 1.0], [0.3, 0.2]
    states = np.array([[first] * 2, [second] * 2, [first] * 2], np.float32)
    successors = np.array([[second] * 2, [last] * 2, [second] * 2], np.float32)
    b = np.tile(np.float32([1, 0]), (3, 2, 1))
    numbers = np.float32([[1, 1], [2, 2], [4, 4]])
    done = np.float32([[0, 0], [1, 1], [1, 1]])
    terminated = np.float32([[0, 0], [0, 1], [1, 1]])  # column 0: a time limit after the second
    rollout = Rollout(
        states, np.zeros_like(b), b, numbers, successors, terminated, done, np.ones_like(done)
    )
    evidence = trainer.differentiate(rollout)
    cut = 2 + 0.5 * (10 * 0.3 + 100 * 0.2 + 1) if bootstrap else 2.0
    expected = [[1 + 0.5 * cut, 2.0], [cut, 2.0], [4.0, 4.0]]
    np.testing.assert_allclose(evidence.returns, expected, rtol=1e-5)
    np.testing.assert_allclose(evidence.values[:, 0], [11.0, 101.0, 11.0], rtol=1e-5)
