"""Whatever an environment is given as and however it resets itself, the training data is the same.

`Counter` observes `[episode, step]`, so every row of a rollout says where it belongs.
"""

import gymnasium
import keras
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from gymnasium.vector import SyncVectorEnv

from tests.rl.envs import MODES, Counter, Picture, side_by_side, trainer
from tf_relax import rl
from tf_relax._src.rl.world import wrapper_statistics


def vector(mode, lengths=((2, 5), (3, 4)), **arguments):
    def make(own):
        return lambda: Counter(own, **arguments)

    return side_by_side([make(own) for own in lengths], mode)


def collect(made, seed=0):
    return made._collector().collect(seed)


@pytest.mark.parametrize(
    ("env", "count"),
    [
        ("CartPole-v1", 2),
        (lambda: gymnasium.make("CartPole-v1"), 2),
        (lambda: SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * 2), 2),
        (gymnasium.make("CartPole-v1").spec, 2),
    ],
    ids=["id", "factory", "factory of a vector", "spec"],
)
def test_environments_are_made(env, count):
    environments = rl.PolicyGradient(rl.dense_policy("CartPole-v1"), env, n_envs=2).environments
    assert environments.n_envs == count
    assert environments.name in ("'CartPole-v1'", "SyncVectorEnv")
    assert environments.owned
    assert environments.reset(seed=0).shape == (2, 4)


@pytest.mark.parametrize(
    "env",
    [gymnasium.make("CartPole-v1"), gymnasium.make_vec("CartPole-v1", 3, "sync")],
    ids=["Env", "VectorEnv"],
)
def test_environments_are_taken_ready_made(env):
    made = trainer(env, policy_env="CartPole-v1")
    assert made.environments.name == "'CartPole-v1'"
    assert made.environments.n_envs == getattr(env, "num_envs", 1)
    made.fit(10, seed=0, verbose=0)
    made.environments.close()
    env.reset()  # still open


SPACES = [Discrete(3, start=5), MultiDiscrete([2, 3]), MultiBinary(3), Box(-0.1, 0.1, (2,))]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: type(space).__name__)
def test_actions_are_those_of_the_space(space):
    env = Counter(action_space=space)
    made = trainer(env, n_steps=20)
    rollout, _ = collect(made)
    assert made.action_space.logits_size == {0: 3, 1: 5, 2: 3, 3: 4}[SPACES.index(space)]
    received = np.stack(env.received)
    decoded = made.action_space.decode(rollout.actions[:, 0])
    np.testing.assert_array_equal(received, decoded[rollout.mask[:, 0] > 0])
    assert len(np.unique(received, axis=0)) > 1
    actions = made.action(np.zeros((3, 2)), deterministic=False)
    assert all(space.contains(action) for action in actions)


def test_a_sample_is_recorded_before_it_is_clipped():
    env = Counter(action_space=Box(-0.1, 0.1, (2,)))
    rollout, _ = collect(trainer(env, n_steps=20))
    assert np.abs(rollout.actions).max() > 0.5
    assert np.abs(env.received).max() == pytest.approx(0.1)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: type(space).__name__)
