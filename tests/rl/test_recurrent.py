"""Policies that remember: carried through roll-outs, unrolled in updates, in expectation exact."""

import gymnasium
import keras
import numpy as np
import pytest
import tensorflow as tf
from gymnasium.spaces import Box, Discrete

from tests.rl.envs import MODES, Counter, side_by_side
from tests.rl.small_mdp import HORIZON, Small, list_all, trajectories
from tf_relax import rl, surrogates

ROUNDING = 3e-5


class Cue(gymnasium.Env):
    """Shows a sign in the first of four steps; the last action has to repeat it."""

    action_space = Discrete(2)
    observation_space = Box(-1, 1, (2,))

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.sign, self.steps = int(self.np_random.integers(2)), 0
        return np.float32([2 * self.sign - 1, 0]), {}

    def step(self, action):
        self.steps += 1
        over = self.steps == 4
        reward = float(action == self.sign) if over else 0.0
        return np.float32([0, self.steps / 4]), reward, over, False, {}


def make(env, estimator="a2c", cell="gru", units=3, value=True, seed=0, **arguments):
    """A trainer whose every weight is of size 1."""
    policy = rl.recurrent_policy(arguments.pop("policy_env", env), units, cell)
    size = policy.inputs[0].shape[1:]
    critic = rl.recurrent_value(size, 2, "lstm") if value else None
    trainer = rl.PolicyGradient(policy, env, estimator, value=critic, **arguments)
    trainer.compile(keras.optimizers.SGD(0.1), entropy_weight=0.0, jit_compile=False)
    rng = np.random.default_rng(seed)
    for model in (policy, critic, trainer.critic and trainer.critic.surrogate):
        for variable in model.trainable_variables if model is not None else []:
            variable.assign(rng.normal(size=variable.shape))
    return trainer


def network():
    return surrogates.Network(units=(4,), activation="tanh", looks_at=("context",))


KINDS = {
    "reinforce": lambda: {"estimator": "reinforce", "value": False},
    "a2c": lambda: {"estimator": "a2c"},
    "a2c_lstm": lambda: {"estimator": "a2c", "cell": "lstm"},
    "relax": lambda: {"estimator": "relax", "value": False, "surrogate": network()},
    "relax_value": lambda: {
        "estimator": rl.PolicyRelax(coupled=False, trajectory_wise=True),
        "surrogate": network(),
    },
}


def along(trainer, path):
    """Logits of every step of a path, one call of the policy after the other."""
    memory = [tf.zeros((1, *x.shape[1:])) for x in trainer.policy.inputs[1:]]
    every = []
    for s, _, _, _ in path:
        logits, *memory = trainer.policy([tf.one_hot([s], 2), *memory])
        every.append(logits[0])
    return tf.stack(every)


