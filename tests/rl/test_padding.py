"""Rows that are no steps change nothing, whatever policy and value make of them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.rl.envs import Counter, trainer
from tf_relax import rl
from tf_relax._src.rl.world.rollout import filled


class Log(keras.layers.Layer):
    """Not finite at zero, nor is its derivative."""

    def call(self, x):
        return tf.math.log(x)


class Positive(Counter):
    """Observations are positive as long as an episode lasts, and 0 where it has ended."""

    def _observe(self):
        observation = super()._observe()
        over = self.step_number >= self.lengths[(self.episode - 1) % len(self.lengths)]
        return np.zeros(2, np.float32) if over else observation + 1


def network(outputs, first=Log):
    return keras.Sequential([keras.Input((2,)), first(), keras.layers.Dense(outputs)])


REGIONS = {
    "none": lambda: None,
    "clip": lambda: rl.Clip(epochs=2),
    "kl": lambda: rl.KLPenalty(steps=2),
    "natural": lambda: rl.NaturalGradient(),
}
CASES = [
    *[("a2c", region, {"n_episodes": 2}) for region in REGIONS],
    ("a2c", "none", {"n_steps": 9}),  # with rows in which the environment resets itself
    ("reinforce", "none", {"n_episodes": 2}),
    ("relax", "none", {"n_episodes": 2}),
    (rl.PolicyRelax(coupled=False, trajectory_wise=True), "none", {"n_episodes": 2}),
    (rl.PolicyRelax(off_policy=rl.OffPolicy(updates=2)), "none", {"n_episodes": 2}),
]


@pytest.mark.parametrize(("estimator", "region", "amount"), CASES, ids=str)
def test_networks_that_are_not_finite_at_zero(estimator, region, amount):
    value = {} if estimator == "reinforce" else {"value": network(1)}
    if estimator not in ("a2c", "reinforce"):
        value["surrogate"] = rl.LinearAdvantage((4,))
    made = rl.PolicyGradient(
        network(2), Positive((3, 5)), estimator, trust_region=REGIONS[region](), **value, **amount
    )
    made.compile(keras.optimizers.SGD(0.01), jit_compile=False)
    before = made.get_weights()
    history = made.fit(16, seed=0, verbose=0).history
    assert np.isfinite(history["kl"]).all()
    assert all(np.isfinite(x).all() for x in made.get_weights())
    assert any(not np.array_equal(x, y) for x, y in zip(before, made.get_weights(), strict=True))


def test_rows_are_filled_with_steps_in_turn():
    raw, _ = trainer(Counter((2, 3)), n_episodes=2)._collector().collect(0)
    full = filled(raw)
    seen = full.observations[raw.mask == 0]
    steps = {tuple(x) for x in raw.observations[raw.mask > 0]}
    assert len(steps) == 5
    counts = [np.sum((seen == step).all(axis=1)) for step in steps]
    assert sum(counts) == len(seen)
    assert max(counts) - min(counts) <= 1
    np.testing.assert_array_equal(full.observations[raw.mask > 0], raw.observations[raw.mask > 0])
    assert not full.rewards[raw.mask == 0].any()
    # Nothing is asked about what comes after the end.
    ends = raw.terminated > 0
    np.testing.assert_array_equal(full.successors[ends], raw.observations[ends])


class Counts(keras.optimizers.SGD):
    """Counts its steps, and those that had nothing to go on."""

    def __init__(self, learning_rate=1e-4, **options):
        super().__init__(learning_rate, **options)
        self.empty = tf.Variable(0)

    def apply(self, grads, trainable_variables=None):
        grads = list(grads)
        size = tf.add_n([tf.reduce_sum(tf.abs(g)) for g in grads])
        self.empty.assign_add(tf.cast(size == 0, tf.int32))
        super().apply(grads, trainable_variables)


@pytest.mark.parametrize(
    ("lengths", "minibatches", "steps"),
    [((20, 30), 4, 4), ((2,), 4, 4), ((1,), 4, 2), ((3, 4), 1, 1)],
)
def test_clip_takes_no_step_on_padding(lengths, minibatches, steps):
    """Episodes are padded to 64 rows or more: their steps are dealt out to all minibatches."""
    optimizer = Counts()
    made = trainer(
        Counter(lengths),
        n_episodes=2,
        trust_region=rl.Clip(epochs=3, minibatches=minibatches, normalize=False),
        value=rl.dense_value((2,), units=(4,)),
    )
    made.compile(optimizer, "sgd", entropy_weight=0.0, jit_compile=False)
    made.value.layers[-1].bias.assign([0.5])  # no advantage is 0
    made.fit(1, seed=0, verbose=0)
    assert int(optimizer.iterations) == 3 * steps
    assert int(optimizer.empty) == 0


@pytest.mark.parametrize("normalize", [False, True])
def test_clip_moves_as_far_with_padding_as_without(normalize):
    """The same steps, once as episodes in 64 rows each and once in a column without any."""
    made = trainer(
        Counter((20, 30)),
        n_episodes=2,
        trust_region=rl.Clip(epochs=1, minibatches=1, normalize=normalize),
        value=rl.dense_value((2,), units=(4,)),
    )
    made.compile("adam", keras.optimizers.SGD(0.0), jit_compile=False)
    raw, _ = made._collector().collect(0)
    start = made.policy.get_weights()
    steps = raw.mask.T > 0
    packed = type(raw)(*[np.swapaxes(x, 0, 1)[steps][:, np.newaxis] for x in raw.rows])
    found = []
    for rollout in (raw, packed):
        made.policy.set_weights(start)
        made.value.layers[-1].bias.assign([0.5])
        made.compile("adam", keras.optimizers.SGD(0.0), jit_compile=False)
        made.learn(rollout)
        found.append(made.policy.get_weights())
    for x, y in zip(*found, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
