"""SavedModels, in a process that knows nothing of this package."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.serving.models import OTHERS, PLAIN, X, served
from tf_relax import RelaxModel, layers

ELSEWHERE = """
import sys
import numpy as np, tensorflow as tf
folder = sys.argv[1]
given = dict(np.load(f"{folder}/given.npz"))
x, seeds = [given["one"], given["two"]], np.arange(6)
loaded = tf.saved_model.load(f"{folder}/model")
found = {}
def keep(name, outputs):
    found.update({f"{name}/{key}": value.numpy() for key, value in outputs.items()})
keep("serve", loaded.serve(x))
keep("again", loaded.serve(x))
reloaded = tf.saved_model.load(f"{folder}/model")
keep("reloaded", reloaded.serve(x))
keep("seeded", loaded.seeded(x, seeds))
keep("reversed", loaded.seeded([part[::-1] for part in x], seeds[::-1]))
keep("alone", loaded.seeded([part[2:3] for part in x], seeds[2:3]))
keep("other", loaded.seeded(x, seeds + 100))
keep("mode", loaded.mode(x))
keep("probabilities", loaded.probabilities(x))
assert "tf_relax" not in sys.modules
np.savez(f"{folder}/{sys.argv[2]}.npz", **found)
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """The model, and what two other processes got from its SavedModel."""
    folder = tmp_path_factory.mktemp("served")
    model = served({**PLAIN, **OTHERS})
    model.export(folder / "model", verbose=False)
    np.savez(folder / "given.npz", one=X[0], two=X[1])
    found = []
    for process in ("one", "two"):
        command = [sys.executable, "-c", ELSEWHERE, str(folder), process]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        outputs = {}
        for key, value in np.load(folder / f"{process}.npz").items():
            endpoint, name = key.split("/")
            outputs.setdefault(endpoint, {})[name] = value
        found.append(outputs)
    return model, *found


RANDOM = [*PLAIN, *OTHERS, "nested"]


def differ(one, other):
    """Whether samples of several kinds differ: those of all kinds agree once in 10^9 draws."""
    return any(
        (one[name] != other[name]).any() for name in RANDOM if name in one.keys() & other.keys()
    )


def test_samples_are_fresh_in_every_call_reload_and_process(elsewhere):
    _, one, two = elsewhere
    draws = [found[name] for found in (one, two) for name in ("serve", "again", "reloaded")]
    for k, draw in enumerate(draws):
        assert all(differ(other, draw) for other in draws[:k])
        np.testing.assert_allclose(draw["sum"], X[0] + X[1], rtol=1e-6)
        assert set(np.unique(draw["bits"])) <= {0, 1}
        np.testing.assert_array_equal(draw["one_hot"].sum(axis=-1), 1)
        np.testing.assert_array_equal(draw["subset"].sum(axis=-1), 2)


def test_a_seed_draws_the_same_for_an_example_in_every_batch_and_process(elsewhere):
    _, one, two = elsewhere
    for name in RANDOM:
        np.testing.assert_array_equal(one["seeded"][name], two["seeded"][name])
        np.testing.assert_array_equal(two["seeded"][name], two["reversed"][name][::-1])
        # The noise is the same to the last digit; products of one row are not those of several.
        np.testing.assert_allclose(one["seeded"][name][2:3], one["alone"][name], rtol=1e-5)
    assert differ(one["seeded"], one["other"])
    rows = one["seeded"]["normal"]
    assert len(np.unique(rows)) == rows.size  # examples do not share their noise


