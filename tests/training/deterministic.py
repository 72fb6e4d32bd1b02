"""Two runs of a training under `tf.config.experimental.enable_op_determinism`, bit by bit.

    python -m tests.training.deterministic

A process of its own, since the mode cannot be left again. Prints a line per kind of run.
"""

import warnings

import keras
import numpy as np
import tensorflow as tf

import tf_relax

LAYERS = {
    "bits": lambda: tf_relax.layers.RelaxBernoulli(prior="learned"),
    "categories": lambda: tf_relax.layers.RelaxCategorical(prior="uniform"),
    "indices": lambda: tf_relax.layers.RelaxCategorical(output="index"),
    "subsets": lambda: tf_relax.layers.RelaxTopK(2),
    "order": lambda: tf_relax.layers.RelaxPermutation(),
    "tree": lambda: tf_relax.layers.RelaxSpanningTree(),
}


def weights_of_a_run(make, jit_compile=False):
    """Every number that two epochs leave behind."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    sample = make()(keras.layers.Dense(6)(inputs))
    if sample.dtype == "int32":
        sample = keras.layers.Embedding(6, 3)(sample)
    sample = keras.layers.Dropout(0.2)(keras.layers.Flatten()(sample))
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(3)(sample))
    model.compile("adam", loss="mse", estimator="relax", jit_compile=jit_compile)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 5)), rng.normal(size=(64, 3))
    model.fit(x, y, batch_size=16, epochs=2, verbose=0)
    state = [*model.variables, *model.optimizer.variables]
    return [np.asarray(v) for v in state + model.estimator_state.variables]


def main():
    warnings.simplefilter("ignore", DeprecationWarning)
    tf.config.experimental.enable_op_determinism()
    runs = [(name, make, False) for name, make in LAYERS.items()]
    for name, make, jit_compile in [*runs, ("bits under XLA", LAYERS["bits"], True)]:
        pair = [weights_of_a_run(make, jit_compile) for _ in range(2)]
        same = all(np.array_equal(a, b) for a, b in zip(*pair, strict=True))
        print(f"{name}: {'equal' if same else 'different'}")


if __name__ == "__main__":
    main()
