"""What `Watch` measures, where it shows, and that training does not notice."""

import base64
import functools
import itertools
import re
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tests.layers.families import FAMILIES, log_probabilities
from tf_relax._src.callbacks import watch_figure, watch_measure, watch_panels
from tf_relax.callbacks import GradientVariance, Watch
from tf_relax.estimators import Nvil, Relax

X = np.random.default_rng(0).standard_normal((16, 3)).astype("float32")


def compiled(estimator="disarm", learning_rate=0.01, units=2, **options):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    x = keras.layers.BatchNormalization()(inputs)
    code = tf_relax.layers.RelaxBernoulli(name="code")(keras.layers.Dense(units)(x))
    outputs = keras.layers.Dense(3, dtype="float32")(keras.layers.Dropout(0.2)(code))
    model = tf_relax.RelaxModel(inputs, outputs)
    options = {"jit_compile": False, "loss": "mse", **options}
    model.compile(keras.optimizers.SGD(learning_rate), estimator=estimator, **options)
    return model


def fixed(layer, logits, loss="mse", estimator="disarm"):
    """A model whose logits are given, one row per example; it does not train."""
    inputs = keras.Input(logits.shape[1:])
    outputs = keras.layers.Flatten()(layer(inputs))
    model = tf_relax.RelaxModel(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.0), loss, estimator=estimator, run_eagerly=True)
    return model


def watched(model, x, y, **options):
    """The history of one epoch, and the callback."""
    watch = Watch(x, y, **options)
    with pytest.warns(UserWarning, match="no trainable weights"):
        history = model.fit(x, y, callbacks=[watch], verbose=0, batch_size=len(x)).history
    return {name: values[0] for name, values in history.items()}, watch


def binary_entropy(p):
    return -p * np.log(p) - (1 - p) * np.log(1 - p)


def measured(layer, logits, mask=None, dead_below=0.1):
    """A measurement of a layer alone."""
    layer.build((None, *logits.shape[1:]))
    found = {"logits": layer.relaxation.bounded(tf.constant(logits, tf.float32))}
    found |= {"gradient_variance": 1.0, "squared_signal": 0.25}
    if mask is not None:
        found["mask"] = tf.constant(mask)
    return watch_measure.site_measurement(layer, None, found, dead_below)


# ------------------------------------------------------------------ what is measured


