"""Sequences as they are drawn: how often each comes, alone and in sets without replacement."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.sequences import small_language as small
from tf_relax import sequences

DRAWS = 40_000


def keys(tokens):
    return tokens @ (10 ** np.arange(tokens.shape[-1]))


def z_scores(counts, p, draws):
    return (counts - draws * p) / np.sqrt(draws * p * (1 - p))


@pytest.mark.parametrize("stop", [small.STOP, None])
def test_sequences_come_as_often_as_they_should(stop, rng):
    model = small.make(rng, sequences.SequenceReinforce(), stop=stop)
    listed = small.listed(stop)
    p = small.probabilities(model, listed)
    drawn = model.sample(small.prompts(DRAWS), seed=0)
    found = keys(drawn.tokens.numpy())
    counts = np.array([np.sum(found == key) for key in keys(listed.tokens.numpy())])
    assert counts.sum() == DRAWS  # none that is not listed
    assert np.abs(z_scores(counts, p, DRAWS)).max() < 5
    masks = dict(zip(keys(listed.tokens.numpy()), listed.mask.numpy(), strict=True))
    np.testing.assert_array_equal(drawn.mask[:200], [masks[key] for key in found[:200]])


@pytest.mark.parametrize("count", [2, 3])
def test_sets_come_as_often_as_they_should(count, rng):
    model = small.make(rng, sequences.SequenceUnorderedSet(count))
    listed = small.listed()
    known = keys(listed.tokens.numpy())
    groups, p = small.sets(small.probabilities(model, listed), count)
    drawn = model.sample_without_replacement(small.prompts(DRAWS), count, seed=0)
    found = keys(drawn.tokens.numpy()).reshape(DRAWS, count)
    rows = np.sort(np.searchsorted(known, found, sorter=np.argsort(known)), axis=1)
    rows = np.sort(np.argsort(known)[rows], axis=1)
    names = {group: k for k, group in enumerate(groups)}
    counts = np.bincount([names[tuple(row)] for row in rows], minlength=len(groups))
    often = np.array(p) * DRAWS > 20  # the others are not normal
    z = z_scores(counts, np.array(p), DRAWS)[often]
    assert often.sum() > 10
    assert np.abs(z).max() < 5


def test_all_sequences_there_are(rng):
    model = small.make(rng, sequences.SequenceUnorderedSet(15))
    drawn = model.sample_without_replacement(small.prompts(5), 15, seed=1)
    expected = np.sort(keys(small.listed().tokens.numpy()))
    for found in keys(drawn.tokens.numpy()).reshape(5, 15):
        np.testing.assert_array_equal(np.sort(found), expected)


def test_more_sequences_than_there_are(rng):
    model = small.make(rng, sequences.SequenceUnorderedSet(16))
    with pytest.raises(ValueError, match="prompt 0 has 15 sequences, and num_samples=16"):
        model.sample_without_replacement(small.prompts(2), 16)
    # An estimate from all there are is exact.
    evidence = model.differentiate(small.prompts(3), seed=tf.constant([0, 1]))
    truth = small.exact(model, small.listed())
    found = [tf.convert_to_tensor(g).numpy() for g in evidence.gradients]
    assert small.error(found, truth) < 1e-6


def test_the_most_probable_tokens(rng):
    model = small.make(rng, sequences.SequenceReinforce())
    read = [1]
    for _ in range(small.LENGTH):
        read.append(int(np.argmax(model.decoder(np.array([read]))[0, -1])))
        if read[-1] == small.STOP:
            break
    greedy = model(small.prompts(1))[0].numpy()
    np.testing.assert_array_equal(greedy[: len(read) - 1], read[1:])


@keras.saving.register_keras_serializable(package="tests")
class Recurrent(sequences.Decoder):
    """A GRU of tokens and a context, with its state for a memory."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.embed = keras.layers.Embedding(5, 6)
        self.cell = keras.layers.GRUCell(6)
        self.read = keras.layers.RNN(self.cell, return_sequences=True)
        self.head = keras.layers.Dense(5)

    def call(self, inputs):
        context, tokens = inputs
        return self.head(self.read(self.embed(tokens), initial_state=context))

    def begin(self, inputs):
        context, prompt = inputs
        state = context
        for t in range(prompt.shape[1]):
            state = self.cell(self.embed(prompt[:, t]), state)[0]
        return self.head(state), {"state": state}

    def advance(self, token, memory):
        state = self.cell(self.embed(token), memory["state"])[0]
        return self.head(state), {"state": state}


