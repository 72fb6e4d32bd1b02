"""A trainer that was saved goes on as if nothing had happened."""

import json
import subprocess
import sys

import gymnasium
import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.rl.envs import Counter, trainer
from tf_relax import rl, surrogates

OPTIMIZERS = ("optimizer", "value_optimizer", "surrogate_optimizer")

# Loads a trainer, evaluates it, makes one update from a rollout, and writes all there is down.
CONTINUE = """
import sys
import keras, numpy as np
import tf_relax
from tf_relax._src.rl.world.rollout import Rollout
folder = sys.argv[1]
trainer = keras.models.load_model(f"{folder}/trainer.keras")
found = {"evaluation": trainer.evaluate(2, seed=0)}
rollout = np.load(f"{folder}/rollout.npz")
found["logs"] = list(trainer.learn(Rollout(**rollout)).values())
variables = [*trainer.variables, *trainer.optimizer.variables]
found |= {f"variable_{k}": x.numpy() for k, x in enumerate(variables)}
np.savez(f"{folder}/found.npz", **found)
"""


def everything(made):
    """All numbers that training changes."""
    optimizers = [getattr(made, name) for name in OPTIMIZERS]
    variables = [*made.variables, *(x for optimizer in optimizers for x in optimizer.variables)]
    counts = [made.frames, made.updates, list(made.episode_returns), list(made.episode_lengths)]
    return [x.numpy() for x in variables] + list(made.normalization.state().values()) + counts


def assert_same(one, other):
    for x, y in zip(everything(one), everything(other), strict=True):
        np.testing.assert_array_equal(x, y)


def test_in_a_fresh_process(tmp_path):
    made = trainer(
        "CartPole-v1",
        "relax",
        value=rl.dense_value((4,), units=(8,)),
        trust_region=rl.KLPenalty(steps=2),
        normalize_observations=True,
        normalize_rewards=True,
    )
    made.fit(30, seed=0, verbose=0)
    rollout, _ = made._collector().collect()
    np.savez(tmp_path / "rollout.npz", **rollout._asdict())
    made.save(tmp_path / "trainer.keras")
    subprocess.run([sys.executable, "-c", CONTINUE, str(tmp_path)], check=True, timeout=120)
    with np.load(tmp_path / "found.npz") as found:
        assert made.evaluate(2, seed=0) == tuple(found["evaluation"])
        logs = list(made.learn(rollout).values())
        np.testing.assert_allclose(found["logs"], logs, rtol=1e-5, atol=1e-6)
        for k, x in enumerate([*made.variables, *made.optimizer.variables]):
            np.testing.assert_allclose(found[f"variable_{k}"], x.numpy(), rtol=1e-6, atol=1e-7)


def mine():
    """A surrogate of the user's own."""
    action, state = keras.Input((2,)), keras.Input((4,))
    joined = keras.layers.Concatenate()([action, state])
    return keras.Model([action, state], keras.layers.Dense(1)(joined))


TRAINERS = {
    "clip": (
        "CartPole-v1",
        {"n_steps": 8, "n_envs": 2, "trust_region": rl.Clip, "gae_lambda": 0.9},
    ),
    "off-policy": (
        "CartPole-v1",
        {"estimator": lambda: rl.PolicyRelax(coupled=False, off_policy=rl.OffPolicy(updates=2))},
    ),
    "keras model": ("CartPole-v1", {"estimator": "relax", "surrogate": mine}),
    "surrogate": (
        "CartPole-v1",
        {
            "estimator": lambda: rl.PolicyRelax(trajectory_wise=True),
            "surrogate": lambda: rl.LinearAdvantage((4,)),
        },
    ),
    "lax": (
        lambda: gymnasium.make("Pendulum-v1", max_episode_steps=6).spec,
        {
            "estimator": "lax",
            "trust_region": rl.NaturalGradient,
            "surrogate": lambda: surrogates.Network(units=(4,), looks_at=("context",)),
        },
    ),
}


@pytest.mark.parametrize("case", TRAINERS)
def test_everything_is_saved(case, tmp_path):
    env, arguments = TRAINERS[case]
    env = env() if callable(env) else env
    made = trainer(env, **{name: x() if callable(x) else x for name, x in arguments.items()})
    made.compile(
        "adam", keras.optimizers.SGD(0.01), "rmsprop", 0.05, value_steps=3, jit_compile=False
    )
    made.fit(16, seed=0, verbose=0)
    made.save(tmp_path / "trainer.keras")
    loaded = rl.load(tmp_path / "trainer.keras")
    assert_same(made, loaded)
    one, other = made.get_config(), loaded.get_config()
    assert json.dumps(one)
    for name in set(one) - {"policy", "value", "surrogate"}:  # whose layers get new numbers
        assert one[name] == other[name]
    assert loaded.get_compile_config() == made.get_compile_config()
    assert (loaded.entropy_weight, loaded.value_steps, loaded.jit_compile) == (0.05, 3, False)
    kinds = [type(getattr(loaded, name)).__name__ for name in OPTIMIZERS]
    assert kinds == ["Adam", "SGD", "RMSprop"]

    rollout, _ = made._collector().collect(0)
    loaded.noise_seeds.state.assign(made.noise_seeds.state)
    for one in (made, loaded):
        if one.memory is not None:
            one.memory = None  # which is not saved
        one.learn(rollout)
    assert_same(made, loaded)
    frames = loaded.frames
    loaded.fit(4, verbose=0)
    assert loaded.frames >= frames + 4


