"""What two replicas do on two logical devices of this machine, written down for the tests.

    python tests/distribute/mirrored.py folder

A process of its own, because devices are set up before anything runs on them.
"""

from __future__ import annotations

import functools
import pathlib
import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf

import tf_relax
from tf_relax import estimators, layers, surrogates

UNITS = 2  # so that four outcomes are all there are


@functools.cache
def strategy():
    """One for all: TensorFlow numbers the collectives of every strategy alike."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def data(rows, width=3):
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, width)), rng.normal(size=(rows, 1))


def model(estimator, optimizer=None, loss="mse", middle=(), regularizer="l2", **options):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    bits = layers.RelaxBernoulli(prior="learned", seed=1, name="bits")(
        keras.layers.Dense(UNITS, name="logits")(inputs)
    )
    hidden = bits
    for layer in middle:
        hidden = layer()(hidden)
    outputs = keras.layers.Dense(1, kernel_regularizer=regularizer, name="decoder")(hidden)
    made = tf_relax.RelaxModel(inputs, outputs)
    optimizer = keras.optimizers.Adam(0.01) if optimizer is None else optimizer
    made.compile(optimizer, loss, estimator=estimator, **options)
    return made


def both(make):
    """The same model on one device and two."""
    one = make()
    with strategy().scope():
        return one, make()


def distance(one, two):
    pairs = zip(one.get_weights(), two.get_weights(), strict=True)
    return max(np.abs(a - b).max() for a, b in pairs)


def fitted(pair, rows, epochs):
    """How far two replicas end from one device, in weights and in the losses of all epochs."""
    x, y = data(rows)
    options = {"batch_size": 8, "epochs": epochs, "shuffle": False, "verbose": 0}
    losses = [made.fit(x, y, **options).history["loss"] for made in pair]
    return distance(*pair), np.abs(np.subtract(*losses)).max(), np.ptp(losses[0])


def exact():
    """Fifty steps, and then last batches of every kind."""
    pair = both(lambda: model("exact"))
    total = keras.losses.MeanSquaredError(reduction="sum")
    return {
        "even": fitted(pair, 24, 17),
        "uneven": fitted(pair, 21, 3),
        "one_row": fitted(pair, 17, 3),  # and nothing for the second replica
        "sum": fitted(both(lambda: model("exact", loss=total)), 21, 3),
        "eagerly": fitted(both(lambda: model("exact", run_eagerly=True)), 16, 1),
        "compiled": fitted(both(lambda: model("exact", jit_compile=True)), 8, 3),
    }


def tools():
    """What stands around a training, on one device and two: audits, callbacks, files."""
    x, y = data(8)
    one, two = both(lambda: model("nvil", regularizer=None))
    found = {}
    for name, made in (("one", one), ("two", two)):
        options = {"num_samples": 8, "surrogate_steps": 3, "verbose": 0}
        report = tf_relax.audit(made, x, y, ["reinforce", "nvil"], **options).to_dict()
        found[f"audit_{name}"] = [row["bits"]["variance"] for row in report.values()]
    with tempfile.TemporaryDirectory() as folder:
        callbacks = [
            tf_relax.callbacks.BackupAndRestore(f"{folder}/backup", save_freq=1),
            tf_relax.callbacks.GradientVariance(x, y, frequency=1),
            tf_relax.callbacks.Watch(x, y),
            keras.callbacks.ModelCheckpoint(f"{folder}/model.keras"),
            keras.callbacks.ReduceLROnPlateau(monitor="loss"),
            keras.callbacks.EarlyStopping(monitor="bits_gradient_variance", mode="min"),
        ]
        history = two.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=callbacks).history
        loaded = keras.saving.load_model(f"{folder}/model.keras")
    found["distance"] = distance(loaded, two)
    two.compile("adam", "mse", estimator="relax")  # outside of the scope that it was made in
    found["outside"] = two.fit(x, y, batch_size=4, verbose=0).history["loss"]
    found["variance"] = history["bits_gradient_variance"]
    found["watched"] = history["bits_entropy"]
    predicted = [made.predict(x, batch_size=8, verbose=0) for made in (loaded, two)]
    found["finite"] = np.isfinite([*predicted, np.full_like(predicted[0], found.pop("outside"))])
    return found


def differentiated(made, x, y, noises=None):
    """The gradients of one step, added up over replicas: a training loop of one's own."""
    replicas = made.distribute_strategy
    parts = replicas.num_replicas_in_sync

    def part(array):
        split = np.split(array, parts)
        return replicas.experimental_distribute_values_from_function(
            lambda context: tf.constant(split[context.replica_id_in_sync_group])
        )

    def step(x, y, noise, tildes):  # eagerly, as it runs once
        result = made.differentiate(x, y, noise=noise, conditional_noise=tildes)
        return [tf.convert_to_tensor(g) for g in result.gradients if g is not None]

    noise, tildes = noises or (None, None)
    noise, tildes = ([part(n) for n in each] if each else None for each in (noise, tildes))
    found = replicas.run(step, args=(part(x), part(y), noise, tildes))
    return [replicas.reduce("SUM", g, axis=None).numpy() for g in found]


# Of binary units, on one pass, whose noise can be given.
ESTIMATORS = [
    *("concrete", "dlax", "exact", "gumbel_straight_through", "muprop", "nvil", "rebar"),
    *("reinforce", "reinmax", "relax", "straight_through"),
]