def test_bits_worked_out_by_hand():
    p = np.array([[0.5, 0.2, 0.001, 0.999], [0.5, 0.6, 0.002, 0.99]])
    logits = np.log(p / (1 - p)).astype("float32")
    layer = tf_relax.layers.RelaxBernoulli(name="code")
    logs, watch = watched(fixed(layer, logits), logits, np.zeros((2, 4)))
    (measurement,) = watch.measurements
    site = measurement.sites["code"]
    np.testing.assert_allclose(site.usage, p.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(site.probabilities, p, rtol=1e-4)
    np.testing.assert_allclose(site.entropy, binary_entropy(p).mean(axis=0), rtol=1e-4)
    assert logs["code_entropy"] == pytest.approx(binary_entropy(p).mean(), rel=1e-4)
    assert logs["code_usage_entropy"] == pytest.approx(
        binary_entropy(p.mean(axis=0)).mean(), rel=1e-4
    )
    assert site.even_entropy == pytest.approx(np.log(2))
    # h(.0015) and h(.9945) lie below a tenth of log 2, h(.4) does not.
    assert site.dead.tolist() == [False, False, True, True]
    assert logs["code_dead"] == 2
    assert (site.units, site.sampled, site.notes) == (4, 0, ())
    names = {"entropy", "usage_entropy", "dead", "gradient_variance", "gradient_snr"}
    assert set(logs) == {"loss", *(f"code_{name}" for name in names)}


def test_a_bit_is_dead_below_a_share_of_a_whole_bit():
    p = np.array([0.0127, 0.0132, 0.9868, 0.9873])
    layer = tf_relax.layers.RelaxBernoulli()
    logits = np.log(p / (1 - p))[np.newaxis]
    assert measured(layer, logits).dead.tolist() == [True, False, False, True]
    assert not measured(layer, logits, dead_below=0.05).dead.any()


def test_categories_worked_out_by_hand():
    p = np.array([[0.1, 0.2, 0.7 - 1e-4, 1e-4], [0.3, 0.6, 0.1 - 1e-4, 1e-4]])
    layer = tf_relax.layers.RelaxCategorical(name="code")
    logs, watch = watched(fixed(layer, np.log(p), estimator="leave_one_out"), np.log(p), p)
    site, u = watch.measurements[0].sites["code"], p.mean(axis=0)
    np.testing.assert_allclose(site.usage, u, rtol=1e-4)
    assert logs["code_entropy"] == pytest.approx(-(p * np.log(p)).sum(axis=1).mean(), rel=1e-5)
    assert logs["code_usage_entropy"] == pytest.approx(-(u * np.log(u)).sum(), rel=1e-5)
    assert site.even_entropy == pytest.approx(np.log(4))
    assert site.dead.tolist() == [False, False, False, True]


DRAWS = 1000
# One of each kind of law.
KINDS = [family for family in FAMILIES if family.name not in ("sparse", "ordered_top_2_of_5")]


@pytest.mark.parametrize("family", KINDS, ids=lambda family: family.name)
def test_laws_agree_with_enumeration(family, rng):
    """Where draws are needed, within six standard errors of so many."""
    layer = family.make()
    layer.build((None, *family.event))
    relaxation = layer.relaxation
    a = tf.constant(rng.normal(size=(1, *family.event)), tf.float32)
    outcomes = relaxation.outcomes(family.shape)
    log_p = log_probabilities(relaxation, outcomes, a[0])
    p = np.exp(log_p)
    repeated = tf.repeat(a, len(outcomes), axis=0)
    b = np.asarray(relaxation.forced(repeated, tf.constant(outcomes)).b)
    mean = np.tensordot(p, b, axes=1)
    law = watch_measure.Law(relaxation, a, draws=DRAWS)
    error = np.sqrt(mean * (1 - mean) / DRAWS) if law.sampled else 0
    assert np.all(np.abs(law.mean[0] - mean) <= 6 * error + 1e-5)
    entropy = -(p * log_p).sum()  # of all choices of an event together
    spread = np.sqrt((p * log_p**2).sum() - entropy**2)
    error = spread / np.sqrt(DRAWS) if law.entropy_is_sampled else 0
    assert abs(law.entropy.sum() - entropy) <= 6 * error + 1e-4


def test_what_cannot_be_known_is_left_out_and_says_why():
    zeros = np.zeros((2, 3, 3))
    site = measured(tf_relax.layers.GumbelSinkhorn(), zeros)
    assert site.entropy is site.usage_entropy is None
    assert "entropy" not in site.scalars
    assert any("No entropy: the probability of a sample of GumbelSinkhorn" in n for n in site.notes)
    assert site.dead.sum() == 0
    assert site.usage.sum(axis=1) == pytest.approx(np.ones(3))
    site = measured(tf_relax.layers.RelaxPoisson(), np.log([[2.0, 5.0]]))
    np.testing.assert_allclose(site.usage, [2, 5], rtol=1e-5)
    assert site.dead is None
    assert any("No unit is called dead" in note for note in site.notes)
    site = measured(tf_relax.layers.RelaxNormal(), np.array([[1.0, -2.0, 0.0, 1.0]]))
    np.testing.assert_allclose(site.usage, [1, -2])
    np.testing.assert_allclose(site.entropy, 0.5 * np.log(2 * np.pi * np.e) + np.array([0, 1]))


def test_what_is_masked_is_no_unit():
    p = np.array([[0.5, 0.2, 0.9], [0.5, 0.6, 0.7]])
    mask = np.array([[True, True, False], [True, False, False]])
    logits = np.where(mask, np.log(p / (1 - p)), -np.inf)
    site = measured(tf_relax.layers.RelaxBernoulli(), logits, mask)
    np.testing.assert_allclose(site.usage, [0.5, 0.2, np.nan], rtol=1e-5)
    expected = binary_entropy(np.array([0.5, 0.2]))
    np.testing.assert_allclose(site.entropy[:2], expected, rtol=1e-5)
    assert site.scalars["entropy"] == pytest.approx(expected.mean(), rel=1e-5)
    assert (site.units, site.scalars["dead"]) == (2, 0)
    # A category that no example can choose is not dead, and even use is that of the other three.
    mask = np.array([[True, True, True, False]] * 2)
    logits = np.where(mask, [0.0, 0.0, -9.0, 0.0], -np.inf)
    site = measured(tf_relax.layers.RelaxCategorical(), logits, mask)
    assert site.dead.tolist() == [False, False, True, False]
    assert (site.units, site.even_entropy) == (3, pytest.approx(np.log(3)))


def test_entries_that_cannot_be_are_not_dead():
    layer = tf_relax.layers.RelaxSpanningTree(edges=[(0, 1), (1, 2), (0, 2)], output="adjacency")
    site = measured(layer, np.array([[20.0, 20.0, -20.0]] * 8))
    assert site.units == 6  # no node is its own neighbour
    # Edges (0, 1) and (1, 2) always, (0, 2) never.
    assert site.dead.astype(int).tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0]]


