"""Policy gradients in expectation, by enumeration; and what every known mistake does to them."""

import numpy as np
import pytest
import tensorflow as tf

from tests.oracles import hermite_rule
from tests.rl import small_mdp
from tests.rl.small_mdp import exact, exact_real, expected, list_all, list_real, make_trainer
from tf_relax import surrogates
from tf_relax._src.rl.gradient.estimators import A2C, PolicyLax, PolicyReinforce, PolicyRelax
from tf_relax.rl import LinearAdvantage, OffPolicy

# Sums of some thousand numbers of size 1 that were rounded to float32, and an error that shows.
ROUNDING, CLEAR = 1e-5, 0.01


def network(looks_at=("context",)):
    return surrogates.Network(units=(4,), activation="tanh", looks_at=looks_at)


def linear():
    return LinearAdvantage(units=(4,))


DISCRETE = {
    "reinforce": lambda: {"estimator": PolicyReinforce()},
    "a2c": lambda: {"estimator": A2C(), "with_value": True},
    "relax": lambda: {"estimator": PolicyRelax(), "surrogate": network()},
    "uncoupled": lambda: {"estimator": PolicyRelax(coupled=False), "surrogate": network()},
    "logits": lambda: {"estimator": PolicyRelax(), "surrogate": network(("logits", "context"))},
    "value": lambda: {"estimator": PolicyRelax(), "surrogate": network(), "with_value": True},
    "uncoupled_value": lambda: {
        "estimator": PolicyRelax(coupled=False),
        "surrogate": network(),
        "with_value": True,
    },
    "linear": lambda: {"estimator": PolicyRelax(trajectory_wise=True), "surrogate": linear()},
    "trajectory_wise": lambda: {
        "estimator": PolicyRelax(trajectory_wise=True),
        "surrogate": network(),
        "with_value": True,
    },
    "uncoupled_trajectory_wise": lambda: {
        "estimator": PolicyRelax(coupled=False, trajectory_wise=True),
        "surrogate": linear(),
    },
    "off_policy": lambda: {
        "estimator": PolicyRelax(trajectory_wise=True, off_policy=OffPolicy()),
        "surrogate": linear(),
        "with_value": True,
    },
}
REAL = {
    "reinforce": lambda: {"estimator": PolicyReinforce()},
    "a2c": lambda: {"estimator": A2C(), "with_value": True},
    "lax": lambda: {"estimator": PolicyLax(), "surrogate": network()},
    "logits": lambda: {"estimator": PolicyLax(), "surrogate": network(("logits", "context"))},
    "value": lambda: {"estimator": PolicyLax(), "surrogate": network(), "with_value": True},
    "linear": lambda: {"estimator": PolicyLax(trajectory_wise=True), "surrogate": linear()},
    "trajectory_wise": lambda: {
        "estimator": PolicyLax(trajectory_wise=True),
        "surrogate": network(),
        "with_value": True,
    },
    "off_policy": lambda: {"estimator": PolicyLax(off_policy=OffPolicy()), "surrogate": network()},
}

kinds = pytest.mark.parametrize("kind", ["bit", "choice"])


def error(found, truth):
    return max(np.abs(x - y).max() for x, y in zip(found, truth, strict=True))


@kinds
@pytest.mark.parametrize("name", DISCRETE)
def test_expectation_is_the_derivative_of_the_return(kind, name, rng):
    trainer = make_trainer(kind, rng, **DISCRETE[name]())
    truth = exact(trainer)
    assert error(truth, [0, 0]) > 0.1
    assert error(expected(trainer, list_all(trainer, rng)), truth) < ROUNDING


@pytest.mark.parametrize("name", ["value", "uncoupled_trajectory_wise"])
def test_expectation_with_blocks_of_choices(name, rng):
    """That several are as independent as one is shown with the relaxation."""
    trainer = make_trainer("block", rng, **DISCRETE[name]())
    assert type(trainer.action_space.relaxation).__name__ == "Blocks"
    assert error(expected(trainer, list_all(trainer, rng)), exact(trainer)) < ROUNDING


@pytest.mark.parametrize("name", REAL)
def test_expectation_with_real_actions(name, rng):
    trainer = make_trainer("real", rng, **REAL[name]())
    truth = exact_real(trainer)
    assert error(truth, [0, 0]) > 0.1
    assert error(expected(trainer, list_real(trainer)), truth) < ROUNDING