def of_every_estimator():
    """The largest difference of any gradient between one device and two, given the same noise."""
    found = {}
    x, y = data(8)
    rng = np.random.default_rng(1)
    for name in ESTIMATORS:
        one, two = both(lambda: model(name, regularizer=None))  # noqa: B023
        tildes = [rng.logistic(size=(8, UNITS))] if one.estimator.num_z_tildes else None
        given = [rng.logistic(size=(8, UNITS))], tildes
        gradients = [differentiated(made, x, y, given) for made in (one, two)]
        pairs = zip(*gradients, strict=True)
        found[name] = max(np.abs(a - b).max() for a, b in pairs)
    return found


def noise():
    """What replicas draw: in training, with dropout alone, and without training."""
    rows = np.zeros((64, 3))
    with strategy().scope():
        made = model("relax", jit_compile=False)
        again = model("relax", jit_compile=False)
    predicted = [m.predict(rows, batch_size=64, verbose=0).reshape(2, 32) for m in (made, again)]
    replicas = made.distribute_strategy

    @tf.function(autograph=False)
    def bits():
        x, y = (tf.zeros((32, width), "float64") for width in (3, 1))
        return made.differentiate(x, y).sites[0].b

    drawn = [replicas.experimental_local_results(replicas.run(bits)) for _ in range(2)]
    keras.utils.set_random_seed(0)
    with replicas.scope():
        inputs = keras.Input((3,))
        ones = keras.layers.Dense(20, kernel_initializer="zeros", bias_initializer="ones")(inputs)
        dropped = keras.layers.Dropout(0.5, seed=3)(ones)
        code = layers.RelaxBernoulli()(keras.layers.Dense(1)(inputs))
        outputs = keras.layers.Concatenate()([dropped, code])
        dropout = tf_relax.RelaxModel(inputs, outputs)
        dropout.compile("sgd", "mse", estimator="relax", jit_compile=False)

    @tf.function(autograph=False)
    def masks():
        y = tf.zeros((4, 21), "float64")
        return dropout.differentiate(tf.zeros((4, 3), "float64"), y).y_pred[:, :20]

    masked = [replicas.experimental_local_results(replicas.run(masks)) for _ in range(2)]
    return {
        "predicted": np.array(predicted),
        "drawn": np.array([[np.asarray(b) for b in each] for each in drawn]),
        "masked": np.array([[np.asarray(b) for b in each] for each in masked]),
    }


def draws(made, rows, runs):
    """Gradients of the logits' weights of so many steps on one example, repeated in every row."""
    replicas = made.distribute_strategy
    rows //= replicas.num_replicas_in_sync
    rng = np.random.default_rng(2)
    x, y = (tf.repeat(tf.constant(rng.normal(size=(1, width))), rows, axis=0) for width in (3, 1))

    @tf.function(autograph=False)
    def step():
        result = made.differentiate(x, y)
        return result.gradients[[v.path for v in result.variables].index("logits/kernel")]

    steps = (replicas.reduce("SUM", replicas.run(step), axis=None) for _ in range(runs))
    return np.array([gradient.numpy().ravel() for gradient in steps])


def statistics(runs=400):
    """Draws by `relax` and by three samples, on one device and two, on 16 examples and on 32."""
    found = {}
    contestants = {
        "relax": estimators.Relax(surrogate=surrogates.Objective()),
        "leave_one_out": estimators.LeaveOneOut(3),
    }
    for name, estimator in contestants.items():
        one, two = both(lambda: model(estimator, regularizer=None))  # noqa: B023
        found[f"{name}_one"] = draws(one, 16, runs)
        found[f"{name}_two"] = draws(two, 16, runs)
        found[f"{name}_twice"] = draws(two, 32, runs)
    return found


def built_by_its_data():
    """A model that chooses its estimator in the first step."""
    dense = keras.layers.Dense
    made = tf_relax.RelaxModel([dense(4), layers.RelaxBernoulli(), dense(1)])
    made.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=False)
    return made


def trained():
    """Whole trainings that must simply go well, with callbacks, statistics and moving baselines."""
    x, y = data(40)
    found = {}
    cases = {
        "batch_norm": {"estimator": "relax", "middle": [keras.layers.BatchNormalization]},
        "baseline": {"estimator": estimators.Reinforce(baseline="moving_average")},
        "rodeo": {"estimator": "rodeo"},
    }
    for name, options in {**cases, "auto": None}.items():
        with strategy().scope():
            made = built_by_its_data() if options is None else model(**options)
        history = made.fit(x, y, batch_size=8, epochs=4, verbose=0).history["loss"]
        copies = made.distribute_strategy.experimental_local_results
        parts = [copies(v.value) for v in made.trained_variables]
        apart = max(np.abs(p[0].numpy() - p[1].numpy()).max() for p in parts if len(p) == 2)
        found[name] = np.array([*history, apart])
    return found


def refusals():
    """What is said of what does not work."""
    said = {}

    def expect(name, call):
        try:
            call()
        except Exception as error:
            said[name] = f"{type(error).__name__}: {error}"

    x, y = data(8)
    audited = model("relax")
    with strategy().scope():
        expect("audit", lambda: tf_relax.audit(audited, x, y, verbose=0))
        expect("steps", lambda: model("relax", steps_per_execution=2))
        shared = [lambda: keras.layers.BatchNormalization(synchronized=True)]
        normalized = model("relax", middle=shared)
        expect("synchronized", lambda: normalized.fit(x, y, verbose=0))
        expect(
            "policy",
            lambda: tf_relax.rl.PolicyGradient(
                tf_relax.rl.dense_policy("CartPole-v1"), "CartPole-v1"
            ),
        )
    return said


PARTS = (exact, of_every_estimator, noise, statistics, trained, tools, refusals)


def main(folder):
    devices = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
    keras.config.set_floatx("float64")
    for part in PARTS:
        np.savez(folder / f"{part.__name__}.npz", **part())


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
