"""Running statistics: those of Gymnasium's wrappers, however the steps are cut into rollouts."""

import gymnasium
import numpy as np
import pytest

from tests.rl.envs import Counter, trainer
from tf_relax._src.rl.world.normalization import Normalization
from tf_relax._src.rl.world.rollout import Rollout

GAMMA = 0.9


class Noisy(Counter):
    """Rewards that differ, of a sequence of its own."""

    def __init__(self, lengths, seed=0):
        super().__init__(lengths)
        self.rng = np.random.default_rng(seed)

    def step(self, action):
        observation, _, terminated, truncated, info = super().step(action)
        return observation, float(self.rng.normal() + 2), terminated, truncated, info


def deviation(lengths, seed, steps):
    """What Stable-Baselines3's `VecNormalize` divides by after so many steps."""
    rng, total, sums, k, t = np.random.default_rng(seed), 0.0, [], 0, 0
    for _ in range(steps):
        total = GAMMA * total + rng.normal() + 2
        sums.append(total)
        t += 1
        if t == lengths[k % len(lengths)]:
            k, t, total = k + 1, 0, 0.0
    return float(np.std(sums))


@pytest.mark.parametrize("n_steps", [3, 10, 60])
@pytest.mark.parametrize("lengths", [(1000,), (7, 4)], ids=str)
def test_the_deviation_does_not_depend_on_the_rollouts(lengths, n_steps):
    made = trainer(Noisy(lengths), n_steps=n_steps, gamma=GAMMA, normalize_rewards=True)
    made.fit(60, seed=0, verbose=0)
    expected = deviation(lengths, 0, made.frames)
    assert 1 / made.normalization.reward_scale == pytest.approx(expected, rel=1e-3)


def test_the_first_rollout_is_divided_by_its_own_deviation():
    """Else a value would first be fitted to rewards of another size than all that follow."""
    seen, first = [], np.arange(1, 6)
    made = trainer(Counter((1000,)), n_steps=5, gamma=0.0, normalize_rewards=True)
    update = made._update[False]
    made._update[False] = lambda rollout: (seen.append(rollout.rewards[:, 0]), update(rollout))[1]
    made.fit(10, seed=0, verbose=0)
    np.testing.assert_allclose(seen[0], first / first.std(), rtol=1e-3)
    # From then on, by that of what was seen before.
    np.testing.assert_allclose(seen[1], (first + 5) / first.std(), rtol=1e-3)


def test_it_is_that_of_gymnasium():
    """Where no episode ends: Gymnasium's wrapper drops the sum before the last reward of one."""
    made = trainer(Noisy((1000,)), n_steps=7, gamma=GAMMA, normalize_rewards=True)
    made.fit(70, seed=0, verbose=0)
    env = gymnasium.wrappers.NormalizeReward(Noisy((1000,)), gamma=GAMMA)
    env.reset()
    for _ in range(70):
        env.step(0)
    expected = np.sqrt(env.return_rms.var)
    assert 1 / made.normalization.reward_scale == pytest.approx(float(expected), rel=1e-5)


def test_every_environment_has_a_sum_of_its_own():
    env = gymnasium.vector.SyncVectorEnv([lambda: Noisy((1000,), 1), lambda: Noisy((9,), 2)])
    made = trainer(env, policy_env=Counter(), n_steps=5, gamma=GAMMA, normalize_rewards=True)
    made.fit(100, seed=0, verbose=0)
    rows = made.updates * 5
    sums = []
    for length, seed in ((1000, 1), (9, 2)):
        rng, total, t = np.random.default_rng(seed), 0.0, 0
        for _ in range(rows):
            if t == length:
                t, total = 0, 0.0  # a row in which it resets itself
                continue
            total, t = GAMMA * total + rng.normal() + 2, t + 1
            sums.append(total)
    assert 1 / made.normalization.reward_scale == pytest.approx(np.std(sums), rel=1e-3)


def test_whole_episodes_begin_at_nothing():
    made = trainer(Noisy((7, 4)), n_episodes=2, gamma=GAMMA, normalize_rewards=True)
    made.fit(44, seed=0, verbose=0)
    expected = deviation((7, 4), 0, made.frames)
    assert 1 / made.normalization.reward_scale == pytest.approx(expected, rel=1e-3)


def test_what_was_interrupted_is_not_carried_on():
    made = trainer(
        Counter((50,), faults={(1, 20): KeyboardInterrupt()}), n_steps=8, normalize_rewards=True
    )
    with pytest.raises(KeyboardInterrupt):
        made.fit(1000, seed=0, verbose=0)
    assert made.normalization._sums[0] > 0
    made.fit(8, verbose=0)
    expected = 0.0
    for reward in range(1, 9):  # of an episode that began anew
        expected = reward + 0.99 * expected
    assert made.normalization._sums[0] == pytest.approx(expected)


def test_sums_by_hand():
    """Two columns, an end in the first, and a row that is no step in the second."""
    moments = Normalization((1,), False, True)
    rewards = np.array([[1.0, 1.0], [2.0, 9.0], [4.0, 4.0]])
    done = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    mask = np.array([[1.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    raw = Rollout(None, None, None, rewards, None, done, done, mask)
    seen = []
    moments.rewards.update = lambda x: seen.extend(np.ravel(x))
    moments.update(raw, gamma=0.5, carries=True)
    assert seen == [1.0, 1.0, 2.5, 4.0, 4.0]
    moments.update(raw, gamma=0.5, carries=True)
    assert seen[5:7] == [1 + 0.5 * 4, 1 + 0.5 * 4]
    moments.forget()
    moments.update(raw, gamma=0.5, carries=False)
    assert seen[10:12] == [1.0, 1.0]
    moments.update(raw, gamma=0.5, carries=False)
    assert seen[15:17] == [1.0, 1.0]


def test_the_discount_is_that_of_the_trainer():
    made = trainer(Counter((4,)), n_episodes=1, normalize_rewards=True, gamma=0.0)
    made.fit(4, seed=0, verbose=0)
    assert 1 / made.normalization.reward_scale == pytest.approx(np.std([1, 2, 3, 4]), rel=1e-3)
