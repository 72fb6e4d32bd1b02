"""Earlier rollouts, reweighted: the formulas, and what their gradient is in expectation."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.rl.small_mdp import HORIZON, MOVE, REWARD, START, list_all, make_trainer, push
from tf_relax import rl
from tf_relax._src.rl import learner
from tf_relax._src.rl.gradient.returns import lambda_returns
from tf_relax._src.rl.world.rollout import to_tensors

FREE = 1e9


def columns(rng, steps=6, trajectories=4):
    shape = (steps, trajectories)
    done = np.zeros(shape)
    done[2, 0] = done[4, 1] = done[-1, 2] = 1
    return rng.uniform(0.2, 3, shape), *rng.normal(size=(3, *shape)), done


def test_the_sums_of_the_paper(rng):
    ratio, rewards, values, after, done = columns(rng)
    gamma, lam = 0.9, 0.8
    trace = rl.VTrace(max_rho=1.5, max_c=0.7)
    found = trace(*map(tf.constant, (ratio, rewards, values, after, done)), gamma, lam)
    rho, c = np.minimum(ratio, 1.5), lam * np.minimum(ratio, 0.7)
    surprise = rho * (rewards + gamma * after - values)
    last = len(rewards) - 1
    for j in range(rewards.shape[1]):
        for t in range(len(rewards)):
            v, factor, k = values[t, j], 1.0, t
            while True:
                v += factor * surprise[k, j]
                if done[k, j] or k == last:
                    break
                factor *= gamma * c[k, j]
                k += 1
            np.testing.assert_allclose(found.targets[t, j], v)
            later = 0.0
            if not done[t, j] and t < last:
                # lambda stands for what is known of the next target
                later = lam * (float(found.targets[t + 1, j]) - values[t + 1, j])
            advantage = rho[t, j] * (rewards[t, j] + gamma * (after[t, j] + later) - values[t, j])
            np.testing.assert_allclose(found.advantages[t, j], advantage)


def test_of_the_same_policy_they_are_the_returns(rng):
    _, rewards, values, _, done = columns(rng)
    after = np.concatenate([values[1:], rng.normal(size=(1, values.shape[1]))])
    after = np.where(done, 0.0, after)
    for lam in (1.0, 0.7):
        ones = np.ones_like(rewards)
        arrays = map(tf.constant, (ones, rewards, values, after, done))
        found = rl.VTrace()(*arrays, 0.9, lam)
        returns = lambda_returns(*map(tf.constant, (rewards, after, done)), 0.9, lam)
        np.testing.assert_allclose(found.targets, returns)
        np.testing.assert_allclose(found.advantages, returns - values)


def other_policy(trainer, rng):
    for variable in trainer.policy.trainable_variables:
        variable.assign_add(0.8 * rng.normal(size=variable.shape))


def expected_off_policy(trainer, mu):
    """``sum_t E[Q^pi(s_t, a) dlog pi(a | s_t)]``, states of ``mu`` and actions of ``pi``."""
    kernel, bias = [np.asarray(w, float) for w in trainer.policy.get_weights()]
    pi = tf.nn.softmax(kernel + bias).numpy()  # one state per row
    q = np.zeros((HORIZON, 2, 2))
    for t in reversed(range(HORIZON)):
        later = (pi * q[t + 1]).sum(1) if t + 1 < HORIZON else np.zeros(2)
        q[t] = REWARD + MOVE[:, :, :2] @ later
    total, states = np.zeros((2, 2)), START
    for t in range(HORIZON):
        value = (pi * q[t]).sum(1, keepdims=True)
        total += states[:, None] * pi * (q[t] - value)
        states = np.einsum("s,sa,sak->k", states, mu, MOVE)[:2]
    return [total, total.sum(0)]


def off_policy(trainer, rng):
    """Expectation over what one policy did of the gradient for another; and the former's odds."""
    listed = list_all(trainer, rng, nodes=1)
    kernel, bias = trainer.policy.get_weights()
    mu = tf.nn.softmax(kernel + bias).numpy().astype(float)
    rollout = to_tensors(trainer._normalized(listed.rollout))
    behaviour = learner.log_prob(trainer, rollout)
    other_policy(trainer, rng)
    evidence = learner.differentiate(trainer, rollout, behaviour=behaviour)
    return push(listed, evidence.logit_gradients.numpy(), listed.weights), mu


def test_without_clipping_only_the_states_are_those_of_the_other_policy(rng):
    trainer = make_trainer(
        "choice", rng, estimator="a2c", with_value=True, reuse=rl.VTrace(1, FREE, FREE)
    )
    found, mu = off_policy(trainer, rng)
    truth = expected_off_policy(trainer, mu)
    assert np.abs(truth[0]).max() > 0.05
    for x, y in zip(found, truth, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5)


def test_clipping_is_a_bias(rng):
    trainer = make_trainer("choice", rng, estimator="a2c", with_value=True, reuse=rl.VTrace(1))
    found, mu = off_policy(trainer, rng)
    truth = expected_off_policy(trainer, mu)
    assert max(np.abs(x - y).max() for x, y in zip(found, truth, strict=True)) > 0.01


REGIONS = {
    "none": lambda: None,
    "clip": lambda: rl.Clip(epochs=1),
    "natural": lambda: rl.NaturalGradient(),
}


def make(region="none", estimator="a2c", reuse=True, **arguments):
    policy = rl.dense_policy("CartPole-v1", units=(8,))
    trainer = rl.PolicyGradient(
        policy, "CartPole-v1", estimator, reuse=rl.VTrace(2) if reuse else None,
        trust_region=REGIONS[region](), **{"n_steps": 8, **arguments},
    )  # fmt: skip
    trainer.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    return trainer


@pytest.mark.parametrize("region", REGIONS)
def test_remembered_rollouts_move_policy_and_value(region):
    once, again = make(region, reuse=False), make(region)
    again.policy.set_weights(once.policy.get_weights())
    again.value.set_weights(once.value.get_weights())
    for trainer in (once, again):
        trainer.fit(8, seed=0, verbose=0)
    for x, y in zip(once.policy.get_weights(), again.policy.get_weights(), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)  # there was nothing to remember yet
    (first,) = again._earlier
    for trainer in (once, again):
        trainer.fit(8, verbose=0)
    for model in ("policy", "value"):
        moved = [getattr(trainer, model).get_weights() for trainer in (once, again)]
        assert any(np.abs(x - y).max() > 1e-5 for x, y in zip(*moved, strict=True))
    assert again._earlier[1] is first
    again.fit(16, verbose=0)
    assert len(again._earlier) == 2


def test_it_is_kept_in_files(tmp_path):
    trainer = make()
    trainer.save(tmp_path / "trainer.keras")
    again = rl.load(tmp_path / "trainer.keras")
    assert repr(again.reuse) == "VTrace(rollouts=2, max_rho=1.0, max_c=1.0)"
    again.fit(24, seed=0, verbose=0)


ERRORS = {
    "relax": (
        lambda: make(estimator="relax", value=rl.dense_value((4,))),
        "VTrace .* estimator='relax' has a pathwise part",
    ),
    "reinforce": (
        lambda: make(estimator="reinforce", n_steps=None),
        "estimator='reinforce' has no value.*'a2c'",
    ),
    "rollouts": (lambda: rl.VTrace(0), "`rollouts` must be at least 1.*rollouts=0"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_cannot_be_is_refused(name):
    what, message = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        what()
