"""`Watch` in `fit`: training does not notice, where it shows, and what bad input gets."""

import base64
import re
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tests.callbacks.watched import X, compiled, measured
from tf_relax._src.callbacks import watch_figure, watch_panels
from tf_relax.callbacks import Watch
from tf_relax.estimators import Nvil, Relax

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