# ------------------------------------------------------------------ surrogates and gradients


@keras.saving.register_keras_serializable(package="tests")
class Given(tf_relax.surrogates.Surrogate):
    """`factor` times the objective of the test below, and an offset."""

    looks_at = ()

    def build(self, *shapes):
        """Nothing is learned."""

    def __init__(self, factor, offset, **kwargs):
        super().__init__(**kwargs)
        self.factor, self.offset = factor, offset

    def call(self, z, **_):
        return self.offset + self.factor * objective_of(tf.cast(z > 0, z.dtype))


def objective_of(b):
    return b[:, 0] + 2 * b[:, 1]


def cost(y_true, y_pred):
    return objective_of(y_pred)


@pytest.mark.parametrize(("factor", "offset"), [(1.0, 0.0), (1.0, 0.5), (0.0, 0.5), (0.5, 0.0)])
def test_surrogate_fit_is_the_share_of_the_objective(factor, offset):
    """f has the mean 1.5 and the variance (1 + 4) / 4."""
    logits = np.zeros((4000, 2), "float32")
    layer = tf_relax.layers.RelaxBernoulli(name="code")
    loss = tf_relax.losses.BlackBox(cost)
    model = fixed(layer, logits, loss, Relax(surrogate=Given(factor, offset)))
    logs, _ = watched(model, logits, logits)
    left = (1 - factor) ** 2 * (1.25 + 1.5**2) - 2 * (1 - factor) * 1.5 * offset + offset**2
    assert logs["code_surrogate_fit"] == pytest.approx(1 - left / 1.25, abs=0.15)
    if (factor, offset) == (1.0, 0.0):
        assert logs["code_surrogate_fit"] == 1
    assert "code_temperature" not in logs  # the objective has no part in it


def test_baselines_have_a_fit_and_other_estimators_none():
    """A baseline that knows the example knows all of an objective without samples."""
    y = np.arange(8.0, dtype="float32")[:, np.newaxis]
    inputs = keras.Input((1,))
    bits = tf_relax.layers.RelaxBernoulli(name="code")(inputs, context=inputs)
    model = tf_relax.RelaxModel(inputs, 0 * bits + inputs)
    loss = tf_relax.losses.BlackBox(lambda y_true, y_pred: y_pred[:, 0])
    exact = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    z, context = keras.Input((1,)), keras.Input((1,))
    critic = keras.Model([z, context], exact(context) + 0 * z)
    exact.layers[0].set_weights([np.eye(1), np.zeros(1)])
    surrogate = tf_relax.surrogates.KerasModel(critic, looks_at=("context",))
    for estimator, fit in (
        (Nvil(surrogate=surrogate), 1.0),
        (tf_relax.estimators.Reinforce("learned", surrogate=surrogate), 1.0),
        ("leave_one_out", None),
    ):
        model.compile("sgd", loss, estimator=estimator, run_eagerly=True)
        found = watch_measure.surrogate_fits(model, tf.constant(y), tf.constant(y))
        assert list(found) == ([] if fit is None else ["code"])
        if fit is not None:
            assert float(found["code"]) == pytest.approx(fit, abs=1e-5)


