"""Models of sequences through `fit`, files, and exports."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tests.sequences import small_language as small
from tests.sequences.test_drawing import Recurrent
from tf_relax import sequences


@keras.saving.register_keras_serializable(package="tests")
def threes(finished):
    return (finished.tokens == 3).sum(axis=1) - 0.1 * np.asarray(finished.lengths)


@keras.saving.register_keras_serializable(package="tests")
def each_three(finished):
    return (finished.tokens == 3).astype("float64")


def decoder(vocabulary=5, **options):
    """Sees the latest token alone, which is enough here and quick."""
    tokens = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(vocabulary, 8)(tokens)
    return keras.Model(tokens, keras.layers.Dense(vocabulary, **options)(x))


def compiled(estimator="leave_one_out", reward=threes, jit_compile=False, **options):
    keras.utils.set_random_seed(1)
    model = sequences.SequenceModel(decoder(), 4, stop_token=0)
    model.compile(keras.optimizers.Adam(0.1), reward, estimator, jit_compile=jit_compile, **options)
    return model


X = np.ones((64, 1), "int32")


@pytest.mark.parametrize("reward", [threes, each_three])
@pytest.mark.parametrize("name", ["leave_one_out", "unordered_set", "relax", "grpo", "reinforce"])
def test_fit_finds_what_is_rewarded(name, reward):
    model = compiled(name, reward)
    history = model.fit(X, epochs=15, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert set(history.history) == {"loss", "reward", "length", "entropy"}
    np.testing.assert_array_equal(model.predict(X[:2], verbose=0), np.full((2, 4), 3))
    found = model.evaluate(X, verbose=0, return_dict=True)
    assert found["reward"] > (3.2 if reward is threes else 3.6)
    assert found["loss"] == pytest.approx(-found["reward"], abs=1e-5)


@pytest.mark.parametrize("name", ["leave_one_out", "unordered_set", "relax"])
def test_graphs_compute_what_eager_steps_compute(name):
    weights = []
    for options in ({}, {"run_eagerly": True}):
        model = compiled(name)
        model.build((None, 1))
        # Adam would turn the rounding of a derivative that is zero into steps.
        model.compile(keras.optimizers.SGD(0.1), threes, name, jit_compile=False, **options)
        model.seeds.state.assign([3, 4])
        model.fit(X, epochs=2, verbose=0, shuffle=False)
        weights.append(np.concatenate([w.reshape(-1) for w in model.decoder.get_weights()]))
    np.testing.assert_allclose(*weights, atol=1e-5)


@pytest.mark.parametrize("name", ["leave_one_out", "unordered_set"])
def test_xla_computes_what_graphs_compute(name):
    """For the same sequences: XLA draws others."""
    model = compiled(name, jit_compile=True)
    count = model.estimator.num_samples
    draw = model.sample_without_replacement if name == "unordered_set" else model.sample
    given = draw(X[:8], count, seed=1)
    rewards = tf.constant(threes(given._replace(tokens=given.tokens.numpy())), tf.float32)
    arguments = (
        tf.constant(X[:8]), given, tf.ones([8, count], tf.bool), rewards,
        tf.zeros_like(given.mask), tf.constant([1, 2]),
    )  # fmt: skip
    compiled_with_xla = model._differentiate_compiled(*arguments)
    plain = model._differentiate(*arguments)
    for x, y in zip(compiled_with_xla.gradients, plain.gradients, strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(x), tf.convert_to_tensor(y), atol=1e-5)


def test_the_reward_sees_prompts_and_targets():
    seen = []

    def reward(finished):
        seen.append(finished)
        return -np.abs(finished.tokens - finished.y[:, np.newaxis]).sum(axis=1)

    model = sequences.SequenceModel(Recurrent(), 3)
    model.compile("adam", reward, "leave_one_out", jit_compile=False)
    context = np.arange(12, dtype="float32").reshape(2, 6)
    model.fit([context, X[:2]], np.array([3, 1]), verbose=0)
    (finished,) = seen
    np.testing.assert_array_equal(finished.x[0], np.repeat(context, 4, axis=0))
    np.testing.assert_array_equal(finished.y, [3, 3, 3, 3, 1, 1, 1, 1])
    np.testing.assert_array_equal(finished.lengths, [3] * 8)


def test_a_reference_holds_back():
    """At a large weight the optimum is the reference; at a small one what is rewarded."""
    divergences = []
    for weight in (0.1, 30.0):
        keras.utils.set_random_seed(2)
        policy = decoder()
        reference = keras.models.clone_model(policy)
        reference.set_weights(policy.get_weights())
        model = sequences.SequenceModel(policy, 4, 0, reference=reference)
        model.compile(keras.optimizers.Adam(0.1), threes, kl_weight=weight, jit_compile=False)
        before = reference.get_weights()
        history = model.fit(X, epochs=15, verbose=0)
        for old, new in zip(before, reference.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)
        divergences.append(history.history["kl"][-1])
    assert divergences[0] > 1 > 0.1 > divergences[1]


@pytest.mark.parametrize("name", ["relax", "leave_one_out"])
def test_files_keep_everything(name, tmp_path):
    model = compiled(name, each_three, entropy_weight=0.1)
    model.fit(X, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert repr(again.estimator) == repr(model.estimator)
    assert again.reward is each_three
    assert (again.entropy_weight, again.stop_token) == (0.1, 0)
    pairs = [(model.weights, again.weights), (model.optimizer.variables, again.optimizer.variables)]
    if name == "relax":
        pairs.append((model.critic.variables, again.critic.variables))
    for old, new in pairs:
        assert len(old) == len(new) > 0
        for first, second in zip(old, new, strict=True):
            np.testing.assert_array_equal(first, second)
    # Both go on alike.
    for each in (model, again):
        each.seeds.state.assign([3, 4])
        history = each.fit(X, batch_size=64, verbose=0, shuffle=False)
    np.testing.assert_allclose(
        history.history["reward"], model.history.history["reward"], rtol=1e-6
    )


def test_a_file_keeps_a_decoder_with_memory(tmp_path, rng):
    model = sequences.SequenceModel(Recurrent(), 3)
    model.compile("sgd", threes, jit_compile=False)
    x = [rng.normal(size=(4, 6)).astype("float32"), X[:4]]
    model.fit(x, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    first, second = [each.sample(x, 2, seed=3) for each in (model, again)]
    np.testing.assert_array_equal(first.tokens, second.tokens)
    for old, new in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(old, new)


def test_an_export_decodes_in_another_process(tmp_path):
    model = compiled()
    model.fit(X, epochs=3, verbose=0)
    model.export(tmp_path / "served", verbose=False)
    expected = model.predict(X[:3], verbose=0)
    code = (
        "import sys, tensorflow as tf\n"
        "served = tf.saved_model.load(sys.argv[1])\n"
        "x = tf.ones((3, 1), 'int32')\n"
        "print(served.serve(x).numpy().tolist())\n"
        "print(served.sample(x, tf.constant([4, 0])).numpy().tolist())"
    )
    run = [sys.executable, "-c", code, str(tmp_path / "served")]
    output = subprocess.run(run, check=True, capture_output=True, text=True).stdout
    drawn = model.sample(X[:3], seed=4).tokens
    assert output.splitlines()[-2:] == [str(expected.tolist()), str(drawn.numpy().tolist())]


def test_summary_and_weights_are_those_of_the_decoder():
    model = compiled("relax")
    model.fit(X, verbose=0)
    names = [v.path for v in model.trainable_variables]
    assert names == [v.path for v in model.decoder.trainable_variables]


def test_another_estimator_after_training():
    model = compiled("leave_one_out")
    model.fit(X, verbose=0)
    model.compile("adam", threes, "relax", jit_compile=False)
    assert np.isfinite(model.fit(X, verbose=0).history["loss"]).all()


def test_half_precision_scores_in_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = compiled("relax")
    model.fit(X, verbose=0)
    drawn = model.sample(X, seed=1)
    assert drawn.mask.dtype == tf.float32
    assert model.log_prob(X, drawn).dtype == tf.float32
    assert model.critic.log_temperature.dtype == "float32"


def test_batches_of_one_and_a_remainder():
    model = compiled("unordered_set")
    history = model.fit(X[:33], batch_size=32, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_regularizers_count():
    keras.utils.set_random_seed(1)
    model = sequences.SequenceModel(decoder(kernel_regularizer="l2"), 4, 0)
    model.compile(
        keras.optimizers.SGD(1.0),
        lambda finished: np.zeros(len(finished.tokens)),
        jit_compile=False,
    )
    model.build((None, 1))
    regularized = next(v for v in model.trainable_variables if v.regularizer is not None)
    before = regularized.numpy()
    model.fit(X, batch_size=64, verbose=0)
    np.testing.assert_allclose(regularized.numpy(), 0.98 * before, rtol=1e-5)  # l2=.01, twice


BAD = {
    "no maximal length": (
        lambda: sequences.SequenceModel(decoder(), None),
        "needs a maximal length",
    ),
    "a stop token outside": (
        lambda: sequences.SequenceModel(decoder(), 4, stop_token=5).build((None, 1)),
        "stop_token=5 is not in the vocabulary",
    ),
    "no logits per token": (
        lambda: sequences.SequenceModel(
            keras.Sequential([keras.Input((None,), dtype="int32"), keras.layers.Embedding(5, 4),
                              keras.layers.GRU(5)]), 4).build((None, 1)),
        "logits of the token after every token",
    ),
    "another vocabulary": (
        lambda: sequences.SequenceModel(decoder(5), 4, reference=decoder(6)).build((None, 1)),
        "reference has logits of 6 tokens, the decoder of 5",
    ),
    "a prompt outside": (
        lambda: compiled().sample(np.array([[1], [7]])), "token 0 of prompt 1 is 7"
    ),
    "an empty prompt": (lambda: compiled().sample(np.zeros((2, 0), "int32")), "at least one token"),
    "a weight of nothing": (lambda: compiled(kl_weight=0.1), "there is none"),
    "no temperature": (lambda: sequences.SequenceModel(decoder(), 4, temperature=0), "above 0"),
    "an unknown estimator": (lambda: compiled("rebar"), "Unknown estimator of sequences"),
    "relax on the objective": (
        lambda: sequences.SequenceRelax(surrogate="objective"), "Use surrogate='network'"
    ),
    "one sample alone": (lambda: sequences.SequenceLeaveOneOut(1), "compares samples"),
    "sample weights": (
        lambda: compiled().fit(X, X, sample_weight=np.ones(64), verbose=0), "no sample weights"
    ),
    "no reward": (lambda: compiled(reward=None).fit(X, verbose=0), "no reward to train on"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused(name):
    make, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda f: np.zeros((3, 7)), r"returned shape \(3, 7\) for 256 sequences of at most 4"),
        (lambda f: np.where(np.arange(len(f.tokens)) == 5, np.nan, 0.0),
         r"reward of sequence 5 is nan. Its tokens are \["),
        (lambda f: np.full(f.tokens.shape, np.inf), "reward of sequence 0 at token 0 is inf"),
    ],
)  # fmt: skip
def test_rewards_that_are_none(reward, message):
    with pytest.raises(Exception, match=message):
        compiled(reward=reward).fit(X, batch_size=64, verbose=0)


def test_a_long_sequence_of_certain_tokens_is_finite():
    """Logits of +-80."""
    model = small.sequences.SequenceModel(decoder(), 30, stop_token=0)
    model.build((None, 1))
    head = model.decoder.layers[-1]
    head.kernel.assign(np.zeros(head.kernel.shape))
    head.bias.assign([-80.0, 80.0, 80.0, -80.0, 0.0])
    for name in ("unordered_set", "leave_one_out", "relax"):
        model.compile("sgd", threes, name, jit_compile=False)
        evidence = model.differentiate(tf.constant(X[:8]))
        assert all(np.isfinite(tf.convert_to_tensor(g)).all() for g in evidence.gradients)


def test_faces():
    assert tf_relax.sequences.SequenceModel is sequences.SequenceModel
