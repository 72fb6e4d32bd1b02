"""Plain Keras models, and the runtimes that take them."""

import importlib.util
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.serving.models import OTHERS, PLAIN, X, served
from tf_relax import RelaxModel, for_inference, layers

# A process to which this package does not exist.
ELSEWHERE = """
import sys
class Nowhere:
    def find_spec(self, name, *rest):
        if name.partition(".")[0] == "tf_relax":
            raise ImportError(name)
sys.meta_path.insert(0, Nowhere())
import keras, numpy as np
folder = sys.argv[1]
for inference in ("mode", "mean"):
    model = keras.saving.load_model(f"{folder}/{inference}.keras")
    given = np.load(f"{folder}/{inference}.npz")
    found = model.predict([given["one"], given["two"]], verbose=0)
    for name, value in found.items():
        np.testing.assert_allclose(value, given[f"of_{name}"], rtol=1e-6, err_msg=name)
"""
MEANS = {name: PLAIN[name] for name in ("bits", "one_hot", "poisson", "geometric", "normal")}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert other[name].dtype == value.dtype, name
        np.testing.assert_allclose(other[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_it_answers_as_the_model_and_loads_where_keras_is_alone(tmp_path):
    for inference, kinds in (("mode", PLAIN), ("mean", MEANS)):
        model = served(kinds, inference)
        plain = for_inference(model, inference)
        found = plain.predict(X, verbose=0)
        assert_same(model.predict(X, verbose=0), found)
        assert not any(type(x).__module__.startswith("tf_relax") for x in [plain, *plain.layers])
        plain.save(tmp_path / f"{inference}.keras")
        of = {f"of_{name}": value for name, value in found.items()}
        np.savez(tmp_path / f"{inference}.npz", one=X[0], two=X[1], **of)
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_weights_are_copies():
    model = RelaxModel([keras.Input((3,)), keras.layers.Dense(2), layers.RelaxBernoulli()])
    plain = for_inference(model, "mean")
    x = np.ones((1, 3))
    before = plain.predict(x, verbose=0)
    model.layers[0].kernel.assign(model.layers[0].kernel + 1)
    np.testing.assert_array_equal(plain.predict(x, verbose=0), before)
    assert for_inference(model, "mean").predict(x, verbose=0).mean() > before.mean()


def test_layers_that_are_called_twice_stay_one():
    inputs = keras.Input((3,))
    dense = keras.layers.Dense(3)
    model = RelaxModel(inputs, dense(layers.RelaxBernoulli(inference="mode")(dense(inputs))))
    plain = for_inference(model)
    x = np.eye(3)
    np.testing.assert_allclose(plain.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5)
    assert len(plain.weights) == 2


def test_masks():
    inputs, mask = keras.Input((4,)), keras.Input((4,), dtype="bool")
    model = RelaxModel([inputs, mask], layers.RelaxCategorical(inference="mode")(inputs, mask=mask))
    x = [np.float32([[3, 2, 1, 0]] * 2), np.array([[0, 1, 1, 1], [1, 1, 1, 1]], bool)]
    expected = model.predict(x, verbose=0)
    np.testing.assert_array_equal(for_inference(model).predict(x, verbose=0), expected)
    np.testing.assert_array_equal(expected.argmax(axis=1), [1, 0])


def test_what_keras_cannot_express_is_refused():
    for name, (size, make) in OTHERS.items():
        inputs = keras.Input((size,))
        model = RelaxModel(inputs, make(name=name)(inputs))
        with pytest.raises(ValueError, match=f"'{name}', its mode.*model.export"):
            for_inference(model)
    inputs = keras.Input((4,))
    with pytest.raises(ValueError, match="its mean"):
        for_inference(RelaxModel(inputs, layers.RelaxTopK(2)(inputs)), "mean")
    with pytest.raises(ValueError, match=r"must be one of.*`serve` and `seeded`"):
        for_inference(RelaxModel(inputs, layers.RelaxBernoulli()(inputs)), "sample")

    class Mine(RelaxModel):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match=r"subclassed Mine.*functionally"):
        for_inference(Mine())


def test_quantized():
    """int8 rounds weights: outputs stay within a few hundredths, and units on their side of 0."""
    keras.utils.set_random_seed(0)
    layer = layers.RelaxBernoulli(inference="mean")
    model = RelaxModel([keras.Input((16,)), keras.layers.Dense(8), layer, keras.layers.Dense(4)])
    x = np.random.default_rng(0).normal(size=(32, 16)).astype("float32")
    exact = model.predict(x, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers that have nothing to quantize
        model.quantize("int8")
    quantized = model.predict(x, verbose=0)
    assert 0 < np.abs(quantized - exact).max() < 0.1
    plain = for_inference(model, "mean")
    np.testing.assert_allclose(plain.predict(x, verbose=0), quantized, rtol=1e-5, atol=1e-6)
    assert any(weight.dtype == "int8" for weight in plain.weights)


def installed(*names):
    return all(importlib.util.find_spec(name) for name in names)


@pytest.mark.skipif(
    not installed("onnx", "onnxruntime", "tf2onnx"), reason="needs onnx, onnxruntime and tf2onnx"
)
@pytest.mark.filterwarnings("ignore")  # of the converter
@pytest.mark.parametrize(("inference", "kinds"), [("mode", PLAIN), ("mean", MEANS)])
def test_onnx(inference, kinds, tmp_path):
    import onnxruntime

    plain = for_inference(served(kinds, inference), inference)
    path = str(tmp_path / "model.onnx")
    plain(X)
    plain.export(path, format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(path)
    names = [given.name for given in session.get_inputs()]
    found = session.run(None, dict(zip(names, X, strict=True)))
    outputs = dict(zip([given.name for given in session.get_outputs()], found, strict=True))
    expected = plain.predict(X, verbose=0)
    for name, value in expected.items():
        np.testing.assert_allclose(outputs[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(("inference", "kinds"), [("mode", PLAIN), ("mean", MEANS)])
@pytest.mark.filterwarnings("ignore")  # of the interpreter, which moves to a package of its own
def test_litert(inference, kinds, tmp_path):
    plain = for_inference(served(kinds, inference), inference)
    plain.export(str(tmp_path / "model"), verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "model"))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]  # and no others
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    runner = interpreter.get_signature_runner("serving_default")
    given = sorted(runner.get_input_details())
    found = runner(**dict(zip(given, X, strict=True)))
    for name, value in plain.predict(X, verbose=0).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
