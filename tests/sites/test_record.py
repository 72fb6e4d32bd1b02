"""Recording a pass, reproducing it, and reading off which site is upstream of which."""

import contextlib
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tests.models import modes
from tf_relax import RelaxModel
from tf_relax.estimators import Relax
from tf_relax.layers import RelaxBernoulli
from tf_relax.sites import Record, current_handler, depends_on


def contents(site):
    return {
        "logits": site.logits,
        "noise": site.draw.noise,
        "z": site.z,
        "b": site.b,
        "z_tilde": site.z_tilde,
        "output": site.output,
    }


def recorded(model, x, mode, **arguments):
    """Everything that was recorded in one pass, as arrays, and the names of the sites."""
    names = []

    def record():
        with tf_relax.record(**arguments) as sites:
            outputs = model(x, training=True)
        names[:] = [site.name for site in sites]
        return [contents(site) for site in sites], outputs

    result = record() if mode == "eager" else tf.function(record)()
    return *keras.tree.map_structure(np.asarray, result), names


def chain():
    inputs = keras.Input((3,))
    code = RelaxBernoulli(name="first")(keras.layers.Dense(4)(inputs))
    return keras.Model(inputs, RelaxBernoulli(name="second")(keras.layers.Dense(2)(code)))


@pytest.fixture
def x(rng):
    return rng.normal(size=(5, 3)).astype("float32")


# ------------------------------------------------------------------------------ contents