@pytest.mark.parametrize("mode", MODES)
def test_the_recorded_noise_makes_the_recorded_actions(space, mode):
    made = trainer(
        vector(mode, action_space=space), policy_env=Counter(action_space=space), n_steps=12
    )
    rollout, _ = collect(made)
    for observations, noise, actions in zip(
        rollout.observations, rollout.noise, rollout.actions, strict=True
    ):
        again = made.action_space.relaxation.sample(made.logits(observations), noise).b
        np.testing.assert_allclose(again, actions, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("truncates", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_gives_the_same_steps(mode, truncates):
    made = trainer(vector(mode, truncates=truncates), policy_env=Counter(), n_steps=20)
    rollout, frames = collect(made)
    assert frames == rollout.mask.sum()
    assert (frames < 40) == (mode == "NextStep")
    for i, lengths in enumerate([(2, 5), (3, 4)]):
        steps = rollout.mask[:, i] > 0
        expected = [
            (episode, step, step + 1 == lengths[(episode - 1) % 2])
            for episode in range(1, 20)
            for step in range(lengths[(episode - 1) % 2])
        ][: steps.sum()]
        episode, step, last = np.array(expected).T
        np.testing.assert_array_equal(
            rollout.observations[steps, i], np.stack([episode, step], axis=1)
        )
        # The true observation after the step, at the end of an episode as well.
        np.testing.assert_array_equal(
            rollout.successors[steps, i], np.stack([episode, step + 1], axis=1)
        )
        np.testing.assert_array_equal(rollout.rewards[steps, i], step + 1)
        np.testing.assert_array_equal(rollout.done[steps, i], last)
        np.testing.assert_array_equal(rollout.terminated[steps, i], last * (not truncates))
    assert not rollout.done[rollout.mask == 0].any()


@pytest.mark.parametrize("mode", MODES)
def test_a_time_limit_bootstraps_from_the_true_final_observation(mode):
    value = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    value.set_weights([np.array([[100.0], [10.0]]), np.zeros(1)])  # tells episode and step apart
    arguments = {"policy_env": Counter(), "n_steps": 8, "value": value, "gamma": 0.5}
    for bootstrap, after in (("truncation", 100 + 10 * 2), (None, 0)):
        made = trainer(vector(mode, truncates=True), bootstrap=bootstrap, **arguments)
        rollout, _ = collect(made)
        assert rollout.done[1, 0]
        returns = made.differentiate(rollout).returns.numpy()
        assert returns[1, 0] == pytest.approx(2 + 0.5 * after)
        assert returns[0, 0] == pytest.approx(1 + 0.5 * returns[1, 0])


@pytest.mark.parametrize(
    "estimator", ["a2c", rl.PolicyRelax(coupled=False, trajectory_wise=True)], ids=["a2c", "relax"]
)
def test_the_row_of_an_autoreset_never_enters_the_loss(estimator, rng):
    made = trainer(
        vector("NextStep"),
        estimator,
        policy_env=Counter(),
        value=rl.dense_value((2,), units=(4,)),
        n_steps=12,
        gae_lambda=0.9,
    )
    made.value.layers[-1].kernel.assign(np.ones((4, 1)))
    rollout, _ = collect(made)
    dead = rollout.mask == 0
    assert dead.any()
    noise = made.draw_noise(rollout.noise.shape)
    before = made.differentiate(rollout, noise)

    def changed(rows):
        fields = {}
        for name in ("observations", "rewards", "successors"):
            x = getattr(rollout, name).copy()
            x[rows] += rng.normal(size=x[rows].shape)
            fields[name] = x
        return made.differentiate(rollout._replace(**fields), noise)

    def gradients(evidence):
        parts = (evidence.gradients, evidence.surrogate_gradients, evidence.value_gradients)
        return [np.array(x) for part in parts for x in part]

    for x, y in zip(gradients(before), gradients(changed(dead)), strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-5, atol=1e-6)
    moved = gradients(changed(np.roll(dead, 1, axis=0)))
    assert any(not np.allclose(x, y) for x, y in zip(gradients(before), moved, strict=True))


@pytest.mark.parametrize("mode", MODES)
def test_episodes_are_allotted_beforehand(mode):
    """One environment has short episodes: it must not contribute more of them."""
    made = trainer(vector(mode, lengths=((2,), (9,))), policy_env=Counter(), n_episodes=4)
    rollout, frames = collect(made)
    assert rollout.mask.sum(axis=0).tolist() == [2, 2, 9, 9]
    # The order in which they ended; what the quick one played on top is no part of the update.
    assert [length for _, length in made.environments.finished] == [2, 2, 9, 9]
    assert [total for total, _ in made.environments.finished] == [3.0, 3.0, 45.0, 45.0]
    assert frames > 22  # but those frames were used up
    np.testing.assert_array_equal(
        rollout.observations[:9, 3], np.stack([np.full(9, 2), np.arange(9)], axis=1)
    )


def test_padding_is_no_step():
    rollout, frames = collect(trainer(Counter((3, 5)), n_episodes=2))
    assert rollout.mask.shape[0] > 5
    assert rollout.mask.sum(axis=0).tolist() == [3, 5]
    assert frames == 8
    assert not rollout.rewards[rollout.mask == 0].any()


@pytest.mark.parametrize("normalize", [False, True])
def test_images(normalize):
    layers = keras.layers
    policy = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(3)]
    )
    made = rl.PolicyGradient(policy, Picture(), "relax", normalize_observations=normalize)
    made.compile(jit_compile=False)
    history = made.fit(9, seed=0, verbose=0)
    assert history.history["return"] == [3.0] * 3
    assert rl.dense_policy(Picture()).output_shape == (None, 3)
    assert made.evaluate(2) == (3.0, 0.0)


def test_images_wait_for_longer_episodes():
    """What has played its share shows its last image, of bytes as before."""

    class Long(Picture):
        made = 0

        def __init__(self):
            Long.made += 1
            self.length = 2 + 2 * Long.made

        def step(self, action):
            self.steps += 1
            return self.observation_space.high - 3, 1.0, self.steps == self.length, False, {}

    made = trainer(Long, "reinforce", policy_env=Picture(), n_envs=2)
    rollout, _ = collect(made)
    lengths = sorted(rollout.mask.sum(axis=0).tolist())
    assert lengths == [4, 6]
    assert np.unique(rollout.observations[rollout.mask > 0]).tolist() == [7, 252]


