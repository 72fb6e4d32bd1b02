"""How real samples get into the bounds of a `Box`, and the log-probability of what comes out."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from tests.rl.envs import Counter
from tf_relax import rl
from tf_relax._src.rl.world.action_space import ActionSpace
from tf_relax._src.rl.world.rollout import Rollout

LOW, HIGH = 2.0, 8.0
# Means and deviations of the samples: inside, at a bound, far beyond it, and very narrow.
CASES = [(0.2, 0.5), (1.0, 1.0), (-3.0, 1.5), (0.9, 0.01)]


def space(kind, low=LOW, high=HIGH):
    return ActionSpace(Box(low, high, (1,), np.float64), "Test", kind)


def own_units(kind, mean, scale):
    """Returns the parameters with which `kind` has the samples that are meant."""
    return (5 + 3 * mean, 3 * scale) if kind is None else (mean, scale)


def test_the_bounds_are_at_one():
    b = np.array([[-7.0], [-1.0], [0.0], [0.5], [1.0], [9.0]])
    np.testing.assert_allclose(space("clip").decode(b).ravel(), [2, 2, 5, 6.5, 8, 8])
    np.testing.assert_allclose(space("squash").decode(b), 5 + 3 * np.tanh(b))
    np.testing.assert_allclose(space(None).decode(b).ravel(), [2, 2, 2, 2, 2, 8])


@pytest.mark.parametrize("kind", ["clip", "squash", None])
def test_without_two_bounds_a_component_keeps_its_units(kind):
    box = Box(np.array([-np.inf, 0, -2.0]), np.array([np.inf, np.inf, 2.0]), dtype=np.float64)
    actions = ActionSpace(box, "Test", kind).decode(np.array([[-40.0, -3.0, 0.5]]))
    last = {"clip": 1.0, "squash": 2 * np.tanh(0.5), None: 0.5}[kind]
    np.testing.assert_allclose(actions, [[-40, 0, last]])


@pytest.mark.parametrize(("mean", "scale"), CASES)
@pytest.mark.parametrize("kind", ["clip", "squash", None])
def test_densities_and_probabilities_at_the_bounds_sum_to_one(kind, mean, scale):
    """And give every expectation that samples give: the Jacobian is the right one."""
    actions = space(kind)
    logits = np.float32([[*own_units(kind, mean, scale)]])
    logits[0, 1] = np.log(logits[0, 1])
    edges = np.array([[LOW], [HIGH]])
    x, w = (np.arange(20_000) + 0.5) / 10_000 - 1, np.full(20_000, 1e-4)  # the midpoint rule
    if kind == "squash":
        reach = 9.0  # beyond, tanh is 1 in float32
        inner, weights = np.tanh(reach * x), w * reach * (1 - np.tanh(reach * x) ** 2)
    else:
        inner, weights = x, w
    a, weights = 5 + 3 * inner, 3 * weights
    density = np.exp(actions.log_prob(np.repeat(logits, len(a), 0), a[:, np.newaxis]))
    atoms = np.exp(actions.log_prob(np.repeat(logits, 2, 0), edges)) * (kind != "squash")
    assert weights @ density + atoms.sum() == pytest.approx(1, abs=2e-4)

    b = scipy.stats.norm(mean, scale).ppf((np.arange(100_000) + 0.5) / 100_000)
    inner_samples = np.tanh(b) if kind == "squash" else np.clip(b, -1, 1)
    expected = np.mean((5 + 3 * inner_samples) ** 2)
    found = weights @ (density * a**2) + atoms @ edges.ravel() ** 2
    assert found == pytest.approx(expected, rel=3e-4)


@pytest.mark.parametrize("kind", ["clip", "squash", None])
@pytest.mark.parametrize("estimator", ["a2c", "lax"])
def test_the_gradient_is_that_of_what_the_environment_sees(kind, estimator):
    """One step, every noise: against the derivative of the expected reward by the trapezoid."""
    env = Counter((1,), action_space=Box(LOW, HIGH, (1,)))
    policy = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    made = rl.PolicyGradient(policy, env, estimator, gamma=1.0, action_bounds=kind)
    made.compile(keras.optimizers.SGD(0.1), entropy_weight=0.0, jit_compile=False)
    mean, scale = own_units(kind, 0.3, 0.5)
    log_scale = np.log(scale)
    policy.layers[0].set_weights([np.zeros((2, 2)), np.array([mean, log_scale])])
    if made.critic is not None:
        for variable in made.critic.trainable_variables:
            variable.assign(0.3 * np.random.default_rng(0).normal(size=variable.shape))

    def rewards(parameters, noise):
        b = parameters[0] + np.exp(parameters[1]) * noise
        return np.sin(made.action_space.bounds.action(b[:, np.newaxis])[:, 0].astype(float))

    # Clipping has corners, at which Gauss's rule would be slow.
    noise = np.linspace(-9, 9, 4001)
    weights = scipy.stats.norm.pdf(noise) * (noise[1] - noise[0])
    columns = len(noise)
    b = mean + np.exp(log_scale) * noise
    shaped = {"noise": noise, "actions": b}
    fields = {k: np.float32(x).reshape(1, columns, 1) for k, x in shaped.items()}
    states = np.zeros((1, columns, 2), np.float32)
    ones = np.ones((1, columns), np.float32)
    rollout = Rollout(
        observations=states,
        successors=states,
        rewards=np.float32(rewards((mean, log_scale), noise)).reshape(1, columns),
        terminated=ones,
        done=ones,
        mask=ones,
        **fields,
    )
    g = made.differentiate(rollout).logit_gradients.numpy()
    step = 1e-4
    exact = [
        weights @ (rewards(up, noise) - rewards(down, noise)) / (2 * step)
        for up, down in (
            ((mean + step, log_scale), (mean - step, log_scale)),
            ((mean, log_scale + step), (mean, log_scale - step)),
        )
    ]
    np.testing.assert_allclose(weights @ g, exact, atol=2e-3)
    assert np.abs(exact).max() > 0.1


def test_log_probabilities_of_discrete_actions_sum_to_one():
    rng = np.random.default_rng(0)
    for space, every in [
        (Discrete(3, start=5), np.arange(5, 8)),
        (MultiDiscrete([2, 3]), np.stack(np.meshgrid([0, 1], [0, 1, 2]), -1).reshape(-1, 2)),
        (MultiBinary(2), np.array([[0, 0], [0, 1], [1, 0], [1, 1]])),
    ]:
        actions = ActionSpace(space, "Test")
        logits = rng.normal(size=(1, actions.logits_size)).astype(np.float32)
        logits = np.repeat(logits, len(every), 0)
        found = np.exp(actions.log_prob(tf.constant(logits), every))
        assert found.sum() == pytest.approx(1, abs=1e-6)
        b = actions.relaxation.sample(
            logits, actions.relaxation.noise(logits.shape, "float32", 1)
        ).b
        np.testing.assert_allclose(actions.encode(actions.decode(b.numpy())), b)


def test_frequencies_are_those_of_log_prob():
    made = rl.PolicyGradient(rl.dense_policy("CartPole-v1"), "CartPole-v1", "reinforce")
    made.policy.layers[-1].bias.assign([0.4, -0.4])
    states = np.repeat(np.float32([[0.1, 0, 0.1, 0]]), 4000, 0)
    p = np.exp(made.log_prob(states[:2], [0, 1]))
    assert np.mean(made.action(states, deterministic=False)) == pytest.approx(p[1], abs=0.03)


def test_bounds_are_kept_in_files(tmp_path):
    for kind in ("squash", None):
        policy = rl.dense_policy("Pendulum-v1", units=(4,))
        made = rl.PolicyGradient(policy, "Pendulum-v1", "reinforce", action_bounds=kind)
        made.save(tmp_path / "trainer.keras")
        again = rl.load(tmp_path / "trainer.keras")
        assert again.action_space.bounds.kind == kind
        states = np.zeros((2, 3))
        np.testing.assert_allclose(again.action(states), made.action(states), rtol=1e-6)
        made.evaluate(1, seed=0)
        assert made._evaluation.action_space.bounds.kind == kind


def test_files_of_before_keep_the_units_of_the_environment():
    made = rl.PolicyGradient(rl.dense_policy("Pendulum-v1", units=(4,)), "Pendulum-v1", "reinforce")
    config = made.get_config()
    del config["action_bounds"], config["reuse"]
    assert rl.PolicyGradient.from_config(config).action_space.bounds.kind is None


def test_other_bounds_are_refused():
    policy = rl.dense_policy("Pendulum-v1", units=(4,))
    with pytest.raises(ValueError, match=r"`action_bounds` must be .*Received: 'tanh'"):
        rl.PolicyGradient(policy, "Pendulum-v1", action_bounds="tanh")