def test_modes_are_those_of_the_layers(elsewhere):
    _, one, _ = elsewhere
    expected = served({**PLAIN, **OTHERS}, inference="mode").predict(X, verbose=0)
    for name, value in expected.items():
        np.testing.assert_allclose(one["mode"][name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_probabilities_are_the_means_of_the_layers(elsewhere):
    model, one, _ = elsewhere
    known = {"bits", "one_hot", "index", "sticks", "poisson", "geometric", "normal", "inner"}
    assert known <= one["probabilities"].keys()
    np.testing.assert_allclose(one["probabilities"]["index"].sum(axis=-1), 1, rtol=1e-5)
    for name, mean in (
        ("bits", lambda a: 1 / (1 + np.exp(-a))),
        ("geometric", lambda a: np.exp(-a)),
    ):
        logits = keras.Model(model.input, model.get_layer(name).input).predict(X, verbose=0)
        np.testing.assert_allclose(one["probabilities"][name], mean(logits), rtol=1e-5)


def test_samples_have_the_probabilities(tmp_path):
    """Of 4,000 examples; 5 standard errors fail once in 10^6."""
    inputs = keras.Input((2,))
    RelaxModel(inputs, layers.RelaxBernoulli()(inputs)).export(tmp_path / "model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "model")
    x = np.tile(np.float32([[-1.0, 0.5]]), (4000, 1))
    p = 1 / (1 + np.exp(-x[0]))
    error = np.sqrt(p * (1 - p) / 4000)
    for outputs in (loaded.serve(x), loaded.seeded(x, np.arange(4000))):
        assert np.all(np.abs(np.mean(outputs, axis=0) - p) < 5 * error)


def test_a_layer_that_is_called_twice_and_always_trains(tmp_path):
    """Every call draws noise of its own and has its own mean; modes are modes all the same."""
    inputs = keras.Input((40,))
    code = layers.RelaxBernoulli(name="code")
    outputs = [code(inputs, training=True), code(-inputs, training=True)]
    RelaxModel(inputs, outputs).export(tmp_path / "model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "model")
    x = np.linspace(-1, 1, 40, dtype="float32")[None]
    p = loaded.probabilities(x)
    assert p.keys() == {"code", "code.1"}  # in the order in which Keras runs the graph
    means = sorted([p["code"].numpy(), p["code.1"].numpy()], key=lambda mean: mean[0, 0])
    np.testing.assert_allclose(means[0], 1 / (1 + np.exp(-x)), rtol=1e-5)
    np.testing.assert_allclose(means[1], 1 / (1 + np.exp(x)), rtol=1e-5)
    one, two = loaded.mode(x)
    np.testing.assert_array_equal(one, x > 0)
    np.testing.assert_array_equal(two, x < 0)
    zero = np.zeros((1, 40), "float32")
    assert (loaded.serve(zero)[0].numpy() != loaded.serve(zero)[1].numpy()).any()
    one, two = loaded.seeded(zero, [3])
    assert (one.numpy() != two.numpy()).any()


def test_sequences_draw_for_every_step_of_an_example(tmp_path):
    inputs = keras.Input((3, 2))
    rows = keras.layers.TimeDistributed(layers.RelaxNormal())(inputs)
    model = RelaxModel(inputs, rows)
    model.export(tmp_path / "model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "model")
    x = tf.zeros((4, 3, 2))
    drawn = loaded.seeded(x, [5, 6, 7, 8]).numpy()
    np.testing.assert_array_equal(drawn[1:2], loaded.seeded(x[:1], [6]).numpy())
    assert len(np.unique(drawn)) == drawn.size


@pytest.mark.parametrize(("layer", "width"), [(layers.GumbelSinkhorn, 3), (layers.Rounding, 6)])
def test_python_code_is_refused(layer, width, tmp_path):
    inputs = keras.Input((3, width))
    model = RelaxModel(inputs, layer(name="match")(inputs))
    with pytest.raises(ValueError, match=f"{layer.__name__} 'match' runs Python code"):
        model.export(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_other_formats_are_those_of_a_plain_model(tmp_path):
    inputs = keras.Input((3,))
    model = RelaxModel(inputs, layers.RelaxBernoulli()(inputs))
    with pytest.raises(ValueError, match=r"tf_relax.for_inference\(model\).export"):
        model.export(tmp_path / "model.onnx", format="onnx")
    with pytest.raises(TypeError, match=r"has no \['opset_version'\]"):
        model.export(tmp_path / "model", opset_version=17)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_xla_serves_them(tmp_path):
    """All but Poisson counts, whose sampler needs a batch of known size."""
    kinds = {name: kind for name, kind in {**PLAIN, **OTHERS}.items() if name != "poisson"}
    served(kinds).export(tmp_path / "model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "model")
    serve = tf.function(loaded.serve, jit_compile=True)
    one, two = ({k: v.numpy() for k, v in serve(X).items()} for _ in range(2))
    assert any((one[name] != two[name]).any() for name in kinds)
    seeded, seeds = tf.function(loaded.seeded, jit_compile=True), np.arange(6)
    drawn, backwards = seeded(X, seeds), seeded([part[::-1] for part in X], seeds[::-1])
    for name in (*kinds, "nested"):
        np.testing.assert_array_equal(drawn[name], backwards[name].numpy()[::-1])