class Forgetful(keras.Model):
    """The same without a memory."""

    def __init__(self, decoder):
        super().__init__()
        self.decoder = decoder

    def call(self, inputs, training=None):
        return self.decoder(inputs)


@pytest.mark.parametrize("xla", [False, True])
def test_memory_draws_what_reading_again_draws(xla, rng):
    context, prompt = rng.normal(size=(7, 6)).astype("float32"), rng.integers(0, 5, (7, 2))
    decoder = Recurrent()
    models = [sequences.SequenceModel(d, 4, 0) for d in (decoder, Forgetful(decoder))]
    for model in models:
        model.compile("sgd", reward=small.reward, jit_compile=xla)
    first, second = [model.sample([context, prompt], 3, seed=5) for model in models]
    np.testing.assert_array_equal(first.tokens, second.tokens)
    np.testing.assert_array_equal(first.mask, second.mask)
    first, second = [
        model.sample_without_replacement([context, prompt], 4, seed=5) for model in models
    ]
    np.testing.assert_array_equal(first.tokens, second.tokens)
    several = [np.repeat(context, 4, axis=0), np.repeat(prompt, 4, axis=0)]
    np.testing.assert_allclose(
        models[0].log_prob(several, first), models[1].log_prob(several, second), rtol=1e-5
    )


def test_impossible_tokens_are_never_drawn():
    """A pointer to places: none is visited twice, and every tour is a permutation."""
    tokens = keras.Input((None,), dtype="int32")

    class Visited(keras.layers.Layer):
        def call(self, tokens):
            seen = tf.cumsum(tf.one_hot(tokens, 5), axis=1)
            return tf.where(seen > 0, -float("inf"), tf.zeros_like(seen))

    model = sequences.SequenceModel(keras.Model(tokens, Visited()(tokens)), 4)
    start = np.zeros((50, 1), "int32")
    for drawn in (model.sample(start, 2), model.sample_without_replacement(start, 24)):
        np.testing.assert_array_equal(
            np.sort(drawn.tokens, axis=1), np.tile([1, 2, 3, 4], (len(drawn.tokens), 1))
        )
    np.testing.assert_allclose(
        model.log_prob(np.repeat(start, 24, axis=0), drawn), -np.log(24), rtol=1e-5
    )


class Counting(sequences.Decoder):
    """Shares what it computes of a context, and counts the rows that it does so for."""

    def __init__(self):
        super().__init__()
        self.head = keras.layers.Dense(5)
        self.rows = []

    def encode(self, context):
        self.rows.append(context[0].shape[0])
        return [self.head(x) for x in context]

    def call(self, inputs):
        encoded, tokens = inputs
        return encoded[:, tf.newaxis] + 2.0 * tf.one_hot((tokens + 1) % 5, 5)

    def begin(self, inputs):
        encoded, prompt = inputs
        return self.call([encoded, prompt])[:, -1], encoded

    def advance(self, token, memory):
        return self.call([memory, token[:, tf.newaxis]])[:, 0], memory


def test_a_context_is_encoded_once_for_all_sequences(rng):
    decoder = Counting()
    model = sequences.SequenceModel(decoder, 3)
    model.compile("sgd", small.reward, "leave_one_out", run_eagerly=True)
    context = rng.normal(size=(6, 2)).astype("float32")
    model.fit([context, np.ones((6, 1), "int32")], batch_size=6, verbose=0)
    assert decoder.rows[-2:] == [6, 6]  # drawn and scored, four sequences of each


def test_a_prompt_for_every_sequence(rng):
    decoder = Counting()
    seen = []

    def reward(finished):
        seen.append(finished)
        return finished.tokens.sum(axis=1)

    model = sequences.SequenceModel(decoder, 2)
    model.compile("sgd", reward, "leave_one_out", jit_compile=False)
    context = np.zeros((6, 2), "float32")
    starts = np.tile(np.arange(4)[:, np.newaxis], (6, 1, 1)).astype("int32")
    model.fit([context, starts], batch_size=6, verbose=0)
    np.testing.assert_array_equal(seen[0].x[1], np.tile([[0], [1], [2], [3]], (6, 1)))
    drawn = model.predict([context, starts], verbose=0)
    np.testing.assert_array_equal(drawn[:4], [[1, 2], [2, 3], [3, 4], [4, 0]])
    model.evaluate([context, starts], verbose=0)
    with pytest.raises(ValueError, match="are for 4 sequences of every example, and 3 are to be"):
        model.sample([context, starts], 3)
    with pytest.raises(ValueError, match="without replacement, of one prompt"):
        model.sample_without_replacement([context, starts], 4)