@pytest.mark.parametrize("name", KINDS)
def test_expectation_is_the_derivative_of_the_return(name, rng):
    """All trajectories, and all noise behind them, against a policy that is called step by step."""
    trainer = make(Small("choice"), gamma=1.0, **KINDS[name]())
    variables = trainer.policy.trainable_variables
    with tf.GradientTape() as tape:
        total = tf.constant(0.0, tf.float64)
        for p, path in trajectories():
            log_pi = tf.nn.log_softmax(tf.cast(along(trainer, path), tf.float64))
            taken = [log_pi[t, a] for t, (_, a, _, _) in enumerate(path)]
            total += p * tf.exp(tf.add_n(taken)) * sum(r for _, _, r, _ in path)
    truth = tape.gradient(total, variables)
    assert max(np.abs(x).max() for x in truth) > 0.1

    def odds(path):
        logits = along(trainer, path).numpy().astype(float)
        return logits[:, 1] - logits[:, 0]

    listed = list_all(trainer, rng, nodes=32, odds_along=odds)

    @tf.function(autograph=False)
    def differentiate():
        found = trainer.differentiate(listed.rollout, tf.constant(listed.noise, tf.float32))
        return found.logit_gradients, found.gradients

    g, gradients = differentiate()
    weights = tf.reshape(tf.constant(listed.weights, tf.float32), [-1, 1])
    rollout = type(listed.rollout)(*[tf.constant(x) for x in listed.rollout.rows])
    with tf.GradientTape() as tape:
        logits = trainer.unrolled_logits(trainer.seen(rollout))
    found = tape.gradient(logits, variables, output_gradients=g * weights)
    for x, y in zip(found, truth, strict=True):
        np.testing.assert_allclose(x, y, atol=ROUNDING * HORIZON)
    # What the optimizer gets is the same, every column counting alike.
    count = listed.weights.shape[1]
    with tf.GradientTape() as tape:
        logits = trainer.unrolled_logits(trainer.seen(rollout))
    alike = tape.gradient(logits, variables, output_gradients=-g / count)
    for x, y in zip(gradients, alike, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("truncates", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_updates_see_what_the_policy_remembered(mode, truncates):
    """The recorded noise, with the memory unrolled, makes the recorded actions again."""
    makers = [lambda k=k: Counter((k, 5), truncates) for k in (2, 3)]
    trainer = make(side_by_side(makers, mode), policy_env=Counter(), n_steps=7, cell="lstm")
    collector = trainer._collector()
    for k in range(3):
        rollout, _ = collector.collect(0 if k == 0 else None)
        assert any(state.any() for state in rollout.memory) == (k > 0)
        tensors = type(rollout)(*rollout.rows, tuple(map(tf.constant, rollout.memory)))
        seen = trainer.seen(tensors)
        logits = trainer.unrolled_logits(seen)
        relaxation, counts = trainer.action_space.relaxation, rollout.mask.ravel() > 0
        again = relaxation.sample(logits, rollout.noise.reshape(logits.shape)).b.numpy()
        np.testing.assert_array_equal(again[counts], rollout.actions.reshape(again.shape)[counts])
        # What is worth what comes next is what is found there, as long as an episode goes on.
        now, after = trainer.unrolled_values(seen, tf.constant(rollout.successors))
        now, after = [x.numpy().reshape(rollout.mask.shape) for x in (now, after)]
        goes_on = (rollout.mask * (1 - rollout.done))[:-1] > 0
        np.testing.assert_allclose(now[1:][goes_on], after[:-1][goes_on], rtol=1e-5, atol=1e-6)
        assert goes_on.any()
        assert not goes_on.all()


def test_whole_episodes_begin_with_nothing_remembered():
    trainer = make(lambda: Counter((3, 2)), n_episodes=4, n_envs=2)
    collector = trainer._collector()
    for _ in range(2):
        rollout, _ = collector.collect(0)
        assert not any(state.any() for state in rollout.memory)
        tensors = type(rollout)(*rollout.rows, tuple(map(tf.constant, rollout.memory)))
        logits = trainer.unrolled_logits(trainer.seen(tensors))
        noise = rollout.noise.reshape(logits.shape)
        again = trainer.action_space.relaxation.sample(logits, noise).b.numpy()
        counts = rollout.mask.ravel() > 0
        np.testing.assert_array_equal(again[counts], rollout.actions.reshape(again.shape)[counts])


REGIONS = {
    "none": lambda: None,
    "penalty": lambda: rl.KLPenalty(steps=2),
    "natural": lambda: rl.NaturalGradient(0.02),
}


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_step_can_be_taken(region, jit):
    options = KINDS["relax_value"]()
    trainer = make(Small("choice"), trust_region=REGIONS[region](), **options)
    trainer.compile("sgd", jit_compile=jit, value_steps=2)
    before = [v.numpy() for v in trainer.policy.trainable_variables]
    history = trainer.fit(8, seed=0, verbose=0).history
    assert np.isfinite(history["kl"]).all()
    assert max(history["kl"]) > 0
    after = [v.numpy() for v in trainer.policy.trainable_variables]
    assert all((new != old).any() for new, old in zip(after, before, strict=True))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_it_learns_what_only_a_memory_can_know(cell):
    keras.utils.set_random_seed(1)
    trainer = rl.PolicyGradient(
        rl.recurrent_policy(Cue(), 16, cell),
        Cue,
        n_steps=32,
        n_envs=8,
        trust_region=rl.NaturalGradient(0.05),
    )
    assert len(trainer.value.inputs) == 2  # recurrent as well
    trainer.compile(
        value_optimizer=keras.optimizers.Adam(0.01), value_steps=5, entropy_weight=0.0,
        jit_compile=False,
    )  # fmt: skip
    trainer.fit(256 * 40, seed=1, verbose=0)
    assert trainer.evaluate(40, seed=0)[0] > 0.95
    # Whoever forgets between steps knows nothing; who hands on the state does.
    right = 0
    for sign in (0, 1):
        state, action = None, None
        for t in range(4):
            seen = [2 * sign - 1, 0] if t == 0 else [0, t / 4]
            action, state = trainer.predict(seen, state, deterministic=True)
        right += int(action == sign)
    assert right == 2


def test_predict_hands_on_and_forgets_what_was_remembered():
    trainer = make(Counter(), cell="lstm")
    x = np.float32([[0.3, -1.0], [1.0, 2.0]])
    _, first = trainer.predict(x, deterministic=True)
    assert [state.shape for state in first] == [(2, 3), (2, 3)]
    _, second = trainer.predict(x, first, deterministic=True)
    _, again = trainer.predict(x, first, episode_start=[True, False], deterministic=True)
    np.testing.assert_allclose(again[0][0], first[0][0], rtol=1e-6)
    np.testing.assert_allclose(again[0][1], second[0][1], rtol=1e-6)
    assert np.abs(first[0] - second[0]).max() > 1e-2
    logits, *states = trainer([x, *first])
    expected, *_ = trainer.policy([x, *first])
    np.testing.assert_allclose(logits, expected)
    np.testing.assert_allclose(states[0], second[0], rtol=1e-6)


def stacked():
    return keras.layers.StackedRNNCells([keras.layers.LSTMCell(4), keras.layers.GRUCell(3)])


@pytest.mark.parametrize("cell", [lambda: "lstm", stacked], ids=["lstm", "stacked"])
def test_files_and_saved_models(cell, tmp_path):
    trainer = make("CartPole-v1", cell=cell(), normalize_observations=True, n_steps=8)
    trainer.fit(16, seed=0, verbose=0)
    trainer.save(tmp_path / "trainer.keras")
    again = rl.load(tmp_path / "trainer.keras")
    x = np.float32([[0.1, 0.2, -0.1, 0.4]])
    _, state = trainer.predict(x, deterministic=True)
    for ours, theirs in zip(trainer([x, *state]), again([x, *state]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    again.fit(16, verbose=0)
    trainer.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    for ours, theirs in zip(trainer([x, *state]), served.serve([x, *state]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def other_states():
    x, state = keras.Input((4,)), keras.Input((3,))
    both = keras.layers.Concatenate()([x, state])
    wrong = keras.layers.Dense(5)(both)
    return keras.Model([x, state], [keras.layers.Dense(2)(both), wrong])


def two_observations():
    x, y = keras.Input((4,)), keras.Input((4,))
    return keras.Model([x, y], keras.layers.Dense(2)(keras.layers.Add()([x, y])))


ERRORS = {
    "clip": (
        lambda: make("CartPole-v1", trust_region=rl.Clip()),
        "Clip shuffles steps, and the recurrent model 'policy' .*KLPenalty",
    ),
    "off_policy": (
        lambda: make("CartPole-v1", rl.PolicyRelax(off_policy=rl.OffPolicy())),
        "OffPolicy remembers single steps, without .*'policy'",
    ),
    "off_policy value": (
        lambda: rl.PolicyGradient(
            rl.dense_policy("CartPole-v1"),
            "CartPole-v1",
            rl.PolicyRelax(off_policy=rl.OffPolicy()),
            value=rl.recurrent_value((4,)),
        ),
        "OffPolicy remembers single steps, without .*recurrent model 'value'",
    ),
    "states": (
        lambda: rl.PolicyGradient(other_states(), "CartPole-v1"),
        r"has 2 inputs: .*go in with shapes \[\(3,\)\] and come out with \[\(5,\)\]",
    ),
    "inputs": (
        lambda: rl.PolicyGradient(two_observations(), "CartPole-v1"),
        r"\[observations, \*states\] .*Observations of several parts are flattened",
    ),
    "action": (
        lambda: make("CartPole-v1").action(np.zeros((1, 4))),
        r"'policy' .* is recurrent, and `action` .*use predict",
    ),
    "log_prob": (
        lambda: make("CartPole-v1").log_prob(np.zeros((1, 4)), [0]),
        r"is recurrent, and `log_prob`",
    ),
    "cell": (lambda: rl.recurrent_policy("CartPole-v1", cell="rnn"), "`cell` must be one of"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_cannot_be_is_refused(name):
    what, message = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        what()
