"""What people know from other libraries: `predict`, evaluation, spaces of all kinds."""

import json

import gymnasium
import keras
import numpy as np
import pytest
import tensorflow as tf
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Sequence, Tuple

from tests.rl.envs import Counter
from tf_relax import rl

SPACES = {
    "discrete": (Discrete(3), 3),
    "shifted": (Discrete(3, start=-1), 3),
    "several": (MultiDiscrete([2, 3]), 5),
    "bits": (MultiBinary(4), 4),
    "tuple": (Tuple([Discrete(2), Box(-1, 1, (3,))]), 5),
    "dict": (Dict({"at": Box(-1, 1, (2, 2)), "inside": Dict({"kind": Discrete(4)})}), 8),
}


class Sees(gymnasium.Env):
    """Observes samples of a space; action 1 is right."""

    action_space = Discrete(2)

    def __init__(self, space):
        self.observation_space = space
        self.seen = []

    def _observe(self):
        self.seen.append(self.observation_space.sample())
        return self.seen[-1]

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.step_number = 0
        return self._observe(), {}

    def step(self, action):
        self.step_number += 1
        return self._observe(), float(action), self.step_number >= 5, False, {}


@pytest.mark.parametrize("name", SPACES)
def test_observations_of_every_kind(name):
    space, size = SPACES[name]
    policy = rl.dense_policy(lambda: Sees(space), units=(4,))
    assert policy.input_shape == (None, size)
    trainer = rl.PolicyGradient(policy, lambda: Sees(space), "a2c", n_envs=2)
    trainer.compile(keras.optimizers.Adam(0.05), jit_compile=False)
    trainer.fit(20, seed=0, verbose=0)
    env = Sees(space)
    observation, _ = env.reset(seed=1)
    action, state = trainer.predict(observation, deterministic=True)
    assert state is None
    flat = gymnasium.spaces.flatten(space, observation)
    assert action == trainer.action(flat[np.newaxis], deterministic=True)[0]
    assert env.action_space.contains(int(action))
    assert np.isfinite(trainer.evaluate(2)[0])


def test_flattened_observations_are_those_of_gymnasium():
    made = []

    def make():
        made.append(Sees(SPACES["dict"][0]))
        return made[-1]

    trainer = rl.PolicyGradient(rl.dense_policy(make, units=(4,)), make, "reinforce")
    trainer.compile(jit_compile=False)
    found = trainer.environments.reset(seed=3)
    env = made[1]
    np.testing.assert_allclose(
        found[0], gymnasium.spaces.flatten(env.observation_space, env.seen[-1])
    )


def test_a_trainer_of_a_flattened_environment_is_saved(tmp_path):
    trainer = rl.PolicyGradient(
        rl.dense_policy("FrozenLake-v1", units=(4,)), "FrozenLake-v1", "a2c"
    )
    trainer.compile(jit_compile=False)
    trainer.fit(20, seed=0, verbose=0)
    trainer.save(tmp_path / "trainer.keras")
    again = rl.load(tmp_path / "trainer.keras")
    assert again.predict(7, deterministic=True) == trainer.predict(7, deterministic=True)


def test_spaces_that_are_no_arrays():
    with pytest.raises(ValueError, match=r"observation space Sequence.*need a wrapper"):
        rl.dense_policy(lambda: Sees(Sequence(Discrete(2))))


def trained(**options):
    policy = rl.dense_policy("CartPole-v1", units=(4,))
    trainer = rl.PolicyGradient(policy, "CartPole-v1", "reinforce", **options)
    trainer.compile(jit_compile=False)
    return trainer


def test_predict_of_one_and_of_many():
    trainer = trained()
    many = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    actions, _ = trainer.predict(many, deterministic=True)
    assert actions.shape == (6,)
    for row, action in zip(many, actions, strict=True):
        assert trainer.predict(row, deterministic=True)[0] == action
    drawn = [int(trainer.predict(many[0])[0]) for _ in range(40)]
    assert set(drawn) == {0, 1}
    with pytest.raises(ValueError, match=r"observations of shape \(4,\).*not shape \(3,\)"):
        trainer.predict(many[0, :3])
    with pytest.raises(TypeError, match=r"has no \['batch_size'\]"):
        trainer.predict(many, batch_size=2)


