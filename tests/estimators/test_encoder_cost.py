"""However many samples an estimator takes, a step runs the encoder once, and once backwards."""

import keras
import pytest
import tensorflow as tf

import tf_relax
from tests.estimators.table import BERNOULLI
from tf_relax.estimators import Exact, MuProp
from tf_relax.sites import ancestors

# Those that run the model on several hard samples, or on samples and their means.
SEVERAL = [
    row
    for row in BERNOULLI
    if row.compiled and (row.samples > 1 or isinstance(row.estimator, (Exact, MuProp)))
]


def autoencoder(layers):
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3, activation="tanh", name="encoder_1")(inputs)
    x = keras.layers.Dense(3, activation="tanh", name="encoder_2")(x)
    for k in range(layers):
        b = tf_relax.layers.RelaxBernoulli(prior="learned", name=f"code_{k}")
        x = b(keras.layers.Dense(1, name=f"logits_{k}")(x))
    return tf_relax.RelaxModel(inputs, keras.layers.Dense(4)(x))


def products_with(variable, graph, outputs):
    """The matrix products that read a variable and that the outputs depend on."""
    (handle,) = [inner for outer, inner in graph.captures if outer is variable.value.handle]
    # Reading the variable, or casting and copying what was read.
    passing, reads = ("ReadVariableOp", "Identity", "Cast"), {handle.op}
    relevant = ancestors(outputs)
    grown = True
    while grown:
        more = {
            operation
            for operation in relevant - reads
            if operation.type in passing and operation.inputs[0].op in reads
        }
        reads |= more
        grown = bool(more)
    return [
        operation
        for operation in relevant
        if operation.type == "MatMul" and any(tensor.op in reads for tensor in operation.inputs)
    ]


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("row", SEVERAL, ids=repr)
def test_encoder_runs_once(row, layers):
    model = autoencoder(layers)
    samples = row.importance_samples
    model.compile("sgd", loss="mse", estimator=row.estimator, importance_samples=samples)
    counts = {}

    def step(x):
        gradients = [g for g in model.differentiate(x, x).gradients if g is not None]
        graph = tf.compat.v1.get_default_graph()
        for name in ("encoder_1", "encoder_2", "logits_0"):
            kernel = model.get_layer(name).kernel
            counts[name] = len(products_with(kernel, graph, gradients))
        return gradients

    tf.function(step, autograph=False).get_concrete_function(tf.TensorSpec((5, 4)))
    # Forward, and backward into the layer below: the inputs of the first have no gradient.
    assert counts == {"encoder_1": 1, "encoder_2": 2, "logits_0": 2}
