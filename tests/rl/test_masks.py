"""Actions that a policy rules out: all is as if there were only the others."""

import gymnasium
import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.rl.envs import Counter
from tests.rl.small_mdp import Forbid, exact, expected, list_all, make_trainer
from tests.rl.test_unbiased import DISCRETE, ROUNDING, error
from tf_relax import rl
from tf_relax._src.rl.world.rollout import Rollout

LOWEST = float(np.finfo(np.float32).min)


@pytest.mark.parametrize("name", DISCRETE)
def test_expectation_is_the_derivative_for_the_legal_actions(name, rng):
    trainer = make_trainer("masked", rng, **DISCRETE[name]())
    truth = exact(trainer)  # of two actions
    assert error(truth, [0, 0]) > 0.1
    assert error(expected(trainer, list_all(trainer, rng)), truth) < ROUNDING


@pytest.mark.parametrize("forbidden", [LOWEST, -1e9])
def test_a_finite_logit_rules_out_too(forbidden, rng):
    trainer = make_trainer("masked", rng, forbidden=forbidden, **DISCRETE["uncoupled_value"]())
    assert error(expected(trainer, list_all(trainer, rng)), exact(trainer)) < ROUNDING


REGIONS = {
    "none": lambda: None,
    "clip": lambda: rl.Clip(epochs=2, minibatches=2),
    "kl": lambda: rl.KLPenalty(steps=3),
    "natural": lambda: rl.NaturalGradient(0.01),
}


@pytest.mark.parametrize("region", REGIONS)
def test_updates_are_those_of_the_legal_actions(region, rng):
    """Entropy, KL divergence and ratios included: the weights end up the same."""
    logs, weights = [], []
    for kind in ("choice", "masked"):
        own = np.random.default_rng(0)
        trainer = make_trainer(
            kind, own, estimator="a2c", with_value=True, trust_region=REGIONS[region]()
        )
        trainer.compile(keras.optimizers.SGD(0.1), entropy_weight=0.3, jit_compile=False)
        listed = list_all(trainer, own)
        rollout = Rollout(*[field[:, ::97] for field in listed.rollout.rows])
        logs.append(trainer.learn(rollout))
        weights.append(trainer.policy.get_weights())
    for name, value in logs[0].items():
        np.testing.assert_allclose(logs[1][name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["relax", "uncoupled_trajectory_wise", "off_policy"])
def test_surrogates_learn_finite_weights(name, rng):
    """The temperature, too, whose derivative is a sum over all logits."""
    trainer = make_trainer("masked", rng, **DISCRETE[name]())
    listed = list_all(trainer, rng)
    before = [x.numpy() for x in trainer.critic.trainable_variables]
    trainer.learn(Rollout(*[field[:, ::97] for field in listed.rollout.rows]), rng)
    after = [x.numpy() for x in trainer.critic.trainable_variables]
    assert all(np.isfinite(x).all() for x in after)
    assert any(not np.array_equal(x, y) for x, y in zip(before, after, strict=True))


class Ruled(keras.layers.Layer):
    """Leaves the first action of each of two blocks, or makes bits certain."""

    def __init__(self, mask):
        super().__init__()
        self.mask = mask

    def call(self, logits):
        return tf.where(self.mask == 0, logits, self.mask)


SPACES = {
    "blocks": (gymnasium.spaces.MultiDiscrete([3, 2]), [0, 0, -np.inf, 0, -np.inf]),
    "bits": (gymnasium.spaces.MultiBinary(4), [0, -np.inf, np.inf, 0]),
}


@pytest.mark.parametrize("estimator", ["a2c", "relax", rl.PolicyRelax(coupled=False)], ids=str)
@pytest.mark.parametrize("kind", SPACES)
def test_spaces_of_several_choices(kind, estimator):
    space, mask = SPACES[kind]
    mask = np.float32(mask)
    env = Counter(action_space=space)
    dense = keras.layers.Dense(len(mask))
    policy = keras.Sequential([keras.Input((2,)), dense, Ruled(mask)])
    trainer = rl.PolicyGradient(policy, env, estimator, n_episodes=4)
    trainer.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    before = dense.get_weights()
    logs = trainer.fit(32, seed=0, verbose=0).history
    assert all(np.isfinite(logs[name]).all() for name in ("entropy", "kl"))
    ruled, free = mask != 0, mask == 0
    for old, new in zip(before, dense.get_weights(), strict=True):
        np.testing.assert_array_equal(new[..., ruled], old[..., ruled])
        assert (new[..., free] != old[..., free]).any()
    received = np.stack(env.received)
    if kind == "bits":
        np.testing.assert_array_equal(received[:, 1:3], np.tile([0, 1], (len(received), 1)))
        assert 0 < received[:, [0, 3]].mean() < 1
    else:
        assert set(received[:, 0]) == {0, 1}
        assert set(received[:, 1]) == {0}


def test_what_is_served_is_what_the_policy_says():
    trainer = make_trainer("masked", np.random.default_rng(0), estimator="reinforce")
    assert np.isneginf(trainer(np.eye(2, dtype=np.float32))[:, 2]).all()


@pytest.mark.parametrize("logit", [-np.inf, np.nan])
def test_a_policy_that_leaves_no_action_is_named(logit):
    policy = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1), Forbid(logit)])
    policy.add(Ruled(np.float32([logit, 0])))
    trainer = rl.PolicyGradient(policy, Counter(), "reinforce")
    trainer.compile(jit_compile=False)
    with pytest.raises(FloatingPointError, match="ruled out every action"):
        trainer.fit(4, verbose=0)
