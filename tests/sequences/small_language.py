"""Languages so small that all of their sequences, and all sets of them, can be listed."""

import itertools

import keras
import numpy as np
import tensorflow as tf

from tf_relax import sequences
from tf_relax._src.sequences import learner
from tf_relax._src.sequences.drawing import Sequences

VOCABULARY, LENGTH, STOP = 3, 3, 0


def decoder(rng, vocabulary=VOCABULARY, size=4, dtype="float64"):
    """A GRU with weights so large that its distribution is far from uniform."""
    tokens = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(vocabulary, size, dtype=dtype)(tokens)
    x = keras.layers.GRU(size, return_sequences=True, dtype=dtype)(x)
    model = keras.Model(tokens, keras.layers.Dense(vocabulary, dtype=dtype)(x))
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    return model


def reward(finished):
    """Something that depends on all tokens and on their order."""
    places = 1.7 ** np.arange(finished.tokens.shape[1])
    return np.sin(finished.tokens @ places) + 0.3 * finished.lengths


def token_reward(finished):
    """A reward of every token, given those before it."""
    return np.sin(1.0 + np.cumsum(finished.tokens * 1.3, axis=1)) + 0.2 * finished.tokens


def make(rng, estimator, reward=reward, reference=False, stop=STOP, temperature=1.3, **weights):
    """A compiled model whose estimator is that of the test."""
    model = sequences.SequenceModel(
        decoder(rng),
        LENGTH,
        stop,
        temperature,
        reference=decoder(rng) if reference else None,
    )
    model.compile(
        keras.optimizers.SGD(1.0),
        reward,
        "reinforce",
        run_eagerly=True,
        jit_compile=False,
        **weights,
    )
    model.build((None, 1))
    model.estimator = estimator  # mutants as well
    model._learn_with(estimator.critic("float64"))
    return model


def listed(stop=STOP):
    """All sequences, as they are drawn."""
    tokens, mask = [], []
    for each in itertools.product(range(VOCABULARY), repeat=LENGTH):
        length = each.index(stop) + 1 if stop is not None and stop in each else LENGTH
        if not any(each[length:]):  # one of those that begin alike
            tokens.append(each)
            mask.append([1.0] * length + [0.0] * (LENGTH - length))
    return Sequences(tf.constant(tokens, tf.int32), tf.constant(mask, tf.float64))


def chosen(all_of_them, rows):
    """Some of the sequences, in this order."""
    return Sequences(*[tf.gather(x, rows) for x in all_of_them])


def prompts(count):
    return tf.ones((count, 1), tf.int32)


def probabilities(model, all_of_them):
    return np.exp(model.log_prob(prompts(len(all_of_them.tokens)), all_of_them).numpy())


def exact(model, all_of_them):
    """The gradient of minus the objective, differentiated through the sum over all sequences."""
    x = prompts(len(all_of_them.tokens))
    finished = sequences.Finished(
        all_of_them.tokens.numpy(), all_of_them.lengths.numpy(), x.numpy(), None
    )
    earned = model.reward(finished)
    if earned.ndim == 2:
        earned = (earned * all_of_them.mask.numpy()).sum(axis=1)
    with tf.GradientTape() as tape:
        logits, b = learner.scored(model, x, all_of_them, 1)
        log_p = tf.nn.log_softmax(logits)
        mask = all_of_them.mask
        p_sequence = tf.exp(tf.reduce_sum(tf.reduce_sum(b * log_p, -1) * mask, -1))
        p = tf.exp(log_p)
        entropy = -tf.reduce_sum(tf.reduce_sum(p * log_p, -1) * mask, -1)
        total = earned + model.entropy_weight * entropy
        if model.reference is not None:
            prior = tf.nn.log_softmax(learner.logits_of(model, model.reference, x, all_of_them, 1))
            kl = tf.reduce_sum(tf.reduce_sum(p * (log_p - prior), -1) * mask, -1)
            total -= model.kl_weight * kl
        objective = -tf.reduce_sum(p_sequence * total)
    gradients = tape.gradient(objective, [v.value for v in model.decoder.trainable_variables])
    return [tf.convert_to_tensor(g).numpy() for g in gradients]


def in_expectation(estimator, weights):
    """The estimator with every prompt weighted, so that the mean over prompts is an expectation."""

    class Weighted(type(estimator)):
        def weights(self, group):
            return super().weights(group) * factor

        def gradient(self, group):
            return super().gradient(group) * tf.reshape(factor, [-1, 1, 1, 1])

    factor = tf.constant(np.asarray(weights)[:, np.newaxis] * len(weights))
    found = Weighted.__new__(Weighted)
    found.__dict__.update(estimator.__dict__)
    # A gradient that calls `weights` itself is weighted once.
    if type(estimator).__name__ == "SequenceRelax":
        return found
    Weighted.gradient = type(estimator).gradient
    return found


def expected(model, all_of_them, groups, weights, seed=0):
    """The expectation of the estimate: groups of sequences, and the probability of each."""
    rows = np.asarray(groups)
    model.estimator = in_expectation(model.estimator, weights)
    drawn = chosen(all_of_them, rows.reshape(-1))
    finished = sequences.Finished(drawn.tokens.numpy(), drawn.lengths.numpy(), None, None)
    earned = model.reward(finished)
    zeros = tf.zeros_like(drawn.mask)
    at_end, of_tokens = (earned, zeros) if earned.ndim == 1 else (zeros[:, 0], earned * drawn.mask)
    exists = tf.ones(rows.shape, tf.bool)
    evidence = model._differentiate(
        prompts(len(rows)), drawn, exists, tf.constant(at_end), tf.constant(of_tokens),
        tf.constant([seed, 1]),
    )  # fmt: skip
    learned = len(model.decoder.trainable_variables)
    return [tf.convert_to_tensor(g).numpy() for g in evidence.gradients[:learned]]


def independent(p, count):
    """All groups of independent sequences, and their probabilities."""
    groups = list(itertools.product(range(len(p)), repeat=count))
    return groups, [np.prod(p[list(group)]) for group in groups]


def sets(p, count):
    """All sets of different sequences, and their probabilities without replacement."""
    groups = list(itertools.combinations(range(len(p)), count))

    def probability(order):
        left, result = 1.0, 1.0
        for k in order:
            result *= p[k] / left
            left -= p[k]
        return result

    return groups, [sum(map(probability, itertools.permutations(group))) for group in groups]


def error(found, truth):
    """The largest difference, relative to the largest derivative."""
    largest = max(np.abs(t).max() for t in truth)
    return max(np.abs(f - t).max() for f, t in zip(found, truth, strict=True)) / largest