def test_evaluation_counts_as_many_episodes_as_it_is_told():
    env = vector("NextStep", lengths=((2,), (3,)))
    made = trainer(env, policy_env=Counter(), n_steps=4)
    # Two of the first (return 3) and one of the second (return 6).
    assert made.evaluate(3)[0] == pytest.approx(4.0)
    assert made.evaluate(1) == (3.0, 0.0)
    assert not made.episode_returns


def test_evaluation_leaves_training_alone():
    histories = []
    for between in (False, True):
        keras.utils.set_random_seed(0)
        made = trainer("CartPole-v1", n_steps=8, n_envs=2)
        made.fit(80, seed=3, verbose=0)
        if between:
            made.evaluate(2)
        histories.append(made.fit(80, verbose=0).history)
    assert histories[0]["return"] == histories[1]["return"]
    assert histories[0]["value_loss"] == histories[1]["value_loss"]


class Custom(gymnasium.vector.VectorEnv):
    """A vector environment of a user's own."""

    num_envs = 2
    single_observation_space = Box(-1, 1, (2,))
    single_action_space = Discrete(2)

    def __init__(self, metadata):
        self.metadata = metadata


@pytest.mark.skipif(len(MODES) == 1, reason="this Gymnasium has no autoreset modes")
@pytest.mark.parametrize("metadata", [{}, {"autoreset_mode": "sometimes"}], ids=str)
def test_a_vector_that_does_not_say_how_it_goes_on(metadata):
    with pytest.raises(ValueError, match=r"Custom does not say how .*AutoresetMode.*NextStep"):
        rl.PolicyGradient(rl.dense_policy(Counter()), Custom(metadata))
    known = Custom({"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP})
    assert rl.PolicyGradient(rl.dense_policy(Counter()), known).environments.n_envs == 2


# Statistics that wrappers keep.


class Drifting(Counter):
    """What it observes grows; a policy that watches the threshold needs to know how far."""

    def __init__(self):
        super().__init__((6,))

    def step(self, action):
        observation, _, *rest = super().step(action)
        return observation, float(action), *rest


def normalized():
    return gymnasium.wrappers.NormalizeObservation(Drifting())


def threshold_policy():
    """Takes action 1 where the normalised number of the step is above 0."""
    policy = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    policy.set_weights([np.array([[0.0, 0.0], [0.0, 10.0]]), np.zeros(2)])
    return policy


VECTORS = {
    "function": lambda: normalized,
    "function of a vector": lambda: (
        lambda: gymnasium.wrappers.vector.NormalizeObservation(SyncVectorEnv([Drifting] * 2))
    ),
    "function of processes": lambda: lambda: gymnasium.vector.AsyncVectorEnv([normalized] * 2),
    "instance": normalized,
}


@pytest.mark.parametrize("case", VECTORS)
def test_evaluation_sees_what_the_policy_saw_in_training(case):
    made = rl.PolicyGradient(threshold_policy(), VECTORS[case](), "reinforce")
    made.compile(keras.optimizers.SGD(0.0), jit_compile=False)
    made.fit(60, seed=0, verbose=0)
    (before,) = wrapper_statistics.read(made.environments.vector).values()
    mean, var = before[0].mean[1], before[0].var[1]
    expected = sum(float((step - mean) / np.sqrt(var + 1e-8) > 0) for step in range(6))
    assert made.evaluate(4, seed=0) == (expected, 0.0)
    assert 2 <= expected <= 4  # with statistics of its own it would be something else
    (after,) = wrapper_statistics.read(made.environments.vector).values()
    for x, y in zip(before, after, strict=True):
        np.testing.assert_array_equal(x.mean, y.mean)
        assert x.count == y.count
    made.environments.close()


def test_statistics_of_wrappers_are_saved(tmp_path):
    made = rl.PolicyGradient(threshold_policy(), normalized, "reinforce", n_envs=2)
    made.compile(keras.optimizers.SGD(0.0), jit_compile=False)
    made.fit(60, seed=0, verbose=0)
    made.save(tmp_path / "trainer.keras")
    loaded = rl.load(tmp_path / "trainer.keras", env=normalized)
    assert loaded.evaluate(3) == made.evaluate(3)
    rms = [env.get_wrapper_attr("obs_rms") for env in loaded.environments.vector.envs]
    old = [env.get_wrapper_attr("obs_rms") for env in made.environments.vector.envs]
    for x, y in zip(rms, old, strict=True):
        np.testing.assert_array_equal(x.mean, y.mean)
        assert x.count == y.count
