"""Prompts of different lengths side by side: as if every one were alone."""

import keras
import numpy as np
import pytest

from tf_relax import sequences

PAD, STOP, VOCABULARY, LENGTH = 0, 1, 5, 4


@pytest.fixture(params=["gru", "lstm"])
def model(request):
    keras.utils.set_random_seed(3)
    tokens = keras.Input((None,), dtype="int32")
    embedded = keras.layers.Embedding(VOCABULARY, 6, mask_zero=True)(tokens)
    layer = {"gru": keras.layers.GRU, "lstm": keras.layers.LSTM}[request.param]
    read = layer(8, return_sequences=True)(embedded)
    logits = keras.layers.Dense(VOCABULARY, kernel_initializer="glorot_normal")(read)
    # The padding is no word of the language.
    never = keras.ops.one_hot(PAD, VOCABULARY) * -1e9
    model = sequences.SequenceModel(
        keras.Model(tokens, logits + never), max_length=LENGTH, stop_token=STOP
    )
    model.compile("sgd", reward=lambda finished: finished.lengths, jit_compile=False)
    return model


PROMPTS = [[2], [3, 2, 4], [4, 4]]


def padded(prompts):
    width = max(map(len, prompts))
    return np.array([[PAD] * (width - len(x)) + x for x in prompts], "int32")


def test_scores_and_most_probable_tokens_are_those_of_each_alone(model):
    together = padded(PROMPTS)
    drawn = model.sample(together, num_samples=3, seed=0)
    scores = model.log_prob(np.repeat(together, 3, axis=0), drawn).numpy().reshape(3, 3)
    greedy = model.predict(together, verbose=0)
    for k, prompt in enumerate(PROMPTS):
        alone = np.array([prompt] * 3, "int32")
        own = [np.asarray(field)[3 * k : 3 * k + 3] for field in drawn]
        expected = model.log_prob(alone, type(drawn)(*own)).numpy()
        np.testing.assert_allclose(scores[k], expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(greedy[k], model.predict(alone[:1], verbose=0)[0])
    assert np.ptp(scores) > 0.1
    assert not (drawn.tokens.numpy()[drawn.mask.numpy() > 0] == PAD).any()


def test_training_from_them(model):
    history = model.fit(np.tile(padded(PROMPTS), (4, 1)), epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