def test_temperature_and_scale_are_those_of_the_surrogate():
    model = compiled(Relax(temperature=0.3, scale=0.7), learning_rate=0.0, run_eagerly=True)
    history = model.fit(X, X, callbacks=[Watch(X, X)], verbose=0, epochs=2).history
    assert history["code_temperature"] == pytest.approx([0.3, 0.3], rel=1e-5)
    assert history["code_scale"] == pytest.approx([0.7, 0.7], rel=1e-5)
    assert all(value <= 1 for value in history["code_surrogate_fit"])


def test_variance_and_signal_are_those_of_the_gradient():
    """Nothing trains, so all measurements are draws from one distribution."""
    model = compiled("reinforce", learning_rate=0.0)
    watch = Watch(X[:4], X[:4], gradients=4)
    model.fit(X, X, epochs=30, callbacks=[watch], verbose=0, shuffle=False)
    sites = [each.sites["code"] for each in watch.measurements]
    draw = tf.function(lambda: model.differentiate(X[:4], X[:4]).logit_gradients[0])
    draws = np.stack([draw() for _ in range(600)])
    variance = draws.var(axis=0, ddof=1)
    found = np.mean([site.gradient_variance for site in sites])
    assert found == pytest.approx(variance.mean(), rel=0.2)
    snr = np.sqrt((draws.mean(axis=0) ** 2 - variance / len(draws)).sum() / variance.sum())
    squares = np.mean([site.squared_signal for site in sites])
    assert np.sqrt(max(squares, 0) / found) == pytest.approx(snr, abs=0.15)
    for site in sites:
        expected = np.sqrt(max(site.squared_signal, 0) / site.gradient_variance)
        assert site.gradient_snr == pytest.approx(expected)


def test_all_pairs_of_gradients_count():
    """As many moments as pairs, and those of `GradientVariance` where there is one pair."""
    model = compiled("reinforce", run_eagerly=True)
    model.fit(X, X, verbose=0)

    def measured(gradients):
        once = functools.partial(watch_measure.draw, model, X, X)
        found = watch_measure.measured(model, once, dict, gradients)["code"]
        return [float(found[name]) for name in ("gradient_variance", "squared_signal")]

    ((variance, squared),) = GradientVariance._pair(_of(model)).values()
    assert measured(2) == pytest.approx([float(variance), float(squared)], rel=1e-5)
    with watch_measure.unchanged(watch_measure.moving_state(model)):
        g = [np.asarray(model.differentiate(X, X).logit_gradients[0]) for _ in range(3)]
    pairs = list(itertools.combinations(g, 2))
    variance = np.mean([((one - other) ** 2).mean() / 2 for one, other in pairs])
    assert measured(3) == pytest.approx([variance, np.mean([a * b for a, b in pairs])], rel=1e-4)
    assert measured(3) == measured(3)  # nothing has moved


def _of(model):
    callback = GradientVariance(X, X)
    callback.set_model(model)
    return callback


# ------------------------------------------------------------------ training


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"jit_compile": True},
        pytest.param({"run_eagerly": True}, marks=pytest.mark.slow),
        pytest.param({"steps_per_execution": 4}, marks=pytest.mark.slow),
        pytest.param({"policy": "mixed_float16"}, marks=pytest.mark.slow),
        {"policy": "mixed_bfloat16", "run_eagerly": True, "output": True},
    ],
    ids=lambda options: "-".join(options) or "graph",
)
def test_training_does_not_notice(options, tmp_path):
    options = dict(options)
    keras.config.set_dtype_policy(options.pop("policy", "float32"))
    folders = {}
    if options.pop("output", False):
        folders = {"output": tmp_path / "page", "log_dir": tmp_path / "board"}
    plain, observed = (compiled(Nvil(), **options) for _ in range(2))
    fit = {"epochs": 2, "batch_size": 4, "verbose": 0}
    keras.utils.set_random_seed(1)
    without = plain.fit(X, X, **fit).history
    keras.utils.set_random_seed(1)
    history = observed.fit(X, X, callbacks=[Watch(X[:8], X[:8], **folders)], **fit).history
    for name, values in without.items():
        assert history[name] == values, name
    found = [
        [*m.variables, *m.estimator_state.variables, *m.optimizer.variables]
        for m in (plain, observed)
    ]
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)
    names = {"entropy", "usage_entropy", "dead", "surrogate_fit"}
    names |= {"gradient_variance", "gradient_snr"}
    assert set(history) - set(without) == {f"code_{name}" for name in names}
    for name in names:
        assert np.isfinite(history[f"code_{name}"]).all()
        assert len(history[f"code_{name}"]) == 2