def test_without_compiling(tmp_path):
    made = trainer("CartPole-v1", "reinforce", compiled=False)
    made.save(tmp_path / "trainer.keras")
    loaded = rl.load(tmp_path / "trainer.keras")
    assert not loaded.compiled
    np.testing.assert_array_equal(loaded(np.ones((1, 4))), made(np.ones((1, 4))))


SPECIFIED = {
    "arguments": lambda: gymnasium.make("CartPole-v1", max_episode_steps=7),
    "wrappers": lambda: gymnasium.wrappers.TimeAwareObservation(gymnasium.make("CartPole-v1")),
    "vector": lambda: gymnasium.make_vec("CartPole-v1", 3, "sync", max_episode_steps=7),
    "factory": lambda: lambda: gymnasium.make("CartPole-v1", max_episode_steps=7),
}


@pytest.mark.parametrize("case", SPECIFIED)
def test_environments_that_have_a_specification(case, tmp_path):
    made = trainer(SPECIFIED[case](), "reinforce", compiled=False)
    made.save(tmp_path / "trainer.keras")
    loaded = keras.models.load_model(tmp_path / "trainer.keras")
    assert loaded.environments.n_envs == made.environments.n_envs
    assert loaded.environments.observation_shape == made.environments.observation_shape
    assert loaded.environments.vector.envs[0].spec == made.environments.vector.envs[0].spec
    assert loaded.environments.vector.envs[0].spec.max_episode_steps in (7, 500)


UNSPECIFIED = {
    "instance": (Counter, "Counter"),
    "arguments": (
        lambda: gymnasium.make("CartPole-v1", sutton_barto_reward=len),
        "'CartPole-v1'",
    ),
    "wrappers": (
        lambda: gymnasium.wrappers.TransformReward(gymnasium.make("CartPole-v1"), lambda r: 2 * r),
        "'CartPole-v1'",
    ),
    "vector wrappers": (
        lambda: gymnasium.wrappers.vector.RescaleObservation(
            gymnasium.make_vec("Acrobot-v1", 2, "sync"), np.float32(0), np.float32(1)
        ),
        "'Acrobot-v1'",
    ),
    "different ones": (
        lambda: gymnasium.vector.SyncVectorEnv(
            [
                lambda: gymnasium.make("CartPole-v1", max_episode_steps=5),
                lambda: gymnasium.make("CartPole-v1", max_episode_steps=6),
            ]
        ),
        "'CartPole-v1'",
    ),
}


@pytest.mark.parametrize("case", UNSPECIFIED)
def test_environments_that_cannot_be_saved_are_asked_for(case, tmp_path):
    make, name = UNSPECIFIED[case]
    env = make()
    made = trainer(env, "reinforce", compiled=False)
    made.save(tmp_path / "trainer.keras")
    for load in (keras.models.load_model, rl.load):
        with pytest.raises(ValueError, match=rf"{name} could not be saved .*rl.load\(path, env="):
            load(tmp_path / "trainer.keras")
    loaded = rl.load(tmp_path / "trainer.keras", env=env)
    assert loaded.environments.n_envs == made.environments.n_envs
    # What was given serves one call, not later ones.
    with pytest.raises(ValueError, match="could not be saved"):
        rl.load(tmp_path / "trainer.keras")


def test_predict_and_export_follow_the_statistics(tmp_path, rng):
    made = trainer("CartPole-v1", "reinforce", normalize_observations=True)
    observations = rng.normal(size=(3, 4)).astype(np.float32)
    for attempt in range(2):
        made.fit(20, seed=attempt, verbose=0)
        expected = made.logits(made.normalization(observations)).numpy()
        assert not np.allclose(expected, made.logits(observations))
        np.testing.assert_allclose(made(observations), expected, rtol=1e-5)
        actions, _ = made.predict(observations, deterministic=True)
        np.testing.assert_array_equal(actions, expected.argmax(axis=1))
    made.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    np.testing.assert_allclose(served.serve(observations), expected, rtol=1e-5, atol=1e-6)
    assert served.serve(observations[:1]).shape == (1, 2)
