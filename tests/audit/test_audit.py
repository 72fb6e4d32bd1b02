"""The audit of a model: what it measures, prints and leaves as it was."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tf_relax import audit
from tf_relax._src.audit import Report, Row
from tf_relax.estimators import LeaveOneOut

X = np.random.default_rng(0).standard_normal((4, 3)).astype("float32")


def two_layers(units=2, **compile_options):
    inputs = keras.Input((3,))
    b_1 = tf_relax.layers.RelaxBernoulli(name="one")(keras.layers.Dense(units)(inputs))
    b_2 = tf_relax.layers.RelaxBernoulli(name="two")(keras.layers.Dense(units)(b_1))
    hidden = keras.layers.Dense(4, activation="tanh")(b_2)
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(3)(hidden))
    for variable in model.trainable_variables:
        if variable.name == "kernel":
            variable.assign(2 * variable.value)
    model.compile("adam", loss="mse", **{"jit_compile": False, **compile_options})
    return model


@pytest.fixture(scope="module")
def report():
    keras.utils.set_random_seed(0)
    names = ["relax", "reinforce", "disarm", "straight_through"]
    return audit(two_layers(), X, X, names, num_samples=600, surrogate_steps=30, verbose=0)


def test_one_row_per_estimator_and_layer(report):
    assert [(row.estimator, row.layer) for row in report.rows] == [
        (name, layer)
        for name in ("relax", "reinforce", "disarm", "straight_through")
        for layer in ("one", "two")
    ]
    evaluations = {row.estimator: row.evaluations for row in report.rows}
    # One more per level of layers for relax and disarm.
    assert evaluations == {"relax": 3, "reinforce": 1, "disarm": 3, "straight_through": 1}
    assert all(row.milliseconds > 0 for row in report.rows)


def test_biases_are_seen_against_enumeration(report):
    assert report.reference.startswith("Exact")
    for row in report.rows:
        assert row.unbiased == (row.estimator != "straight_through")
        if row.unbiased:
            assert abs(row.z) < 5.5  # for six of them, once in 10^7 runs
        else:
            assert abs(row.z) > 6
            assert row.bias > 0.05
    assert report.recommended in ("relax", "reinforce", "disarm")


def test_variance_agrees_with_draws_of_the_model(report):
    keras.utils.set_random_seed(0)
    model = two_layers()
    with model.using("reinforce"):
        draw = tf.function(lambda: model.differentiate(X, X).logit_gradients[1])
        g = np.stack([draw() for _ in range(300)])
    row = next(r for r in report.rows if (r.estimator, r.layer) == ("reinforce", "two"))
    assert row.variance == pytest.approx(g.var(axis=0, ddof=1).mean(), rel=0.35)


def test_the_model_is_left_as_it_was():
    model = two_layers()
    model.fit(X, X, verbose=0)
    chosen = repr(model.estimator)
    variables = [*model.variables, *model.estimator_state.variables]
    state, before = model.estimator_state, [v.numpy() for v in variables]
    audit(model, X, X, ["relax", "nvil"], num_samples=8, surrogate_steps=5, verbose=0)
    assert model.estimator_state is state
    for old, variable in zip(before, variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy(), err_msg=variable.path)
    assert repr(model.estimator) == chosen


def test_forms_of_a_report(report, tmp_path):
    text = str(report)
    lines = text.splitlines()
    assert "Recommended: " in lines[-1]
    assert "NO" in text
    table = [line for line in lines if line.startswith(("estimator", "relax", "disarm"))]
    assert len({len(line) for line in table}) == 1  # aligned
    assert report.to_dict()["disarm"]["two"]["evaluations"] == 3
    frame = report.to_frame()
    assert list(frame.columns) == list(Row._fields)
    assert len(frame) == 8
    report.plot(tmp_path / "bars.png")
    assert (tmp_path / "bars.png").stat().st_size > 10_000


def test_recommends_no_estimator_that_is_or_shows_biased():
    def row(name, unbiased, z, cost):
        return Row(name, "code", unbiased, 1, 1, 1, 1, 0.0, z, 1.0, 1, 1.0, cost)

    quick_but_biased = row("concrete", False, 0.0, 1.0)
    claims_too_much = row("broken", True, 20.0, 2.0)
    reference = row("relax", True, float("nan"), 4.0)
    slower = row("disarm", True, 1.0, 3.0)
    rows = [quick_but_biased, claims_too_much, reference, slower]
    assert Report(rows, "relax").recommended == "disarm"
    assert Report(rows[:3], "relax").recommended == "relax"
    assert Report(rows[:2], "relax").recommended is None


def test_labels_and_a_reference_of_ones_own():
    contestants = {"two": LeaveOneOut(2), "four": LeaveOneOut(4)}
    model = two_layers(units=8)  # too many outcomes to enumerate
    report = audit(
        model, X, X, contestants, num_samples=60, surrogate_steps=0, reference="relax", verbose=0
    )
    assert report.reference == "relax"
    assert set(report.to_dict()) == {"two", "four"}
    report = audit(model, X, X, contestants, num_samples=60, surrogate_steps=0, verbose=0)
    assert report.reference == "four"  # the quieter one
    assert np.isnan(report.to_dict()["four"]["one"]["z"])


def test_batch_norm_dropout_and_xla():
    inputs = keras.Input((3,))
    x = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(inputs))
    b = tf_relax.layers.RelaxBernoulli(name="code")(keras.layers.Dense(8)(x))
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(3)(b))
    model.compile("adam", loss="mse", jit_compile=True)
    variables = [*model.variables, *model.estimator_state.variables]
    before = [v.numpy() for v in variables]
    report = audit(model, X, X, ["relax"], num_samples=8, surrogate_steps=2, verbose=0)
    assert np.isfinite(report.rows[0].variance)
    for old, variable in zip(before, variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy())


def test_bad_input():
    model = two_layers()
    with pytest.raises(ValueError, match="at least 8"):
        audit(model, X, X, num_samples=2)
    with pytest.raises(ValueError, match=r"Lax\(\).*'one'"):
        audit(model, X, X, ["relax", "lax"])
    with pytest.raises(ValueError, match="Unknown estimator"):
        audit(model, X, X, ["relaxx"])
    black_box = two_layers()
    black_box.compile("adam", loss=tf_relax.losses.BlackBox(lambda y, p: np.zeros(len(y))))
    with pytest.raises(ValueError, match="is a BlackBox"):
        audit(black_box, X, X, ["rebar"])
    fresh = tf_relax.RelaxModel([keras.layers.Dense(1), tf_relax.layers.RelaxBernoulli()])
    with pytest.raises(ValueError, match="not compiled"):
        audit(fresh, X, X)


def test_importance_weighted_models_have_no_sum_over_outcomes():
    inputs = keras.Input((3,))
    code = tf_relax.layers.RelaxBernoulli(prior="uniform", name="code")
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(3)(code(keras.layers.Dense(2)(inputs))))
    options = {"estimator": "vimco", "importance_samples": 3, "run_eagerly": True}
    model.compile("adam", tf_relax.losses.BernoulliNLL(), **options)
    for names in (["reinforce"], ["reinforce", "vimco"]):
        report = audit(model, X, X, names, num_samples=8, surrogate_steps=0, verbose=0)
        assert report.reference in names
    with pytest.raises(ValueError, match=r"Exact\(.*importance_samples=3"):
        audit(model, X, X, ["reinforce"], reference="exact", num_samples=8, verbose=0)