def test_evaluation_keeps_the_best(tmp_path):
    # Returns of the episodes are 1, 6, 3 whatever the policy does: they get better, then worse.
    lengths = (1, 3, 2)
    trainer = rl.PolicyGradient(
        rl.dense_policy(lambda: Counter(lengths), units=(4,)), lambda: Counter(lengths), "reinforce"
    )
    trainer.compile(jit_compile=False)
    evaluate = rl.Evaluate(frequency=2, n_episodes=1, path=tmp_path / "best.keras")
    history = trainer.fit(12, callbacks=[evaluate], verbose=0)
    found = [mean for mean, _ in evaluate.returns.values()]
    assert found[:3] == [1.0, 6.0, 3.0]
    assert evaluate.best == 6.0
    logged = history.history["evaluation_return"]
    assert np.isnan(logged[0])
    assert logged[1:6] == [1.0, 1.0, 6.0, 6.0, 3.0]
    best_frames = list(evaluate.returns)[1]
    again = rl.load(tmp_path / "best.keras", env=lambda: Counter(lengths))
    assert again.frames == best_frames


def test_evaluation_changes_nothing():
    """Weights are those of training without it."""
    weights = []
    for callbacks in ([], [rl.Evaluate(frequency=1, n_episodes=1, seed=0)]):
        keras.utils.set_random_seed(0)
        trainer = trained()
        trainer.fit(60, callbacks=callbacks, seed=0, verbose=0)
        weights.append(trainer.policy.get_weights())
    for first, second in zip(*weights, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-6)


@pytest.mark.parametrize("argument", ["frequency", "n_episodes"])
def test_numbers_of_evaluations(argument):
    with pytest.raises(ValueError, match=f"`{argument}` must be at least 1"):
        rl.Evaluate(**{argument: 0})


def test_evaluation_of_another_model():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(TypeError, match="Evaluate is for a"):
        model.fit(np.ones((2, 1)), np.ones(2), callbacks=[rl.Evaluate()], verbose=0)


def test_episodes_are_written_down(tmp_path):
    lengths = (1, 3, 2)
    trainer = rl.PolicyGradient(
        rl.dense_policy(lambda: Counter(lengths), units=(4,)), lambda: Counter(lengths), "reinforce"
    )
    trainer.compile(jit_compile=False)
    path = tmp_path / "logs" / "monitor.csv"
    trainer.fit(6, callbacks=[rl.EpisodeLog(path)], verbose=0)
    trainer.fit(4, callbacks=[rl.EpisodeLog(path)], verbose=0)  # goes on
    header, columns, *rows = path.read_text().splitlines()
    assert set(json.loads(header[1:])) == {"t_start", "env_id"}
    assert columns == "r,l,t"
    found = [tuple(float(x) for x in row.split(",")) for row in rows]
    assert [(r, n) for r, n, _ in found] == list(
        zip(trainer.episode_returns, trainer.episode_lengths, strict=True)
    )
    seconds = [t for *_, t in found]
    assert sorted(seconds) == seconds
    assert seconds[0] >= 0


def test_tensorboard_shows_the_names_of_stable_baselines(tmp_path):
    trainer = rl.PolicyGradient(rl.dense_policy(Counter(), units=(4,)), Counter(), "a2c", n_steps=4)
    trainer.compile(keras.optimizers.Adam(0.02), jit_compile=False)
    log, evaluate = rl.TensorBoardLog(tmp_path, frequency=2), rl.Evaluate(2, 1)
    history = trainer.fit(40, callbacks=[evaluate, log], seed=0, verbose=0).history
    (path,) = tmp_path.glob("events*")
    found = {}
    for record in tf.data.TFRecordDataset(str(path)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = float(tf.make_ndarray(value.tensor))
    frames = history["frames"][1::2]
    assert list(found["train/value_loss"]) == frames
    for name, key, sign in [
        ("rollout/ep_rew_mean", "return", 1),
        ("train/entropy_loss", "entropy", -1),
        ("train/explained_variance", "explained_variance", 1),
        ("eval/mean_reward", "evaluation_return", 1),
    ]:
        pairs = zip(found[name].values(), history[key][1::2], strict=True)
        assert all(got == pytest.approx(sign * expected) for got, expected in pairs), name
    assert found["train/learning_rate"][frames[0]] == pytest.approx(0.02)
    assert all(speed > 0 for speed in found["time/fps"].values())
    with pytest.raises(ValueError, match="`frequency` must be at least 1"):
        rl.TensorBoardLog(tmp_path, 0)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(TypeError, match=r"TensorBoardLog is for a tf_relax\.rl\.Pol"):
        model.fit(np.ones((1, 1)), np.ones((1, 1)), callbacks=[log], verbose=0)
