"""Tables whose rows are looked up: they train as in a product of matrices."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tests.models import bernoulli
from tests.training.habits import Y, compiled, fit
from tf_relax import RelaxModel


def lookups(gather):
    """Rows of a table as logits; `gather` looks them up."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((2,), dtype="int32")
    a = keras.layers.Flatten()(gather(inputs))
    return RelaxModel(inputs, keras.layers.Dense(2)(bernoulli(seed=1)(a)))


class OneHot(keras.layers.Layer):
    """The same table as a product of matrices, whose gradient has all rows."""

    def __init__(self):
        super().__init__()
        self.embeddings = self.add_weight(shape=(5, 2), initializer="ones", name="embeddings")

    def call(self, x):
        return tf.one_hot(x, 5) @ self.embeddings


class Gather(OneHot):
    def call(self, x):
        return tf.gather(tf.convert_to_tensor(self.embeddings), x)


TABLES = {
    "embedding": lambda: keras.layers.Embedding(5, 2, embeddings_initializer="ones"),
    "gather": Gather,
}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("optimizer", ["sgd", "clipnorm", "global_clipnorm", "accumulation"])
def test_rows_that_are_looked_up_train_as_in_a_product(table, optimizer):
    options = {
        "sgd": {},
        "clipnorm": {"clipnorm": 1e-3},
        "global_clipnorm": {"global_clipnorm": 1e-3},
        "accumulation": {"gradient_accumulation_steps": 2},
    }[optimizer]
    # By itself Keras measures the norm of a lookup before it adds up what one row gets twice.
    x, found = np.array([[0, 1], [2 if optimizer == "clipnorm" else 1, 3]]), []
    for make in (TABLES[table], OneHot):
        layer = make()
        model = compiled(lookups(layer), keras.optimizers.SGD(0.5, **options))
        fit(model, x, Y[:2], epochs=2)
        found.append(layer.embeddings.numpy())
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)
    assert (found[0] != 1).any()


@pytest.mark.parametrize("ways", [{"run_eagerly": True}, {"jit_compile": False}], ids=str)
def test_audit_of_rows_that_are_looked_up(ways):
    x, rows = np.array([[0, 1], [1, 3]]), []
    for make in (TABLES["embedding"], OneHot):
        model = compiled(lookups(make()), **{"run_eagerly": None, **ways})
        keras.utils.set_random_seed(2)
        options = {"num_samples": 8, "surrogate_steps": 1, "verbose": 0, "reference": "disarm"}
        rows.append(tf_relax.audit(model, x, Y[:2], ["disarm"], **options).rows[0])
    assert rows[0].weight_variance == pytest.approx(rows[1].weight_variance, rel=1e-3)
    assert rows[0].model_variance == pytest.approx(rows[1].model_variance, rel=1e-3)
    fit(model, x, Y[:2], callbacks=[tf_relax.callbacks.GradientVariance(x, Y[:2])])
