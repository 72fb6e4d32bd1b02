"""Models that are quantized, as in Keras."""

import keras
import numpy as np
import pytest

from tests.models import bernoulli
from tests.training.habits import assert_same_state, compiled, fit, held
from tf_relax import RelaxModel
from tf_relax.estimators import Relax

# As in Keras, layers without weights say so.
unquantized = pytest.mark.filterwarnings("ignore:.*does not have a `quantize` method:UserWarning")


@unquantized
# As in Keras, what an optimizer knew of kernels that are constants now is lost.
@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer:UserWarning")
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_quantized_models_are_saved_and_train_as_in_keras(optimizer, tmp_path):
    inputs = keras.Input((3,))
    code = bernoulli()(keras.layers.Dense(2, name="encoder")(inputs))
    model = RelaxModel(inputs, keras.layers.Dense(2, name="decoder")(code))
    fit(compiled(model, optimizer, estimator=Relax(surrogate="network")))
    surrogate = model.estimator_state["code"].surrogate.get_weights()
    assert surrogate
    model.quantize("int8")
    for name in ("encoder", "decoder"):
        assert model.get_layer(name).kernel.dtype == "int8"
    again = model.estimator_state["code"].surrogate.get_weights()
    for a, b in zip(surrogate, again, strict=True):
        np.testing.assert_array_equal(a, b)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert_same_state(again, model)
    bias = model.get_layer("decoder").bias.numpy()
    kernel = model.get_layer("decoder").get_weights()
    for one in (model, again):
        fit(one)  # biases learn, kernels are constants now
        assert (one.get_layer("decoder").bias.numpy() != bias).any()
        changed = [
            (a != b).any()
            for a, b in zip(kernel, one.get_layer("decoder").get_weights(), strict=True)
        ]
        assert sum(changed) == 1


@unquantized
@pytest.mark.parametrize(
    "filters", ["decoder", ["deco", "nothing"], lambda layer: layer.name == "decoder"]
)
def test_layers_to_be_quantized_are_chosen_as_in_keras(filters):
    inputs = keras.Input((3,))
    code = bernoulli()(keras.layers.Dense(2, name="encoder")(inputs))
    model = RelaxModel(inputs, keras.layers.Dense(2, name="decoder")(code))
    compiled(model, estimator=Relax(surrogate="network"))
    model.quantize("int8", filters=filters)
    quantized = {v.path for v in held(model) if v.dtype == "int8"}
    assert quantized == {"decoder/kernel"}
