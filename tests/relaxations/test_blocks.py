"""Blocks of categorical choices: what `Categorical` says of each block alone."""

import numpy as np
import pytest
import tensorflow as tf

from tf_relax.relaxations import Blocks, Categorical

SIZES = [2, 4, 3]
ENDS = np.cumsum(SIZES)[:-1]
blocks, categorical = Blocks(SIZES), Categorical()


def split(x):
    return [tf.constant(part) for part in np.split(np.asarray(x), ENDS, axis=-1)]


@pytest.fixture
def logits(rng):
    return tf.constant(rng.normal(size=(5, sum(SIZES))))


def test_divergence_and_entropy_are_those_of_the_blocks(logits, rng):
    other = tf.constant(rng.normal(size=logits.shape))
    kl, entropy = blocks.kl(logits, other), blocks.entropy(logits)
    assert kl.shape == entropy.shape == (5, 3)
    for k, (a, b) in enumerate(zip(split(logits), split(other), strict=True)):
        np.testing.assert_allclose(kl[:, k], categorical.kl(a, b), rtol=1e-12)
        np.testing.assert_allclose(entropy[:, k], categorical.entropy(a), rtol=1e-12)
    # By the sum over all outcomes.
    outcomes = tf.constant(blocks.outcomes(tf.TensorShape([sum(SIZES)])))
    one = tf.repeat(logits[:1], len(outcomes), axis=0)
    log_p = tf.reduce_sum(blocks.log_prob(one, blocks.forced(one, outcomes)), -1).numpy()
    assert float(tf.reduce_sum(entropy[0])) == pytest.approx(-np.sum(np.exp(log_p) * log_p))


def test_mean_is_that_of_the_outcomes_and_its_derivative(logits, rng):
    outcomes = blocks.outcomes(tf.TensorShape([sum(SIZES)]))
    one = tf.repeat(logits[:1], len(outcomes), axis=0)
    log_p = tf.reduce_sum(blocks.log_prob(one, blocks.forced(one, tf.constant(outcomes))), -1)
    np.testing.assert_allclose(blocks.mean(logits)[0], np.exp(log_p) @ outcomes, rtol=1e-10)
    h = tf.constant(rng.normal(size=logits.shape))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        mean = blocks.mean(logits)
    expected = tape.gradient(mean, logits, output_gradients=h)
    np.testing.assert_allclose(blocks.mean_vjp(mean, h), expected, rtol=1e-10)


def test_mode_is_the_largest_logit_of_every_block(logits):
    for mode, a in zip(split(blocks.mode(logits)), split(logits), strict=True):
        np.testing.assert_array_equal(np.argmax(mode, -1), np.argmax(a, -1))


@pytest.mark.parametrize("sizes", [[], [3, 1]])
def test_blocks_without_a_choice_are_refused(sizes):
    with pytest.raises(ValueError, match="at least 2 categories"):
        Blocks(sizes)


def test_logits_of_another_size_are_refused():
    with pytest.raises(ValueError, match="expects 9 logits on the last axis"):
        blocks.check_event(tf.TensorShape([8]))
