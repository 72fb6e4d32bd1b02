"""Numbers that callbacks set reach the compiled update; what cannot be changed says so."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.rl.envs import Counter, trainer
from tf_relax import rl

REGIONS = {
    "clip": lambda: rl.Clip(epsilon=0.2, epochs=2, minibatches=1),
    "kl": lambda: rl.KLPenalty(target=0.01, steps=2),
    "natural": lambda: rl.NaturalGradient(0.01, damping=0.1),
}
# Region, number, before, after.
NUMBERS = [
    (None, "gamma", 0.99, 0.3),
    (None, "gae_lambda", 0.95, 0.1),
    (None, "gae_lambda", None, 0.1),
    (None, "gae_lambda", 0.1, None),
    (None, "entropy_weight", 0.01, 3.0),
    (None, "value_steps", 1, 4),
    ("clip", "entropy_weight", 0.01, 3.0),
    ("clip", "epsilon", 0.2, 1e-4),
    ("clip", "epochs", 2, 5),
    ("kl", "steps", 2, 4),
    ("kl", "target", 0.01, 1e-6),
    ("natural", "max_kl", 0.01, 1e-4),
    ("natural", "damping", 0.1, 10.0),
]


def made_with(region, name, value, jit_compile=False):
    """A trainer whose number is `value` from the start."""
    keras.utils.set_random_seed(0)
    region = REGIONS[region]() if region else None
    own = {} if name in ("entropy_weight", "value_steps") or region else {name: value}
    made = trainer(
        Counter((5, 3)), n_steps=12, trust_region=region, value=rl.dense_value((2,), (4,)), **own
    )
    made.compile(
        keras.optimizers.SGD(0.1),
        entropy_weight=value if name == "entropy_weight" else 0.01,
        value_steps=value if name == "value_steps" else 1,
        jit_compile=jit_compile,
    )
    if region is not None and hasattr(region, name):
        setattr(region, name, value)
    return made


def two_updates(made, change=None):
    raw, _ = made._collector().collect(0)
    made.learn(raw)
    if change:
        change()
    start = made.get_weights()
    made.learn(raw)
    return start, made.get_weights()


def assert_equal(one, other):
    for x, y in zip(one, other, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("region", "name", "before", "after"), NUMBERS)
def test_a_change_is_that_of_a_trainer_made_with_it(region, name, before, after):
    changed = made_with(region, name, before)
    owner = changed if name in ("entropy_weight",) or region is None else changed.trust_region
    start, found = two_updates(changed, lambda: setattr(owner, name, after))
    assert getattr(owner, name) == after
    same = made_with(region, name, before)
    _, unchanged = two_updates(same)
    assert any(not np.allclose(x, y, atol=1e-7) for x, y in zip(found, unchanged, strict=True))
    # One that never knew another number, in the same place.
    fresh = made_with(region, name, after)
    raw, _ = fresh._collector().collect(0)
    fresh.set_weights(start)
    fresh.learn(raw)
    assert_equal(found, fresh.get_weights())


def test_nothing_is_compiled_again():
    made = trainer(Counter((5, 3)), n_steps=12)
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(made, "entropy_weight", 0.1 * (epoch + 1))
    )
    made.fit(50, callbacks=[watch], seed=0, verbose=0)
    assert made.updates > 3
    assert made._update[False].experimental_get_tracing_count() == 1
    assert made.get_compile_config()["entropy_weight"] == made.entropy_weight == 0.1 * made.updates


def test_under_xla():
    made = made_with("clip", "epochs", 2, jit_compile=True)
    raw, _ = made._collector().collect(0)
    iterations = []
    for epochs in (2, 5):
        made.trust_region.epochs = epochs
        before = int(made.optimizer.iterations)
        made.learn(raw)
        iterations.append(int(made.optimizer.iterations) - before)
    assert iterations == [2, 5]


@pytest.mark.parametrize(("name", "values"), [("n_steps", (4, 8)), ("n_episodes", (1, 3))])
def test_the_size_of_a_rollout_may_change(name, values):
    first, second = values
    made = trainer(Counter((100,) if name == "n_steps" else (4,)), **{name: first})
    change = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(made, name, second)
    )
    frames = made.fit(13, callbacks=[change], seed=0, verbose=0).history["frames"]
    assert frames == ([4, 12, 20] if name == "n_steps" else [4, 16])


def test_the_discount_of_normalised_rewards_follows():
    made = trainer(Counter((4,)), n_episodes=1, normalize_rewards=True)
    made.gamma = 0.0
    made.fit(4, seed=0, verbose=0)
    assert 1 / made.normalization.reward_scale == pytest.approx(np.std([1, 2, 3, 4]), rel=1e-3)


def test_tensors_and_arrays_are_numbers():
    made = trainer(Counter(), n_steps=4)
    for value in (np.float32(0.5), np.array(0.5), tf.constant(0.5), keras.ops.array(0.5)):
        made.gamma = 0.1
        made.gamma = value
        assert made.gamma == 0.5
        assert type(made.gamma) is float
