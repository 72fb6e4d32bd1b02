"""Policies of every kind: convolutions, loops, regularizers, unused variables, shared torsos."""

import gymnasium
import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.rl.envs import Counter, trainer
from tf_relax import rl

layers = keras.layers


class Frames(gymnasium.Env):
    """Shows noise of some shape; three steps to an episode."""

    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, shape=(8, 8, 1)):
        self.observation_space = gymnasium.spaces.Box(-1, 1, shape, np.float32)

    def _observe(self):
        return self.np_random.uniform(-1, 1, self.observation_space.shape).astype(np.float32)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._observe(), {}

    def step(self, action):
        self.steps += 1
        return self._observe(), float(action), self.steps == 3, False, {}


def convolutional():
    return keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(3)]
    )


def recurrent():
    return keras.Sequential([keras.Input((4, 2)), layers.LSTM(3), layers.Dense(3)])


POLICIES = {"convolutional": ((8, 8, 1), convolutional), "recurrent": ((4, 2), recurrent)}


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_several_trajectories(name, jit_compile):
    shape, make = POLICIES[name]
    made = rl.PolicyGradient(
        make(), lambda: Frames(shape), "relax", n_envs=2, surrogate=rl.LinearAdvantage((4,))
    )
    made.compile(jit_compile=jit_compile)
    history = made.fit(12, seed=0, verbose=0).history
    assert np.isfinite(history["kl"]).all()


@pytest.mark.parametrize("name", POLICIES)
def test_the_surrogate_descends_the_squared_gradient_of_each_trajectory(name, rng):
    """Against one trajectory at a time, by plain tapes."""
    shape, make = POLICIES[name]
    surrogate = rl.LinearAdvantage((4,))
    made = rl.PolicyGradient(make(), lambda: Frames(shape), "relax", n_envs=3, surrogate=surrogate)
    made.compile(jit_compile=False)
    surrogate._output.kernel.assign(rng.normal(size=surrogate._output.kernel.shape))
    raw, _ = made._collector().collect(0)
    found = made.differentiate(raw).surrogate_gradients
    variables = made.critic.trainable_variables
    total = [np.zeros(v.shape) for v in variables]
    for k in range(3):
        one = type(raw)(*[x[:3, k : k + 1] for x in raw.rows])
        for sum_, gradient in zip(total, made.differentiate(one).surrogate_gradients, strict=True):
            sum_ += np.asarray(gradient) / 3
    for gradient, expected in zip(found, total, strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "region", [rl.KLPenalty(steps=2), rl.NaturalGradient(iterations=2), rl.Clip(epochs=1)], ids=str
)
def test_trust_regions_of_recurrent_policies(region):
    made = rl.PolicyGradient(
        recurrent(), lambda: Frames((4, 2)), "a2c", n_envs=2, trust_region=region
    )
    made.compile(jit_compile=False)
    assert np.isfinite(made.fit(6, seed=0, verbose=0).history["kl"]).all()


class Spare(layers.Layer):
    """Has a weight that it does not use."""

    def build(self, shape):
        self.spare = self.add_weight(shape=(3,), name="spare")

    def call(self, x):
        return x


REGIONS = {
    "none": lambda: None,
    "clip": lambda: rl.Clip(epochs=1, minibatches=1, normalize=False),
    "kl": lambda: rl.KLPenalty(steps=2),
    "natural": lambda: rl.NaturalGradient(0.01),
}


@pytest.mark.parametrize("estimator", ["a2c", "relax"])
@pytest.mark.parametrize("region", REGIONS)
def test_a_variable_that_is_not_used(region, estimator):
    if region == "clip" and estimator == "relax":
        return
    spare = Spare()
    policy = keras.Sequential([keras.Input((2,)), spare, layers.Dense(2)])
    made = rl.PolicyGradient(
        policy, Counter((3, 4)), estimator, n_episodes=2, trust_region=REGIONS[region]()
    )
    made.compile("adam", jit_compile=False)
    before = policy.get_weights()
    with pytest.warns(UserWarning, match=r"does not depend on .*spare.*`trainable` to False"):
        made.fit(7, seed=0, verbose=0)
    after = policy.get_weights()
    np.testing.assert_array_equal(before[0], after[0])
    assert not np.array_equal(before[1], after[1])


