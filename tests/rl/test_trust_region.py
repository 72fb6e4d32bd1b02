"""How far an update goes: divergences, the adapted penalty, and the clipped ratio."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.rl.small_mdp import list_all, list_real, make_trainer
from tf_relax._src.rl.world.rollout import Rollout
from tf_relax.rl import Clip, KLPenalty, NaturalGradient


def with_region(region, rng, kind="choice", estimator="a2c", rate=0.1, count=64):
    """Returns a trainer and a rollout of ordinary noise."""
    trainer = make_trainer(
        kind, rng, estimator=estimator, with_value=estimator == "a2c", trust_region=region
    )
    trainer.compile(
        keras.optimizers.SGD(rate),
        value_optimizer=keras.optimizers.SGD(0.0),
        surrogate_optimizer=keras.optimizers.SGD(0.0),
        entropy_weight=0.0,
        jit_compile=False,
    )
    listed = list_real(trainer) if kind == "real" else list_all(trainer, rng)
    columns = rng.choice(np.flatnonzero(np.abs(listed.rollout.noise).max((0, 2)) < 2), count)
    return trainer, Rollout(*[field[:, columns] for field in listed.rollout.rows])


@pytest.mark.parametrize("max_kl", [0.001, 0.01])
@pytest.mark.parametrize(
    ("kind", "estimator"),
    [("choice", "a2c"), ("choice", "relax"), ("bit", "relax"), ("real", "lax")],
)
def test_a_natural_step_uses_up_its_divergence(max_kl, kind, estimator, rng):
    region = NaturalGradient(max_kl, damping=1e-3)
    trainer, rollout = with_region(region, rng, kind, estimator)
    kl = trainer.learn(rollout)["kl"]
    # All of it, or what is left of it where the step was halved because it went too far.
    assert 0.8 < kl / max_kl < 1.02 or 0.22 < kl / max_kl < 0.28


def test_a_natural_step_goes_along_the_solution(rng):
    """``F`` from the outer products of scores in expectation, and a step against the gradient."""
    trainer, rollout = with_region(NaturalGradient(1e-5, damping=0.05), rng)
    gradients = trainer.differentiate(rollout).gradients
    states = rollout.observations[rollout.mask > 0]
    p = tf.nn.softmax(trainer.logits(tf.constant(states))).numpy()
    inputs = np.concatenate([states, np.ones((len(states), 1))], axis=1)
    curvature = np.einsum("ij,jk->ijk", p, np.eye(2)) - p[:, :, None] * p[:, None, :]
    fisher = np.einsum("ia,ijk,ib->ajbk", inputs, curvature, inputs).reshape(6, 6) / len(states)
    g = np.concatenate([np.asarray(x).ravel() for x in gradients])
    expected = -np.linalg.solve(fisher + 0.05 * np.eye(6), g)
    before = np.concatenate([x.ravel() for x in trainer.policy.get_weights()])
    trainer.learn(rollout)
    moved = np.concatenate([x.ravel() for x in trainer.policy.get_weights()]) - before
    cosine = moved @ expected / np.linalg.norm(moved) / np.linalg.norm(expected)
    assert cosine > 0.999


@pytest.mark.parametrize(("rate", "factor"), [(1.0, 2.0), (1e-4, 0.5)])
@pytest.mark.parametrize("estimator", ["a2c", "relax"])
def test_the_penalty_adapts_in_both_directions(rate, factor, estimator, rng):
    region = KLPenalty(target=0.001, steps=3)
    trainer, rollout = with_region(region, rng, estimator=estimator, rate=rate)
    kl = trainer.learn(rollout)["kl"]
    assert kl > 0.0015 if factor == 2 else kl < 0.001 / 1.5
    assert float(region.beta.value) == factor


def test_the_penalty_holds_the_policy_back(rng):
    state = rng.bit_generator.state
    kl = []
    for beta in (0.001, 100.0):
        rng.bit_generator.state = state
        trainer, rollout = with_region(KLPenalty(steps=20, beta=beta), rng, rate=0.002)
        kl.append(trainer.learn(rollout)["kl"])
    assert kl[1] < 0.5 * kl[0]


def test_the_first_clipped_step_is_that_of_a2c(rng):
    region = Clip(epochs=1, minibatches=1, normalize=False)
    trainer, rollout = with_region(region, rng, rate=1e-3)
    gradients = trainer.differentiate(rollout).gradients
    before = trainer.policy.get_weights()
    trainer.learn(rollout)
    # A mean over steps here, a mean over trajectories there.
    scale = 1e-3 * rollout.mask.shape[1] / rollout.mask.sum()
    for old, new, gradient in zip(before, trainer.policy.get_weights(), gradients, strict=True):
        np.testing.assert_allclose(new - old, -scale * np.asarray(gradient), rtol=1e-2, atol=1e-7)


def test_clipping_bounds_the_ratio():
    """Far beyond the clip nothing pulls any more: an unclipped objective goes much further."""
    furthest = []
    for epsilon in (0.1, 1e6):
        rng = np.random.default_rng(0)  # how far one step overshoots depends on the rollout
        region = Clip(epsilon=epsilon, epochs=100, minibatches=1)
        trainer, rollout = with_region(region, rng, rate=0.05)
        states = tf.constant(rollout.observations[rollout.mask > 0])
        before = tf.nn.softmax(trainer.logits(states)).numpy()
        trainer.learn(rollout)
        after = tf.nn.softmax(trainer.logits(states)).numpy()
        furthest.append(np.abs(after / before - 1).max())
    assert furthest[0] < 0.35
    assert furthest[1] > 2 * furthest[0]


@pytest.mark.parametrize(("kind", "estimator"), [("choice", "relax"), ("real", "lax")])
def test_no_ratio_reweights_a_pathwise_part(kind, estimator, rng):
    with pytest.raises(ValueError, match=f"Clip reweights .* estimator='{estimator}'"):
        make_trainer(kind, rng, estimator=estimator, trust_region=Clip())


@pytest.mark.parametrize(
    ("region", "arguments"),
    [
        (KLPenalty, {"target": 0}),
        (KLPenalty, {"steps": 0}),
        (NaturalGradient, {"max_kl": -1}),
        (NaturalGradient, {"damping": 0}),
        (Clip, {"epsilon": 0}),
        (Clip, {"epochs": 0}),
    ],
)
def test_numbers_that_make_no_sense_are_refused(region, arguments):
    with pytest.raises(ValueError, match=f"{region.__name__}: "):
        region(**arguments)
