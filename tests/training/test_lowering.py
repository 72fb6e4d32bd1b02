"""The training step lowers for devices that this machine does not have.

For GPUs TensorFlow knows which operations XLA can compile there. It knows nothing of TPUs unless it
was built for them; what holds for both is that the program consists of StableHLO alone.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tests.training.lowered import lowered
from tf_relax import layers
from tf_relax.estimators import Rebar

LAYERS = {
    "bernoulli": lambda: layers.RelaxBernoulli(prior="learned"),
    "categorical": lambda: layers.RelaxCategorical(prior="uniform"),
    "plackett_luce": lambda: layers.RelaxPermutation(),
}


def model_of(layer, estimator):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    code = keras.layers.Flatten()(layer(keras.layers.Dense(4)(inputs)))
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(6)(code))
    loss = tf_relax.losses.BernoulliNLL()
    model.compile("adam", loss, estimator=estimator, jit_compile=False)
    return model


@pytest.mark.parametrize("name", LAYERS)
def test_the_step_is_a_program_for_gpus(name):
    pair = Rebar(num_samples=2, coupling="antithetic")
    model = model_of(LAYERS[name](), pair if name == "bernoulli" else "relax")
    x = np.ones((4, 6), "float32")
    model.fit(x, x, verbose=0)  # makes every variable
    data = [tf.constant(x)] * 2
    program = lowered(lambda *batch: model.train_step(batch), data, "GPU")
    assert "stablehlo.dot" in program
    assert "custom_call" not in program


def test_what_xla_cannot_compile_there_is_found():
    """A step with an operation that has no kernel for a GPU."""
    variable = tf.Variable(1.0)

    def step(x):
        variable.assign(tf.strings.to_number(tf.strings.as_string(x)))

    with pytest.raises(ValueError, match="XLA_GPU_JIT"):
        lowered(step, [tf.constant(1.0)], "GPU")