@pytest.mark.parametrize("name", ["reinforce", "a2c", "uncoupled_value", "trajectory_wise"])
def test_expectation_under_a_discount(name, rng):
    trainer = make_trainer("choice", rng, gamma=0.3, **DISCRETE[name]())
    found = expected(trainer, list_all(trainer, rng))
    assert error(found, exact(trainer, 0.3)) < ROUNDING
    assert error(found, exact(trainer)) > 1e-3


def test_expectation_under_a_discount_with_real_actions(rng):
    """No estimator has a mean of its own."""
    trainer = make_trainer("real", rng, gamma=0.9, **REAL["reinforce"]())
    truth = expected(trainer, list_real(trainer))
    for name in ("lax", "trajectory_wise"):
        other = make_trainer("real", rng, gamma=0.9, **REAL[name]())
        other.policy.set_weights(trainer.policy.get_weights())
        assert error(expected(other, list_real(other)), truth) < ROUNDING


@pytest.mark.parametrize("name", ["value", "uncoupled_value", "trajectory_wise"])
def test_below_lambda_1_the_value_alone_is_to_blame_for_the_bias(name, rng):
    arguments = {"gamma": 0.9, "gae_lambda": 0.5}
    trainer = make_trainer("choice", rng, **arguments, **DISCRETE["a2c"]())
    other = make_trainer("choice", rng, **arguments, **DISCRETE[name]())
    for of in ("policy", "value"):
        getattr(other, of).set_weights(getattr(trainer, of).get_weights())
    found = expected(trainer, list_all(trainer, rng))
    assert error(found, exact(trainer, 0.9)) > CLEAR
    assert error(expected(other, list_all(other, rng)), found) < ROUNDING


def test_the_surrogates_here_change_the_estimate(rng):
    """Else nothing above would show a mistake."""
    trainer = make_trainer("choice", rng, **DISCRETE["uncoupled"]())
    listed = list_all(trainer, rng)
    plain = make_trainer("choice", rng, **DISCRETE["reinforce"]())
    plain.policy.set_weights(trainer.policy.get_weights())
    g, without = [
        each.differentiate(listed.rollout, tf.constant(listed.noise, tf.float32)).logit_gradients
        for each in (trainer, plain)
    ]
    assert np.abs(g - without).max() > 0.3


@kinds
def test_recorded_noise_belongs_to_the_recorded_actions(kind, rng):
    """A rollout of the trainer's own: z of the update would choose what was done."""
    trainer = make_trainer(kind, rng, estimator="relax", n_episodes=50)
    rollout, frames = trainer._collector().collect(seed=0)
    assert frames == rollout.mask.sum() > 50
    logits = trainer.logits(tf.constant(rollout.observations.reshape(-1, 2)))
    relaxation = trainer.action_space.relaxation
    again = relaxation.sample(logits, tf.reshape(rollout.noise, logits.shape))
    counts = rollout.mask.ravel() > 0
    taken = rollout.actions.reshape(logits.shape)[counts]
    np.testing.assert_array_equal(again.b.numpy()[counts], taken)
    assert 0.05 < taken[:, -1].mean() < 0.95


# What was published, or nearly was: each shifts the mean.


@pytest.fixture
def fixed():
    """Weights for which every mistake shows: how much of it is seen depends on them."""
    return np.random.default_rng(2)


@kinds
def test_mistake_conditional_sample_of_another_distribution(kind, fixed, monkeypatch):
    """As released by the authors: z~ of the choice is a Gumbel around its own logit."""
    trainer = make_trainer(kind, fixed, **DISCRETE["uncoupled"]())
    relaxation = trainer.action_space.relaxation
    correct = relaxation.conditional

    def of_the_choice(a, draw, noise):
        first = tf.reduce_sum(draw.b * (a + noise), axis=-1, keepdims=True)
        return tf.where(draw.b > 0, first, first - tf.nn.softplus(first - noise - a))

    def of_a_bit(a, draw, noise):
        return (2 * draw.b - 1) * tf.nn.softplus(noise + (2 * draw.b - 1) * a)

    listed = list_all(trainer, fixed)
    wrong = of_a_bit if kind == "bit" else of_the_choice
    monkeypatch.setattr(relaxation, "conditional", wrong)
    assert error(expected(trainer, listed), exact(trainer)) > CLEAR
    # Independent of the action altogether.
    monkeypatch.setattr(relaxation, "conditional", lambda a, draw, noise: a + noise)
    assert error(expected(trainer, listed), exact(trainer)) > CLEAR
    monkeypatch.setattr(relaxation, "conditional", correct)
    assert error(expected(trainer, listed), exact(trainer)) < ROUNDING