def test_several_layers_kinds_estimators_and_a_black_box():
    inputs = keras.Input((3,))
    bits = tf_relax.layers.RelaxBernoulli(name="bits")
    first = bits(keras.layers.Dense(4)(inputs))
    again = bits(keras.layers.Dense(4)(first))  # a shared layer
    order = tf_relax.layers.RelaxPermutation(name="order")(keras.layers.Dense(3)(again))
    items = tf_relax.layers.RelaxTopK(2, name="items")(keras.layers.Dense(4)(inputs))
    outputs = keras.layers.Concatenate()([keras.layers.Flatten()(order), items])
    model = tf_relax.RelaxModel(inputs, outputs)
    loss = tf_relax.losses.BlackBox(lambda y_true, y_pred: y_pred @ np.arange(13.0))
    network = Relax(surrogate="network")
    model.compile("adam", loss, estimator={"bits": "arms", "order": network, "items": network})
    watch = Watch(X, np.zeros((16, 13)), gradients=2)
    history = model.fit(X, np.zeros((16, 13)), callbacks=[watch], verbose=0, epochs=2).history
    sites = watch.measurements[-1].sites
    assert {name: site.usage.shape for name, site in sites.items()} == {
        "bits": (4,), "bits[1]": (4,), "order": (3, 3), "items": (4,),
    }  # fmt: skip
    with_fit = {name for name in sites if f"{name}_surrogate_fit" in history}
    assert with_fit == {"order", "items"}
    assert sites["items"].usage.sum() == pytest.approx(2)
    np.testing.assert_allclose(sites["order"].usage.sum(axis=0), 1, rtol=1e-5)
    assert sites["order"].entropy == pytest.approx(history["order_entropy"][-1])
    assert 0 < history["order_entropy"][-1] < np.log(6)


def test_models_without_a_control_variate_of_single_examples():
    """A bound, and batch statistics of samples: there is no fit, and all else."""
    inputs = keras.Input((3,))
    code = tf_relax.layers.RelaxBernoulli(name="code", prior="uniform")
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(3)(code(keras.layers.Dense(2)(inputs))))
    loss = tf_relax.losses.BernoulliNLL()
    model.compile("adam", loss, estimator="vimco", importance_samples=3, run_eagerly=True)
    history = model.fit(X, X > 0, callbacks=[Watch(X, X > 0)], verbose=0).history
    assert {"code_entropy", "code_gradient_snr"} < set(history)
    assert "code_surrogate_fit" not in history
    code = tf_relax.layers.RelaxBernoulli(name="code")(keras.layers.Dense(2)(inputs))
    model = tf_relax.RelaxModel(inputs, keras.layers.BatchNormalization()(code))
    model.compile("adam", "mse", estimator="relax", run_eagerly=True)
    watch = Watch(X, X[:, :2])
    history = model.fit(X, X[:, :2], callbacks=[watch], verbose=0).history
    notes = watch.measurements[0].sites["code"].notes
    assert notes == ("No fit of the surrogate: the objective is one number for the batch.",)
    assert "code_temperature" in history
    assert "code_surrogate_fit" not in history


def test_a_sequential_model_that_is_not_built_yet():
    layers = [keras.layers.Dense(2), tf_relax.layers.RelaxBernoulli(name="code")]
    model = tf_relax.RelaxModel([*layers, keras.layers.Dense(3)])
    model.compile("adam", "mse", run_eagerly=True)
    history = model.fit(X, X, callbacks=[Watch(X, X)], verbose=0).history
    assert "code_dead" in history