def test_frozen_layers_stay():
    policy = keras.Sequential([keras.Input((2,)), layers.Dense(4), layers.Dense(2)])
    made = rl.PolicyGradient(policy, Counter(), "reinforce")
    policy.layers[0].trainable = False
    made.compile(jit_compile=False)
    before = policy.get_weights()
    made.fit(8, seed=0, verbose=0)
    np.testing.assert_array_equal(before[0], policy.get_weights()[0])
    assert not np.array_equal(before[2], policy.get_weights()[2])


class Quiet(layers.Layer):
    """Adds a loss of its own."""

    def call(self, x):
        self.add_loss(0.3 * tf.reduce_mean(tf.square(x)))
        return x


LOSSES = {
    "kernel": lambda: layers.Dense(2, kernel_regularizer=keras.regularizers.L2(0.5)),
    "activity": lambda: layers.Dense(2, activity_regularizer=keras.regularizers.L2(0.5)),
    "add_loss": lambda: keras.Sequential([layers.Dense(2), Quiet()]),
}


@pytest.mark.parametrize("region", ["none", "clip"])
@pytest.mark.parametrize("name", LOSSES)
def test_regularizers_of_the_policy(name, region):
    """A step of gradient descent on what Keras says that the losses are, on top of the other."""
    moved = {}
    for regularized in (False, True):
        keras.utils.set_random_seed(0)
        head = LOSSES[name]() if regularized else layers.Dense(2)
        policy = keras.Sequential([keras.Input((2,)), head])
        start = [0.3 * np.arange(4.0).reshape(2, 2), np.array([0.1, -0.2])]
        policy.set_weights(start)
        made = rl.PolicyGradient(
            policy, Counter((1000,)), "a2c", n_steps=6, trust_region=REGIONS[region]()
        )
        made.compile(keras.optimizers.SGD(0.1), jit_compile=False)
        if not regularized:
            raw, _ = made._collector().collect(0)
        made.learn(raw)
        moved[regularized] = [y - x for x, y in zip(start, policy.get_weights(), strict=True)]
        states = tf.constant(raw.observations[:, 0])
    policy.set_weights(start)
    with tf.GradientTape() as tape:
        policy(states)
        loss = tf.add_n(policy.losses)
    for x, y, slope in zip(
        moved[False], moved[True], tape.gradient(loss, policy.trainable_variables), strict=True
    ):
        slope = 0.0 if slope is None else slope
        np.testing.assert_allclose(y - x, -0.1 * np.asarray(slope), rtol=1e-3, atol=1e-6)


def test_regularizers_of_value_and_surrogate():
    """With nothing else to learn, weights decay."""
    strong = keras.regularizers.L2(1.0)
    action, state = keras.Input((2,)), keras.Input((2,))
    joined = layers.Concatenate()([action, state])
    surrogate = keras.Model(
        [action, state], layers.Dense(1, kernel_regularizer=strong, use_bias=False)(joined)
    )
    value = keras.Sequential(
        [keras.Input((2,)), layers.Dense(1, kernel_regularizer=strong, use_bias=False)]
    )
    made = trainer(Counter((1,)), "relax", value=value, surrogate=surrogate, n_episodes=4)
    made.compile(keras.optimizers.SGD(0.0), jit_compile=False)
    raw, _ = made._collector().collect(0)
    raw = raw._replace(rewards=np.zeros_like(raw.rewards))
    evidence = made.differentiate(raw)
    (kernel,) = value.trainable_variables
    weights = (raw.mask / raw.mask.sum())[..., np.newaxis]
    states = raw.observations
    slope = np.einsum("tci,tcj->ij", 2 * weights * states, states @ kernel.numpy())
    np.testing.assert_allclose(evidence.value_gradients[0], slope + 2 * kernel.numpy(), rtol=1e-4)
    found = made.differentiate(raw, tf.constant(raw.noise)).surrogate_gradients[-1]
    (c,) = surrogate.trainable_variables
    surrogate.layers[-1].kernel_regularizer = None
    c.regularizer = None
    plain = made.differentiate(raw, tf.constant(raw.noise)).surrogate_gradients[-1]
    np.testing.assert_allclose(found - plain, 2 * c.numpy(), rtol=1e-3, atol=1e-5)


