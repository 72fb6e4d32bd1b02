"""The main job in small, on whatever versions are installed; `make test-oldest` runs only this.

That runs all of it; on the newest versions `make test` leaves out what is marked as slow.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tf_relax
from tests.estimators.one_bernoulli import (
    compiled,
    exact_gradient,
    integrated_estimate,
    one_bernoulli,
)

IMAGES = (np.random.default_rng(0).random((48, 12)) < 0.3).astype("float32")


class Subclassed(tf_relax.RelaxModel):
    def __init__(self):
        super().__init__()
        self.encoder = keras.layers.Dense(4)
        self.code = tf_relax.layers.RelaxBernoulli(prior="learned", seed=0)
        self.decoder = keras.layers.Dense(12)

    def call(self, inputs, training=None):
        return self.decoder(self.code(self.encoder(inputs), training=training))


def functional(layer=None, parameters=4, dropout=0.2):
    layer = layer or tf_relax.layers.RelaxBernoulli(prior="learned", seed=0)
    inputs = keras.Input((12,))
    hidden = keras.layers.Dropout(dropout)(inputs) if dropout else inputs
    code = layer(keras.layers.Dense(parameters, name="encoder")(hidden), context=inputs)
    return tf_relax.RelaxModel(inputs, keras.layers.Dense(12)(code))


def sequential():
    code = tf_relax.layers.RelaxBernoulli(prior="uniform", seed=0)
    layers = [keras.Input((12,)), keras.layers.Dense(4), code, keras.layers.Dense(12)]
    return tf_relax.RelaxModel(layers)


def held(model):
    """The weights of a compiled model, and what its estimator has learned."""
    return [v.numpy() for v in [*model.weights, *model.estimator_state.variables]]


@pytest.mark.parametrize(
    ("build", "jit_compile"),
    [
        (functional, False),
        pytest.param(functional, True, marks=pytest.mark.slow),
        pytest.param(sequential, False, marks=pytest.mark.slow),
        pytest.param(Subclassed, False, marks=pytest.mark.slow),
    ],
)
def test_trains_and_saves(build, jit_compile, tmp_path):
    model = build()
    model.compile("adam", tf_relax.losses.BernoulliNLL(), jit_compile=jit_compile)
    before = None
    for _ in range(2):
        history = model.fit(IMAGES, IMAGES, batch_size=16, verbose=0, validation_split=0.25)
        if before is not None:
            assert any(np.any(a != b) for a, b in zip(before, held(model), strict=True))
        before = held(model)
    assert np.isfinite(history.history["loss"]).all()
    assert np.isfinite(history.history["val_loss"]).all()
    bound = tf_relax.metrics.importance_weighted_bound(model, IMAGES, num_samples=3, verbose=0)
    assert np.isfinite(bound)
    if build is not Subclassed:
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert isinstance(loaded, tf_relax.RelaxModel)
        for mine, theirs in zip(held(model), held(loaded), strict=True):
            np.testing.assert_array_equal(mine, theirs)
        loaded.fit(IMAGES, IMAGES, batch_size=16, verbose=0)
    model.export(str(tmp_path / "served"), verbose=False)
    assert tf.saved_model.load(str(tmp_path / "served")).serve(IMAGES).shape == (48, 12)


CONTINUOUS = ("lax", "reparameterization")


def gamma(a):
    return tfp.distributions.Gamma(tf.exp(a), 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", tf_relax.estimators.names())
def test_every_estimator_trains(estimator):
    if estimator in CONTINUOUS:
        model = functional(tf_relax.layers.RelaxNormal(prior="standard", seed=0), parameters=8)
    elif estimator == "rejection":
        model = functional(tf_relax.layers.RelaxSample(gamma, sampler="rejection", seed=0))
    elif estimator == "disarm_tree":
        model = functional(tf_relax.layers.RelaxCategorical(method="stick_breaking", seed=0))
    elif estimator in ("sb_carms", "unordered_set"):
        model = functional(tf_relax.layers.RelaxCategorical(seed=0))
    elif estimator == "measure_valued":
        model = functional(tf_relax.layers.RelaxPoisson(seed=0))
    elif estimator == "exact":
        model = functional(parameters=2, dropout=None)
    else:
        model = functional()
    samples = 3 if estimator == "vimco" else None
    model.compile(
        "adam", tf_relax.losses.BernoulliNLL(), estimator=estimator, importance_samples=samples
    )
    before = model.get_layer("encoder").get_weights()
    epochs = 5 if estimator == "measure_valued" else 1  # which looks at one unit of an example
    history = model.fit(IMAGES, IMAGES, epochs=epochs, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    for a, b in zip(before, model.get_layer("encoder").get_weights(), strict=True):
        assert (a != b).all()


@pytest.mark.parametrize("coupled", [True, False])
def test_relax_is_unbiased(coupled):
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        estimator = tf_relax.estimators.Relax(coupled=coupled)
        model = compiled(one_bernoulli(0.25), estimator, run_eagerly=True)
        exact = exact_gradient(model, 0.25, "analytic")
        assert integrated_estimate(model, 0.25) == pytest.approx(exact, abs=1e-9)
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")


def test_private_hooks():
    """Every hook of `compat` does what the package needs it for."""
    from tf_relax._src import compat

    inputs = keras.Input((2,))
    assert compat.functional_class() in type(keras.Model(inputs, inputs)).__mro__
    nested = keras.Sequential([keras.Sequential([keras.layers.Dense(1, name="deep")])])
    assert "deep" in [layer.name for layer in compat.sublayers(nested)]
    once, twice = keras.layers.Dense(2), keras.layers.Dense(2)
    keras.Model(inputs, once(twice(twice(inputs))))
    assert (compat.number_of_calls(once), compat.number_of_calls(twice)) == (1, 2)
    state = compat.global_seed_state()
    before = np.asarray(state.value).copy()
    keras.random.uniform((1,))
    assert np.any(before != np.asarray(compat.global_seed_state().value))
    model = functional()
    model.compile("adam", tf_relax.losses.BernoulliNLL())
    assert compat.loss_tracker(model) in model.metrics

    positions = []

    class Counts(keras.layers.Layer):
        def call(self, x):
            positions.append(compat.position_of_call())
            return x

    model = keras.Sequential([Counts(), Counts()])
    for _ in range(2):
        model(np.zeros((1, 2)))
    assert positions[-4:] == [0, 1, 0, 1]
    assert compat.position_of_call() == compat.position_of_call() == 0
    masked = keras.layers.Masking()(np.zeros((1, 2, 2), "float32"))
    np.testing.assert_array_equal(compat.keras_mask(masked), [[False, False]])
    assert compat.keras_mask(tf.zeros(2)) is None
    # That it frees memory is a test of the memory benchmark.
    twice = tf.function(lambda x: 2 * x)
    assert twice(tf.ones(())) == 2
    compat.forget_kernels()
    assert callable(keras.Model._maybe_symbolic_build)  # which models override
    batches = iter([(tf.ones((3, 2)), None)])
    x, y = compat.first_part([(0, 1, batches)], tf.distribute.get_strategy())
    assert (x.shape, y) == ((3, 2), None)
    assert twice(tf.ones(())) == 2
