"""Models to serve: every kind of discrete layer, several inputs and outputs, nested."""

import keras
import numpy as np

from tf_relax import RelaxModel, layers

X = [np.random.default_rng(0).normal(size=(6, 5)).astype("float32") for _ in range(2)]

# Those whose modes Keras's own operations express.
PLAIN = {
    "bits": (4, lambda **kwargs: layers.RelaxBernoulli(prior="learned", **kwargs)),
    "one_hot": (4, lambda **kwargs: layers.RelaxCategorical(prior="uniform", **kwargs)),
    "index": (4, lambda **kwargs: layers.RelaxCategorical(output="index", **kwargs)),
    "subset": (4, lambda **kwargs: layers.RelaxTopK(2, output="set", **kwargs)),
    "places": (4, lambda **kwargs: layers.RelaxTopK(2, output="ordered", **kwargs)),
    "order": (4, lambda **kwargs: layers.RelaxPermutation(**kwargs)),
    "ranks": (4, lambda **kwargs: layers.RelaxPermutation(output="index", **kwargs)),
    "poisson": (3, lambda **kwargs: layers.RelaxPoisson(**kwargs)),
    "geometric": (3, lambda **kwargs: layers.RelaxGeometric(**kwargs)),
    "normal": (4, lambda **kwargs: layers.RelaxNormal(**kwargs)),
}
OTHERS = {
    "sticks": (3, lambda **kwargs: layers.RelaxCategorical(method="stick_breaking", **kwargs)),
    "tree": (6, lambda **kwargs: layers.RelaxSpanningTree(**kwargs)),
}


def served(kinds, inference="sample", nested=True):
    """A model with a layer of every kind, a nested one, and an output that is no sample."""
    keras.utils.set_random_seed(1)
    one, two = keras.Input((5,), name="one"), keras.Input((5,), name="two")
    hidden = keras.layers.BatchNormalization()(keras.layers.Dense(8, "tanh")(one))
    outputs = {"sum": keras.layers.Add()([one, two])}
    for name, (size, make) in kinds.items():
        layer = make(name=name, inference=inference)
        outputs[name] = layer(keras.layers.Dense(size)(hidden))
    if nested:
        code = keras.Input((4,))
        units = layers.RelaxBernoulli(inference=inference, name="inner")(code)
        inner = RelaxModel(code, keras.layers.Dense(3)(units), name="nested")
        outputs["nested"] = inner(keras.layers.Dense(4)(hidden))
    return RelaxModel([one, two], outputs)