def torso(shared=True):
    """A policy and a value on one torso."""
    observations = keras.Input((2,))
    features = layers.Dense(4, "tanh", name="torso")(observations)
    policy = keras.Model(observations, layers.Dense(2, name="actor")(features), name="policy")
    value = keras.Model(observations, layers.Dense(1, name="critic")(features), name="value")
    return policy, value


def torso_trainer(region="none", value_weight=0.5, **arguments):
    keras.utils.set_random_seed(0)
    policy, value = torso()
    made = rl.PolicyGradient(
        policy, Counter((9, 5)), "a2c", value=value, trust_region=REGIONS[region](), **arguments
    )
    made.compile(keras.optimizers.SGD(0.1), "sgd", value_weight=value_weight, jit_compile=False)
    return made


@pytest.mark.parametrize("amount", [{"n_steps": 8}, {"n_episodes": 2}], ids=str)
@pytest.mark.parametrize("region", ["none", "clip"])
def test_a_shared_torso_descends_the_sum_of_both(region, amount):
    """``-objective + value_weight * squared error``, by plain Keras models and one tape."""
    made = torso_trainer(region, value_weight=0.7, **amount)
    policy, value = made.policy, made.value
    raw, _ = made._collector().collect(0)
    counts = raw.mask > 0
    returns = made.differentiate(raw).returns.numpy()[counts]
    states, actions = raw.observations[counts], raw.actions[counts]
    divisor = raw.mask.size if "n_steps" in amount else raw.mask.shape[1]
    if region == "clip":
        divisor = counts.sum()  # a mean over steps, as in PPO
    with tf.GradientTape() as tape:
        log_pi = tf.nn.log_softmax(policy(states))
        chosen = tf.reduce_sum(log_pi * actions, axis=-1)
        v = value(states)[:, 0]
        entropy = -tf.reduce_sum(tf.exp(log_pi) * log_pi, axis=-1)
        advantage = returns - tf.stop_gradient(v)
        each = -chosen * advantage - 0.01 * entropy + 0.7 * tf.square(returns - v)
        loss = tf.reduce_sum(each) / divisor
    expected = tape.gradient(loss, policy.trainable_variables)
    before = policy.get_weights()
    head = value.get_layer("critic").get_weights()
    logs = made.learn(raw)
    for old, new, slope in zip(before, policy.get_weights(), expected, strict=True):
        np.testing.assert_allclose(new - old, -0.1 * slope, rtol=1e-3, atol=1e-5)
    assert not np.array_equal(head[0], value.get_layer("critic").get_weights()[0])
    # What moved the policy is what is logged: nothing moves it afterwards.
    old_pi, new_pi = [], []
    after = policy.get_weights()
    for weights, into in ((before, old_pi), (after, new_pi)):
        policy.set_weights(weights)
        into.append(tf.nn.log_softmax(policy(states)).numpy())
    kl = np.sum(np.exp(old_pi[0]) * (old_pi[0] - new_pi[0]), axis=-1).mean()
    assert kl > 0
    assert logs["kl"] == pytest.approx(kl, rel=1e-2)


def test_the_value_s_optimizer_leaves_a_shared_torso_alone():
    made = torso_trainer(n_steps=8)
    made.compile(
        keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.1), value_steps=3, jit_compile=False
    )
    before = made.policy.get_weights()
    made.fit(16, seed=0, verbose=0)
    for x, y in zip(before, made.policy.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_shared_torso_is_still_shared_after_loading(tmp_path):
    made = torso_trainer("kl", n_steps=8)
    made.fit(16, seed=0, verbose=0)
    made.save(tmp_path / "trainer.keras")
    loaded = rl.load(tmp_path / "trainer.keras", env=Counter((9, 5)))
    assert len(loaded.shared_variables) == len(made.shared_variables) == 2
    for x, y in zip(made.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)
    raw, _ = made._collector().collect(0)
    for each in (made, loaded):
        each.learn(raw)
    for x, y in zip(made.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-7)