@kinds
def test_mistake_conditional_sample_without_a_derivative(kind, fixed, monkeypatch):
    for name in ("relax", "uncoupled"):
        trainer = make_trainer(kind, fixed, **DISCRETE[name]())
        relaxation = trainer.action_space.relaxation
        monkeypatch.setattr(relaxation, "delta_vjp", lambda a, draw, h: h)
        monkeypatch.setattr(
            relaxation, "conditional_vjp", lambda a, draw, z_tilde, h: tf.zeros_like(a)
        )
        assert error(expected(trainer, list_all(trainer, fixed)), exact(trainer)) > CLEAR


@pytest.mark.parametrize("name", ["lax", "value"])
def test_mistake_surrogate_of_a_fresh_action(name, fixed, monkeypatch):
    """As released by the authors: ``c`` sees another action than the one that was taken."""
    trainer = make_trainer("real", fixed, **REAL[name]())
    correct = trainer.critic.value_and_derivative

    def fresh(z, logits, states):
        # Both enter linearly: the mean over the action nobody took is their part of the mean.
        mean, log_scale = tf.split(logits, 2, axis=-1)
        c, h = 0.0, 0.0
        for node, weight in zip(*map(np.float32, hermite_rule(20)), strict=True):
            parts = correct(mean + tf.exp(log_scale) * node, logits, states)
            c, h = c + weight * parts[0], h + weight * parts[1]
        return c, h

    monkeypatch.setattr(trainer.critic, "value_and_derivative", fresh)
    assert error(expected(trainer, list_real(trainer)), exact_real(trainer)) > CLEAR


@kinds
def test_mistake_noise_of_z_not_stored(kind, fixed):
    trainer = make_trainer(kind, fixed, **DISCRETE["relax"]())
    listed = list_all(trainer, fixed, fresh=True)
    assert listed.weights[0].sum() == pytest.approx(1)
    assert error(expected(trainer, listed), exact(trainer)) > CLEAR


@pytest.mark.parametrize("name", ["relax", "uncoupled", "lax"])
def test_mistake_sign_of_the_pathwise_part(name, fixed, monkeypatch):
    real = name == "lax"
    trainer = make_trainer(
        "real" if real else "choice", fixed, **(REAL if real else DISCRETE)[name]()
    )
    relaxation = trainer.action_space.relaxation
    for of in ("vjp", "conditional_vjp", "delta_vjp"):
        correct = getattr(relaxation, of)
        monkeypatch.setattr(relaxation, of, lambda *x, correct=correct: -correct(*x))
    listed = list_real(trainer) if real else list_all(trainer, fixed)
    truth = exact_real(trainer) if real else exact(trainer)
    assert error(expected(trainer, listed), truth) > CLEAR


@pytest.mark.parametrize("name", ["linear", "trajectory_wise"])
def test_mistake_worth_of_actions_with_a_mean_of_its_own(name, fixed, monkeypatch):
    """What later actions are worth may be taken off only as far as its mean is zero."""
    trainer = make_trainer("choice", fixed, **DISCRETE[name]())
    correct = trainer.critic.surprise

    def uncentred(draw, logits, states):
        mean = trainer.action_space.relaxation.mean(logits)
        return correct(draw._replace(b=draw.b + mean), logits, states)

    listed = list_all(trainer, fixed)
    monkeypatch.setattr(trainer.critic, "surprise", uncentred)
    assert error(expected(trainer, listed), exact(trainer)) > CLEAR
    monkeypatch.undo()
    correct_returns = trainer.estimator.returns

    def with_its_own(steps):
        own = steps.critic.surprise(steps.draw, steps.logits, steps.states)
        return correct_returns(steps) - own

    monkeypatch.setattr(trainer.estimator, "returns", with_its_own)
    assert error(expected(trainer, listed), exact(trainer)) > CLEAR


