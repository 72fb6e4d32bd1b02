"""What the gradient is the gradient of, and that rates do not depend on the size of a rollout."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.rl.envs import Counter, trainer
from tests.rl.small_mdp import MOVE, REWARD, START, exact, list_all, make_trainer, push
from tests.rl.test_unbiased import CLEAR, DISCRETE, ROUNDING, error
from tf_relax import rl


def test_whole_episodes_are_averaged(rng):
    """The expected return of an episode, however many of them."""
    made = make_trainer("choice", rng, **DISCRETE["value"]())
    listed = list_all(made, rng)
    chosen = rng.integers(listed.weights.shape[1], size=12)
    rollout = type(listed.rollout)(*[x[:, chosen] for x in listed.rollout.rows])
    noise = tf.constant(listed.noise[:, chosen], tf.float32)
    evidence = made.differentiate(rollout, noise)
    mean = push(
        listed._replace(rollout=rollout), evidence.logit_gradients, np.full((4, 12), 1 / 12)
    )
    for found, expected in zip(evidence.gradients, mean, strict=True):
        np.testing.assert_allclose(found, -expected, rtol=1e-4, atol=1e-5)


def stretch(made, rng):
    """Two steps of everything that can happen, and V of where they lead to."""
    listed = list_all(made, rng)
    rollout = type(listed.rollout)(*[x[:2] for x in listed.rollout.rows])
    return listed._replace(rollout=rollout, noise=listed.noise[:2], weights=listed.weights[:2])


def exact_stretch(made):
    """Derivative of ``E[r_0 + r_1 + V(s_2)]``, by enumeration."""
    kernel, bias = [tf.Variable(np.asarray(w, float)) for w in made.policy.get_weights()]
    worth = np.append(made.values(tf.eye(2)).numpy().astype(float), 0.0)
    with tf.GradientTape() as tape:
        pi = tf.nn.softmax(kernel + bias)
        last = tf.reduce_sum(pi * (REWARD + MOVE @ worth), axis=1)  # from the second state on
        after = tf.concat([last, [0.0]], axis=0)
        first = tf.reduce_sum(pi * (REWARD + tf.linalg.matvec(MOVE, after)), axis=1)
        total = tf.reduce_sum(START * first)
    return [x.numpy() for x in tape.gradient(total, [kernel, bias])]


@pytest.mark.parametrize("name", ["a2c", "value", "uncoupled_value"])
def test_a_fixed_number_of_steps_is_divided_by_it(name, rng):
    """``1/n d E[sum of n rewards + V]``, with the rows behind an end counted, so a constant."""
    arguments = DISCRETE[name]()
    made = make_trainer("choice", rng, n_steps=2, **arguments)
    listed = stretch(made, rng)
    # Every column as often as its probability says, as the estimate is a mean over columns.
    evidence = made.differentiate(listed.rollout, tf.constant(listed.noise, tf.float32))
    found = push(listed, evidence.logit_gradients.numpy(), listed.weights)
    assert error(found, exact_stretch(made)) < ROUNDING
    plain = push(listed, evidence.logit_gradients.numpy(), np.ones_like(listed.weights))
    columns = listed.weights.shape[1]
    for gradient, total in zip(evidence.gradients, plain, strict=True):
        np.testing.assert_allclose(gradient, -total / (2 * columns), rtol=1e-3, atol=1e-5)


def test_dividing_episodes_by_their_own_steps_would_be_biased(rng):
    """Long episodes would count less: not even the direction is right."""
    made = make_trainer("choice", rng, **DISCRETE["reinforce"]())
    listed = list_all(made, rng)
    evidence = made.differentiate(listed.rollout, tf.constant(listed.noise, tf.float32))
    lengths = listed.rollout.mask.sum(0)
    mean_length = np.sum(listed.weights[0] * lengths)
    ratio = push(listed, evidence.logit_gradients.numpy(), listed.weights / lengths)
    truth = [x / mean_length for x in exact(made)]
    assert error(ratio, truth) > CLEAR
    one, other = [np.concatenate([np.ravel(x) for x in each]) for each in (ratio, truth)]
    assert one @ other / np.linalg.norm(one) / np.linalg.norm(other) < 0.999


class Same(Counter):
    """Every observation is alike, and every reward: gradients differ by noise alone."""

    def _observe(self):
        super()._observe()
        self.reward = 1.0
        return np.ones(2, np.float32)


@pytest.mark.parametrize("estimator", ["a2c", "relax"])
def test_the_size_of_the_gradient_does_not_grow_with_the_steps(estimator):
    sizes, surrogates = [], []
    for n_steps in (5, 50, 500):
        keras.utils.set_random_seed(0)
        made = trainer(
            Same((1,)),  # so that returns do not grow with what is recorded either
            estimator,
            value=rl.dense_value((2,), units=(4,)),
            n_steps=n_steps,
            n_envs=1,
        )
        found, squared = [], []
        collector = made._collector()
        for k in range(8):
            evidence = made.differentiate(collector.collect(None if k else 0)[0])
            found.append(np.concatenate([np.ravel(g) for g in evidence.gradients]))
            squared.append([np.square(g).sum() for g in evidence.surrogate_gradients])
        sizes.append(np.linalg.norm(found, axis=1).mean())
        surrogates.append(np.sqrt(np.sum(squared, axis=1)).mean() if squared[0] else 0.0)
    # A mean over steps: constant, or falling as noise averages out.
    assert sizes[0] > sizes[1] > sizes[2] > sizes[0] / 30
    assert surrogates[0] >= surrogates[1] >= surrogates[2]


def test_a_rate_carries_over_from_one_size_to_another():
    """Of the same steps, twice as many environments or rows move the weights as far."""
    moved = []
    for repeats in (1, 3):
        keras.utils.set_random_seed(0)
        made = trainer(Counter((1000,)), n_steps=8)
        made.compile(keras.optimizers.SGD(0.1), entropy_weight=0.5, jit_compile=False)
        raw, _ = made._collector().collect(0)
        # The last step ends what the repetition begins again.
        raw = raw._replace(done=np.ones_like(raw.done), terminated=np.ones_like(raw.done))
        raw = type(raw)(*[np.concatenate([x] * repeats) for x in raw.rows])
        before = made.policy.get_weights()
        made.learn(raw)
        moved.append([y - x for x, y in zip(before, made.policy.get_weights(), strict=True)])
    for x, y in zip(*moved, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-7)


def test_a_natural_step_does_not_depend_on_the_size_of_the_gradient():
    found = []
    for scale in (1.0, 1e-6):
        made = make_trainer(
            "choice",
            np.random.default_rng(0),
            estimator="a2c",
            with_value=True,
            trust_region=rl.NaturalGradient(0.01),
        )
        own = np.random.default_rng(1)
        rollout = type(list_all(made, own).rollout)(
            *[x[:, ::97] for x in list_all(made, own).rollout.rows]
        )
        made.value.set_weights([scale * w for w in made.value.get_weights()])
        before = made.policy.get_weights()
        made.learn(rollout._replace(rewards=rollout.rewards * np.float32(scale)))
        found.append([y - x for x, y in zip(before, made.policy.get_weights(), strict=True)])
    for x, y in zip(*found, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5)