@modes
def test_contents(mode, x):
    model = chain()
    (first, second), outputs, names = recorded(model, x, mode)
    assert names == ["first", "second"]
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    kernels = [layer.kernel.numpy() for layer in dense]
    np.testing.assert_allclose(first["logits"], x @ kernels[0], rtol=1e-5)
    np.testing.assert_allclose(second["logits"], first["b"] @ kernels[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(outputs, second["b"])
    for site in (first, second):
        np.testing.assert_allclose(site["z"], site["logits"] + site["noise"], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(site["b"], site["z"] > 0)
        np.testing.assert_array_equal(site["z_tilde"] > 0, site["z"] > 0)
        assert (site["z_tilde"] != site["z"]).all()
        np.testing.assert_array_equal(site["output"], site["b"])
        assert {array.dtype.name for array in site.values()} == {"float32"}


def test_layer_outside_of_a_model():
    layer = RelaxBernoulli(name="code")
    context = np.arange(4.0).reshape(2, 2)
    with tf_relax.record() as sites:
        layer(tf.zeros((2, 3)), context=context, training=True)
        layer(tf.zeros((1, 3)), training=True)
    assert [site.name for site in sites] == ["code", "code[1]"]
    assert all(site.layer is layer for site in sites)
    np.testing.assert_array_equal(sites[0].context, context)
    assert sites[1].context is None


def test_nested_models_and_shared_layers():
    inner_inputs = keras.Input((2,))
    inner_layer = RelaxBernoulli(name="inner")
    inner = keras.Model(inner_inputs, inner_layer(inner_inputs))
    inputs = keras.Input((2,))
    model = RelaxModel(inputs, RelaxBernoulli(name="outer")(inner(inner(inputs))))
    with tf_relax.record() as sites:
        model(tf.zeros((3, 2)), training=True)
    assert [site.name for site in sites] == ["inner", "inner[1]", "outer"]
    assert {site.layer for site in sites} == set(model.stochastic_layers)


def test_sites_of_a_step_have_what_the_estimator_learned(x):
    """A shared layer has one state; without an estimator there is none."""
    first, second = RelaxBernoulli(name="first"), RelaxBernoulli(name="second")
    inputs = keras.Input((3,))
    model = RelaxModel(inputs, second(first(first(inputs))))
    model.compile("sgd", "mse", estimator=Relax(surrogate="objective"))
    sites = model.differentiate(x, tf.zeros((5, 3))).sites
    states = [model.estimator_state[name] for name in ("first", "first", "second")]
    assert [site.name for site in sites] == ["first", "first[1]", "second"]
    assert all(site.state is state for site, state in zip(sites, states, strict=True))
    assert states[0] is not states[2]
    with tf_relax.record() as bare:
        model(x, training=True)
    assert [site.state for site in bare] == [None, None, None]


def test_inference_is_recorded_where_it_samples():
    for inference, expected in (("sample", 1), ("mode", 0), ("mean", 0)):
        layer = RelaxBernoulli(inference=inference)
        with tf_relax.record() as sites:
            layer(tf.zeros((2, 3)), training=False)
        assert len(sites) == expected
    with Record(always_samples=True) as sites:
        layer(tf.zeros((2, 3)), training=False)
    assert len(sites) == 1


def test_z_tilde_is_drawn_from_noise_of_its_own(seed):
    """Given b it is logistic again: its mean absolute value at logit 0 is log 4, as that of z."""
    n = 20_000
    with tf_relax.record() as sites:
        RelaxBernoulli(seed=seed)(tf.zeros((n, 1)), training=True)
    z, z_tilde = (np.asarray(t)[:, 0] for t in (sites[0].z, sites[0].z_tilde))
    for values in (z, z_tilde):
        assert abs(abs(values).mean() - np.log(4)) < 5 * abs(values).std() / np.sqrt(n)
    correlation = np.corrcoef(abs(z), abs(z_tilde))[0, 1]
    assert abs(correlation) < 5 / np.sqrt(n)


# ------------------------------------------------------------------------------ given noise


@modes
def test_given_noise_reproduces_the_pass(mode, x):
    model = chain()
    sites, outputs, _ = recorded(model, x, mode)
    noise = [site["noise"] for site in sites]
    again, outputs_again, _ = recorded(model, x, mode, noise=noise)
    np.testing.assert_array_equal(outputs, outputs_again)
    for a, b in zip(sites, again, strict=True):
        for key in ("logits", "noise", "z", "b", "output"):
            np.testing.assert_allclose(a[key], b[key], rtol=1e-6)
        assert (a["z_tilde"] != b["z_tilde"]).any()  # its noise was not given


@modes
def test_given_conditional_noise(mode):
    layer = RelaxBernoulli()
    logits = tf.constant([[1.0, -2.0, 0.5]])
    noise, conditional = [np.array([[0.5, 0.25, -3.0]])], [np.array([[0.1, -0.2, 4.0]])]
    arguments = {"noise": noise, "conditional_noise": conditional}
    (site,), outputs, _ = recorded(layer, logits, mode, **arguments)
    np.testing.assert_allclose(site["z"], [[1.5, -1.75, -2.5]], rtol=1e-6)
    np.testing.assert_array_equal(outputs, [[1, 0, 0]])
    s = np.array([[1, -1, -1]])
    expected = s * np.logaddexp(0, conditional[0] + np.logaddexp(0, s * logits.numpy()))
    np.testing.assert_allclose(site["z_tilde"], expected, rtol=1e-5)


def test_given_noise_leaves_the_seed_alone():
    layer = RelaxBernoulli()
    state = layer.seed_generator.state.numpy().copy()
    noise = [tf.zeros((2, 3))]
    with tf_relax.record(noise=noise, conditional_noise=noise):
        layer(tf.ones((2, 3)), training=True)
    np.testing.assert_array_equal(layer.seed_generator.state.numpy(), state)


@pytest.mark.parametrize("noise", [[], [np.zeros((1, 3))], [np.zeros(3)]], ids=repr)
def test_noise_that_does_not_fit(noise):
    """Noise that broadcasts would be shared by examples that ought to be independent."""
    layer = RelaxBernoulli(name="code")
    with pytest.raises(ValueError, match=r"'code'.*noise"), tf_relax.record(noise=noise):
        layer(tf.ones((2, 3)), training=True)


@modes
def test_common_random_numbers_in_a_step(mode, x):
    """Two steps with the same noise have the same gradients; without it they differ."""
    inputs = keras.Input((3,))
    model = RelaxModel(
        inputs, keras.layers.Dense(2)(RelaxBernoulli()(keras.layers.Dense(4)(inputs)))
    )
    model.compile("sgd", "mse", estimator=Relax(surrogate="objective"))
    y = tf.zeros((5, 2))
    noise = [np.linspace(-2, 2, 20).reshape(5, 4)]

    def gradients(**arguments):
        def step():
            return model.differentiate(tf.constant(x), y, **arguments).gradients

        return [np.asarray(g) for g in (step() if mode == "eager" else tf.function(step)())]

    first, second = gradients(noise=noise), gradients(noise=noise)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert (gradients()[0] != gradients()[0]).any()


# ------------------------------------------------------------------------------ handlers


def test_handlers_nest_and_leave_after_exceptions():
    layer = RelaxBernoulli()
    assert current_handler() is None
    outer, inner = tf_relax.record(), tf_relax.record()
    with outer as outer_sites:
        with contextlib.suppress(KeyError), inner as inner_sites:
            layer(tf.zeros((1, 1)), training=True)
            raise KeyError
        assert current_handler() is outer
        layer(tf.zeros((1, 1)), training=True)
    assert current_handler() is None
    assert len(inner_sites) == len(outer_sites) == 1
    layer(tf.zeros((1, 1)), training=True)
    assert len(outer_sites) == 1


def test_handlers_belong_to_their_thread():
    layer = RelaxBernoulli()
    seen = []
    with tf_relax.record() as sites:
        thread = threading.Thread(target=lambda: seen.append(current_handler()))
        thread.start()
        thread.join()
        layer(tf.zeros((1, 1)), training=True)
    assert seen == [None]
    assert len(sites) == 1


# ------------------------------------------------------------------------------ levels


def levels_of(function, mode):
    """The levels of the sites of a program, as names."""
    levels = []

    def record():
        with tf_relax.record() as sites:
            outputs = function(tf.zeros((2, 3)))
        levels[:] = [[site.name for site in level] for level in sites.levels()]
        return outputs

    record() if mode == "eager" else tf.function(record)()
    return levels


A, B, C, D = (RelaxBernoulli(name=name) for name in "abcd")


def sequential(x):
    return C(B(A(x, training=True), training=True), training=True)


def parallel(x):
    return A(x, training=True) + B(2 * x, training=True) + C(x, training=True)


def mixed(x):
    """a -> c, b -> d, and d sees a through c as well."""
    a, b = A(x, training=True), B(x, training=True)
    c = C(a + x, training=True)
    return D(b * c, training=True)


def late(x):
    """b comes last but depends on nothing."""
    c = C(A(x, training=True), training=True)
    return c + B(x, training=True)


def twice(x):
    return A(A(x, training=True), training=True) + A(x + 1, training=True)


def through_integers(x):
    """The path from a to b has no derivative; it is a path all the same."""
    index = tf.cast(tf.reduce_sum(A(x, training=True), axis=1), tf.int32)
    return B(tf.gather(tf.constant([[1.0, 2], [3, 4], [5, 6], [7, 8]]), index), training=True)


def through_a_stopped_gradient(x):
    return B(tf.stop_gradient(A(x, training=True)), training=True)


def through_a_condition(x):
    total = tf.reduce_sum(A(x, training=True))
    return B(tf.cond(total > 2, lambda: x, lambda: 2 * x), training=True)


def through_a_loop(x):
    start = A(x, training=True)
    value = tf.while_loop(lambda k, v: k < 3, lambda k, v: (k + 1, v + start), [0, x])[1]
    return B(value, training=True)


def through_numpy(x):
    value = tf.numpy_function(lambda b: b + 1, [A(x, training=True)], tf.float32)
    return B(tf.ensure_shape(value, x.shape), training=True)


def through_the_context(x):
    return B(x, context=A(x, training=True), training=True)


PROGRAMS = {
    sequential: [["a"], ["b"], ["c"]],
    parallel: [["a", "b", "c"]],
    mixed: [["a", "b"], ["c"], ["d"]],
    late: [["a", "b"], ["c"]],
    twice: [["a", "a[2]"], ["a[1]"]],
    through_integers: [["a"], ["b"]],
    through_a_stopped_gradient: [["a"], ["b"]],
    through_a_condition: [["a"], ["b"]],
    through_a_loop: [["a"], ["b"]],
    through_numpy: [["a"], ["b"]],
    through_the_context: [["a"], ["b"]],
}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_levels_in_a_graph(program):
    assert levels_of(program, "graph") == PROGRAMS[program]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_levels_without_a_graph_are_one_per_call(program):
    flat = [name for level in PROGRAMS[program] for name in level]
    levels = levels_of(program, "eager")
    assert sorted(name for level in levels for name in level) == sorted(flat)
    assert [len(level) for level in levels] == [1] * len(flat)


def test_depends_on():
    @tf.function
    def check(x, y):
        z = tf.cast(tf.cast(x, tf.int32) > 1, tf.float32) + 1
        return [
            depends_on([z], [x]),
            depends_on([z], [y]),
            depends_on([y, z], [x]),
            depends_on([x], [z]),
            depends_on([z], [y, x]),
            depends_on([x], [x]),
            depends_on([], [x]),
        ]

    result = [bool(value) for value in check(tf.zeros(2), tf.zeros(2))]
    assert result == [True, False, True, False, True, True, False]


def test_antithetic_samples_of_z_given_b():
    """Those of every pass are made of noise and its reflection, and z is none of them."""
    inputs = keras.Input((3,))
    code = RelaxBernoulli(name="code")(keras.layers.Dense(4)(inputs))
    model = RelaxModel(inputs, keras.layers.Dense(2)(code))
    estimator = Relax(num_samples=2, num_conditional=2, coupling="antithetic")
    model.compile("sgd", "mse", estimator=estimator)
    site = model.differentiate(np.ones((5, 3)), np.ones((5, 2))).sites[0]
    first, mirrored, second, mirrored_too = site.conditional_noises
    np.testing.assert_array_equal(first, -mirrored)
    np.testing.assert_array_equal(second, -mirrored_too)
    assert not np.array_equal(first, second)
    assert len(site.z_tildes) == 2
    for z_tilde in site.z_tildes:
        np.testing.assert_array_equal(z_tilde > 0, site.z > 0)
        assert not np.any(np.isclose(z_tilde, site.z))