# The surrogate learns.

LEARN = {
    "relax": ("choice", DISCRETE["relax"]),
    "uncoupled": ("bit", DISCRETE["uncoupled_value"]),
    "linear": ("choice", DISCRETE["linear"]),
    "lax": ("real", REAL["lax"]),
    "lax_value": ("real", REAL["trajectory_wise"]),
}


def some(listed, count, rng):
    """A few columns of a list, in which the noise is of ordinary size."""
    ordinary = np.flatnonzero(np.abs(listed.rollout.noise).max((0, 2)) < 3)
    columns = rng.choice(ordinary, count)
    rollout = small_mdp.Rollout(*[field[:, columns] for field in listed.rollout.rows])
    return small_mdp.Listed(rollout, listed.noise[:, columns], listed.weights[:, columns])


@pytest.mark.parametrize("name", LEARN)
def test_one_update_moves_every_weight_of_the_surrogate(name, rng):
    kind, arguments = LEARN[name]
    trainer = make_trainer(kind, rng, **arguments())
    listed = list_real(trainer) if kind == "real" else list_all(trainer, rng)
    before = [variable.numpy() for variable in trainer.critic.trainable_variables]
    assert len(before) == len(trainer.critic.surrogate.trainable_variables) + (kind != "real")
    trainer.learn(some(listed, 8, rng).rollout)
    for old, variable in zip(before, trainer.critic.trainable_variables, strict=True):
        assert not np.array_equal(old, variable), variable.path


def test_a_surrogate_that_starts_at_zero_learns_too(rng):
    trainer = make_trainer("choice", rng, estimator="relax")
    for layer in trainer.critic.surrogate._layers_above[-1:]:
        layer.kernel.assign(tf.zeros_like(layer.kernel))
        layer.bias.assign(tf.zeros_like(layer.bias))
    before = [variable.numpy() for variable in trainer.critic.trainable_variables]
    listed = list_all(trainer, rng)
    for _ in range(2):
        trainer.learn(some(listed, 8, rng).rollout)
    for old, variable in zip(before, trainer.critic.trainable_variables, strict=True):
        assert not np.array_equal(old, variable), variable.path


@pytest.mark.parametrize("columns", [1, 5])
@pytest.mark.parametrize("name", LEARN)
def test_surrogate_gradient_is_that_of_the_squared_gradient_per_trajectory(name, columns, rng):
    kind, arguments = LEARN[name]
    trainer = make_trainer(kind, rng, **arguments())
    listed = list_real(trainer) if kind == "real" else list_all(trainer, rng)
    listed = some(listed, columns, rng)
    noise = tf.constant(listed.noise, tf.float32)

    def differentiate():
        return trainer.differentiate(listed.rollout, noise)

    def loss():
        g = np.float64(differentiate().logit_gradients).reshape(*listed.weights.shape, -1)
        kernel = np.einsum("tci,tcj->cij", listed.rollout.observations, g)
        return (np.square(kernel).sum() + np.square(g.sum(0)).sum()) / columns

    found, size = differentiate(), loss()
    for variable, gradient in zip(
        trainer.critic.trainable_variables, found.surrogate_gradients, strict=True
    ):
        along = rng.normal(size=variable.shape)
        value = variable.numpy()
        slope = 0.0
        # Central differences of fourth order, whose steps are large enough for float32.
        for k, weight in ((1, 2 / 3), (2, -1 / 12)):
            for sign in (1, -1):
                variable.assign(value + np.float32(sign * k * 0.01 * along))
                slope += sign * weight * loss() / 0.01
        variable.assign(value)
        expected_slope = float(np.sum(np.asarray(gradient) * along))
        rounding = 5e-3 + 3e-4 * size  # of float32, in differences of the loss
        assert slope == pytest.approx(expected_slope, rel=5e-3, abs=rounding), variable.path
    mean = small_mdp.push(listed, found.logit_gradients.numpy(), listed.weights * 0 + 1 / columns)
    for gradient, each in zip(found.gradients, mean, strict=True):
        np.testing.assert_allclose(gradient, -each, atol=1e-5)
