"""Whole episodes from several environments: unbiased, and without a frame that is lost."""

import gymnasium
import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.rl.envs import Counter, trainer
from tf_relax import rl
from tf_relax._src.rl import learner
from tf_relax._src.rl.world.rollout import to_tensors

SHORT, LONG = 1, 12


class Uneven(gymnasium.Env):
    """The first action tells whether an episode has 1 step, or 12 of which each is rewarded."""

    observation_space = gymnasium.spaces.Box(0, 1, (1,))
    action_space = gymnasium.spaces.Discrete(2)
    steps = 0

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        type(self).steps += 1
        self.t += 1
        if self.t == 1:
            self.length = LONG if action else SHORT
        reward = 0.5 if self.length == LONG else 1.0
        return np.ones(1, np.float32), reward, self.t == self.length, False, {}


def uneven_trainer(**arguments):
    """Chooses the long episodes with probability .3."""
    policy = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    bias = np.log([0.7, 0.3])
    policy.set_weights([np.zeros((1, 2)), bias])
    made = rl.PolicyGradient(policy, Uneven, "reinforce", gamma=1.0, **arguments)
    made.compile("sgd", entropy_weight=0.0, jit_compile=False)
    return made


@pytest.mark.parametrize(("n_envs", "n_episodes"), [(8, 8), (4, 8)])
def test_lengths_and_gradients_have_the_right_means(n_envs, n_episodes):
    """Six standard errors each: fails by chance once in 5e8 runs."""
    made = uneven_trainer(n_envs=n_envs, n_episodes=n_episodes)
    made.noise_seeds.state.assign(keras.random.SeedGenerator(0).state)
    collector = made._collector()

    @tf.function(autograph=False)
    def of_logit(rollout):
        return learner.differentiate(made, rollout).gradients[1][1]

    lengths, gradients = [], []
    for k in range(250):
        rollout, frames = collector.collect(None if k else 0)
        assert frames == rollout.mask.sum()
        assert collector.unused == 0
        lengths += rollout.mask.sum(0).tolist()
        gradients.append(float(of_logit(to_tensors(made._normalized(rollout)))))
    p = 0.3
    truth = p * LONG + (1 - p) * SHORT
    error = (LONG - SHORT) * np.sqrt(p * (1 - p) / len(lengths))
    assert abs(np.mean(lengths) - truth) < 6 * error
    # d/dlogit of E[return] = .7 * 1 + .3 * 6; later steps change nothing, and add noise.
    slope = p * (1 - p) * (0.5 * LONG - 1)
    error = np.std(gradients) / np.sqrt(len(gradients))
    assert abs(-np.mean(gradients) - slope) < 6 * error
    assert slope > 12 * error  # else it would say little


def test_those_that_end_first_would_be_short():
    """What the share of every environment is for: it would show."""
    made = uneven_trainer(n_envs=8)
    env = made.environments
    env.reset(0)
    first = []
    while len(first) < 400:
        step = env.step(made.samples(env.observations)[0])
        if step.done.any():
            first += [length for _, length in env.finished][: 8 - len(first) % 8]
            env.finished.clear()
            env.reset()
    assert np.mean(first) < 0.6 * (0.3 * LONG + 0.7 * SHORT)


@pytest.mark.parametrize("n_envs", [2, 8])
@pytest.mark.parametrize("episodes", [1, 3])
def test_no_step_is_paid_for_that_nobody_learns_from(n_envs, episodes):
    made = uneven_trainer(n_envs=n_envs, n_episodes=episodes * n_envs)
    Uneven.steps = 0
    made.fit(200, seed=0, verbose=0)
    assert Uneven.steps == made.frames == sum(made.episode_lengths)
    assert made.unused_frames == 0
    assert len(made.episode_lengths) == made.updates * episodes * n_envs


def test_environments_wait_and_then_go_on():
    made_envs = []

    def make():
        made_envs.append(Counter(((2,), (5,))[len(made_envs) % 2]))
        return made_envs[-1]

    made = trainer(make, policy_env=Counter(), n_envs=2, n_episodes=4)
    made.fit(28, seed=0, verbose=0)
    assert made.updates == 2
    assert [len(env.received) for env in made_envs] == [8, 20]
    # The four episodes of an update, and the one that is begun after the last of them.
    assert [env.episode for env in made_envs] == [4, 4]


def test_evaluation_pays_for_no_more_than_it_counts():
    made = uneven_trainer(n_envs=1)
    Uneven.steps = 0
    mean, _ = made.evaluate(5)  # the most probable action: a single step
    assert (mean, Uneven.steps) == (1.0, 5)


def test_ready_made_vectors_step_on_and_say_how_many_were_in_vain():
    env = gymnasium.vector.SyncVectorEnv([lambda: Counter((2,)), lambda: Counter((9,))])
    made = trainer(env, policy_env=Counter(), n_episodes=2)
    made.fit(1, seed=0, verbose=0)
    assert sum(made.episode_lengths) == 11
    assert made.frames == 11 + made.unused_frames
    assert made.unused_frames > 0


def test_a_rollout_of_resets_alone_is_none():
    """One step per update, every second of which only resets the environment."""
    made = trainer(Counter((1,)), n_steps=1)
    history = made.fit(6, seed=0, verbose=0).history
    assert history["frames"] == [1, 2, 3, 4, 5, 6]
    assert np.isfinite(history["kl"]).all()