def test_when_it_measures():
    model, watch = compiled(run_eagerly=True), Watch(X, X, frequency=2, gradients=2)
    epochs = lambda: [each.epoch for each in watch.measurements]  # noqa: E731
    history = model.fit(X, X, epochs=5, callbacks=[watch], verbose=0).history
    assert epochs() == [1, 2, 4, 5]  # the first, multiples, the last
    entropies = history["code_entropy"]
    assert entropies[2] == entropies[1]  # repeated
    assert len(set(entropies)) == 4
    assert watch.measurements[1].logs["loss"] == history["loss"][1]
    # A fit that goes on from an earlier epoch.
    model.fit(X, X, epochs=6, initial_epoch=3, callbacks=[watch], verbose=0)
    assert epochs() == [1, 2, 4, 6]
    assert watch.measurements[0].sites["code"].probabilities.size == 0
    assert watch.measurements[-1].sites["code"].probabilities.shape == (16, 2)
    model.fit(X, X, callbacks=[watch], verbose=0)
    assert epochs() == [1]
    other = compiled(run_eagerly=True)
    other.fit(X, X, epochs=3, initial_epoch=2, callbacks=[watch], verbose=0)  # another model
    assert epochs() == [3]


# ------------------------------------------------------------------ where it shows


def test_page_picture_and_board(tmp_path):
    page, board = tmp_path / "page", tmp_path / "board"
    seen = []

    class Reader(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append((page / "watch.html").read_text(encoding="utf-8"))
            assert sorted(path.name for path in page.iterdir()) == ["watch.html", "watch.png"]

    model = compiled("relax", run_eagerly=True)
    watch = Watch(X, X, log_dir=board, output=page, gradients=2)
    fit = {"epochs": 4, "initial_epoch": 2, "validation_data": (X, X), "verbose": 0}
    history = model.fit(X, X, callbacks=[watch, Reader()], **fit).history

    assert (page / "watch.png").read_bytes().startswith(b"\x89PNG")
    last = (page / "watch.html").read_text(encoding="utf-8")
    for text in (*seen, last):
        assert f"<title>Watch: {model.name}</title>" in text
        assert not re.search(r"<script|<link|https?:|url\(|<b>", text)
        pictures = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]+)">', text)
        assert len(pictures) == text.count("<img") == 8
        assert all(base64.b64decode(data).startswith(b"\x89PNG") for data, _ in pictures)
    assert ['http-equiv="refresh" content="10"' in text for text in (*seen, last)] == [1, 1, 0]
    assert "Epoch 3 of 4" in seen[0]
    assert "Epoch 4 of 4, training has ended" in last
    words = " ".join(alternative for _, alternative in pictures)
    assert f"scale from {history['code_scale'][0]:.3g} to {history['code_scale'][1]:.3g}" in words
    assert f">{history['code_entropy'][-1]:.4g}</td>" in last
    assert ">0 of 2</td>" in last

    model.name = "<b>net"
    watch.on_train_end()
    text = (page / "watch.html").read_text(encoding="utf-8")
    assert "<title>Watch: &lt;b&gt;net</title>" in text
    assert "<b>" not in text

    scalars, images = {}, {}
    (file,) = board.glob("events*")
    for record in tf.data.TFRecordDataset(str(file)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            tensor = tf.make_ndarray(value.tensor)
            kind = scalars if tensor.ndim == 0 else images
            kind.setdefault(value.tag, {})[event.step] = tensor
    for name, values in history.items():
        if name.startswith("code_"):
            found = scalars[f"code/{name.removeprefix('code_')}"]
            assert found == pytest.approx({2: values[0], 3: values[1]}, rel=1e-5)
    assert set(images) == {"code/usage", "code/probabilities"}
    width, height, data = images["code/usage"][3]
    assert (int(width), int(height)) == (468, 364)
    assert data.startswith(b"\x89PNG")


def test_pictures_show_what_was_measured():
    """The pixels of a heat map, its marks, and every kind of samples."""
    logits = {
        "bits": (tf_relax.layers.RelaxBernoulli(), np.array([[0.0, -9.0], [0.0, -9.0]])),
        "counts": (tf_relax.layers.RelaxPoisson(), np.zeros((2, 3))),
        "normal": (tf_relax.layers.RelaxNormal(), np.array([[1.0, -2.0, 0.0, 0.0]])),
        "nan": (tf_relax.layers.RelaxBernoulli(), np.full((2, 3), np.nan)),
        "none": (tf_relax.layers.Rounding(), np.zeros((2, 3, 6))),
    }
    sites = {name: measured(*each) for name, each in logits.items()}
    groups = [watch_panels.panels_of_site(k, [3], [site]) for k, site in sites.items()]
    whole, drawn = watch_figure.draw(groups)
    shown = {k: [panel.name for panel in g] for k, g in zip(sites, drawn, strict=True)}
    usual = ["usage", "probabilities", "entropy", "dead units", "signal to noise"]
    assert shown["bits"] == shown["nan"] == usual
    assert shown["counts"] == shown["normal"] == [*usual[:3], "signal to noise"]
    assert shown["none"] == ["usage", "probabilities", "dead entries", "signal to noise"]
    words = drawn[0][0].alternative
    assert words == (
        "Heat map: usage of 2 units of bits over 1 measurements, now between 0.000123 and 0.5; "
        "1 are dead."
    )
    usage = drawn[0][0].pixels
    height, width = usage.shape[:2]
    rows = {True: int(height * 0.3), False: int(height * 0.65)}  # of the two units
    column = int(width * 0.4)
    assert np.abs(usage[rows[True], column].astype(int) - 0xF4).max() < 6  # balanced: white
    assert usage[rows[False], column].tolist() == [0x00, 0x72, 0xB2]  # never: blue
    red = np.all(usage == [0xD5, 0x5E, 0x00], axis=-1)
    assert red.any()
    assert np.flatnonzero(red.any(axis=1)).mean() == pytest.approx(height * 0.655, abs=6)
    # Every panel is a part of the whole.
    assert whole.shape == (5 * 2 * height, 4 * width, 3) or whole.shape[1] == 4 * width
    np.testing.assert_array_equal(whole[:height, :width], usage)


def test_the_curve_of_the_signal_averages_moments():
    site = measured(tf_relax.layers.RelaxBernoulli(), np.zeros((1, 2)))
    series = [
        site._replace(gradient_variance=v, squared_signal=s, gradient_snr=0.0)
        for v, s in [(1.0, -1.0), (3.0, 2.0), (2.0, 0.5)]
    ]
    values = watch_panels._signal_to_noise(series)["the last 5"][0]
    assert values == pytest.approx([0, np.sqrt(1 / 4), np.sqrt(1.5 / 6)])
    quiet = [site._replace(gradient_variance=0.0, gradient_snr=np.inf)]
    assert watch_panels._signal_to_noise(quiet) == {}


# ------------------------------------------------------------------ bad input


def test_bad_input():
    for options, message in (
        ({"frequency": 0}, "`frequency` must be a whole number, at least 1. Received: 0"),
        ({"frequency": 1.5}, "`frequency` must be a whole number"),
        ({"gradients": 1}, "`gradients` must be a whole number, at least 2. Received: 1"),
        ({"dead_below": 1.0}, r"`dead_below` must lie in \(0, 1\). Received: 1.0"),
    ):
        with pytest.raises(ValueError, match=f"Watch: {message}"):
            Watch(X, X, **options)
    for nothing in (X[:0], None, {"a": X[:0], "b": X[:0]}, np.float32(3)):
        with pytest.raises(ValueError, match="Watch: `x` has no rows"):
            Watch(nothing)
    dataset = tf.data.Dataset.from_tensor_slices((X, X)).batch(4)
    for whole in (dataset, iter(dataset)):
        with pytest.raises(TypeError, match=r"one batch .* next\(iter\(dataset\)\)"):
            Watch(whole)


def test_a_plain_model():
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)], name="plain")
    plain.compile("sgd", "mse")
    with pytest.raises(TypeError, match=r"tf_relax\.RelaxModel\. 'plain' is a Sequential"):
        plain.fit(X, X, callbacks=[Watch(X, X)], verbose=0)


def test_without_matplotlib(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for folder in ("output", "log_dir"):
        with pytest.raises(ImportError, match=r'pip install "tf-relax\[audit\]"'):
            Watch(X, X, **{folder: tmp_path})
    model = compiled(run_eagerly=True)
    history = model.fit(X, X, callbacks=[Watch(X, X)], verbose=0).history
    assert "code_entropy" in history  # the numbers need no pictures
