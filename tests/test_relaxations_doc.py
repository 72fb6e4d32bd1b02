"""The recipe of docs/relaxations.md: its code runs, and its relaxation is proven by enumeration."""

import itertools
import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tests.estimators import test_families as estimators_of_families
from tests.relaxations import test_families as checks
from tests.relaxations.families import Family
from tf_relax._src.relaxations import capabilities

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "relaxations.md"


@pytest.fixture(scope="module")
def recipe():
    """What the blocks of the page define, after all of them have run."""
    code = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    namespace = {"__name__": "__main__"}
    for number, block in enumerate(code):
        exec(compile(block, f"{PAGE.name}, block {number}", "exec"), namespace)
    return namespace


@pytest.fixture
def family(recipe):
    """Five items: 3 + 2 + 2 + 2 + 3 ordered pairs that are no neighbours."""
    return Family("apart", recipe["RelaxApart"], (5,), 12)


def test_outcomes(family):
    outcomes = family.relaxation.outcomes(family.shape)
    pairs = {tuple(np.argmax(outcome, axis=-1)) for outcome in outcomes}
    expected = {(i, j) for i, j in itertools.product(range(5), repeat=2) if abs(i - j) > 1}
    assert pairs == expected
    assert len(outcomes) == family.outcomes


def test_probabilities(family, rng):
    """By hand, and summing to one."""
    a = checks.logits(family, rng, 1)
    draws, p = checks.every_outcome(family, a)
    rate = np.exp(np.asarray(a[0]))
    for (first, second), found in zip(np.argmax(draws.trace.chosen, axis=-1), p, strict=True):
        left = sum(rate[k] for k in range(5) if abs(k - first) > 1)
        np.testing.assert_allclose(found, rate[first] / rate.sum() * rate[second] / left)
    np.testing.assert_allclose(p.sum(), 1, rtol=1e-12)


@pytest.mark.parametrize(
    "check",
    [
        checks.test_samples_have_those_probabilities,
        checks.test_score_is_the_derivative_of_log_prob,
        checks.test_conditional_samples_give_the_same_outcome,
        checks.test_conditional_samples_are_distributed_as_samples,
        checks.test_derivative_of_conditional_samples,
        checks.test_relaxed_score,
        checks.test_relaxed_samples_are_continuous_and_turn_hard,
        checks.test_examples_do_not_reach_each_other,
        checks.test_leading_dimensions_are_independent_choices,
    ],
    ids=lambda check: check.__name__,
)
def test_checks_of_every_family(check, family, rng):
    check(family, rng)


def test_compiled(family, rng):
    for jit_compile in (False, True):
        checks.test_compiled(family, jit_compile, rng)


def test_relax_is_unbiased(family, seed, float64):
    """20 batches of 5,000: an error beyond 6 standard errors happens once in 5e8, of 5 in 1e8."""
    logits = tf.constant(np.random.default_rng(3).normal(size=(1, 5)))
    model = estimators_of_families.model_of(family, tf_relax.estimators.Relax())
    model.get_layer("layer").seed_generator.state.assign([seed, 5])
    scores, mean = estimators_of_families.z_scores(model, logits, runs=20, rows=5_000)
    assert np.abs(mean).max() > 0.01
    assert np.abs(scores).max() < 6


def test_the_layer_is_saved_with_its_model(recipe, tmp_path):
    model, x = recipe["model"], recipe["positions"]
    own, learned = model.weights, model.estimator_state.variables
    assert all(np.isfinite(v.numpy()).all() for v in [*own, *learned])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.stochastic_layers[0], recipe["RelaxApart"])
    again = [*loaded.weights, *loaded.estimator_state.variables]
    for a, b in zip([*own, *learned], again, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert loaded.predict(x, verbose=0).shape == (64, 6)


def test_what_may_be_left_out(recipe, rng):
    """Without `relax` and `relaxed_log_prob`, the surrogate network and no prior will do."""

    class Bare(recipe["Apart"]):
        relax = tf_relax.relaxations.Relaxed.relax
        relaxed_log_prob = tf_relax.relaxations.Relaxation.relaxed_log_prob

    inputs = keras.Input((6,))
    layer = tf_relax.layers.Discrete(relaxation=Bare())
    stands = layer(keras.layers.Dense(6, name="encoder")(inputs))
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(6)(stands))
    estimator = tf_relax.estimators.Relax(surrogate="network")
    model.compile("adam", loss="mse", estimator=estimator, run_eagerly=True)
    before = model.get_layer("encoder").kernel.numpy()
    model.fit(rng.normal(size=(8, 6)), np.ones((8, 6)), verbose=0)
    assert (model.get_layer("encoder").kernel.numpy() != before).any()


def test_too_few_items(recipe):
    with pytest.raises(ValueError, match=r"RelaxApart 'road' expects logits.*n >= 4"):
        recipe["RelaxApart"](name="road")(tf.zeros((2, 3)))


def test_every_layer_and_relaxation_has_its_row():
    text = PAGE.read_text()
    for name in set(tf_relax.layers.__all__) - {"ConditionalPrior", "Discrete", "Stochastic"}:
        assert f"`{name}(" in text, name
    helpers = {
        "Counts",
        "Draw",
        "Law",
        "Race",
        "Relaxation",
        "Trace",
        "assignment",
        "complete_graph",
        "sinkhorn",
    }
    offers = set(capabilities.__all__)
    assert all(f"`{name}`" in text for name in offers - {"num_outcomes"})
    for name in set(tf_relax.relaxations.__all__) - helpers - offers - {"stick_logits"}:
        assert f"`{name}`" in text, name


def test_what_the_table_says_of_xla():
    """Its rows that say no are the relaxations that XLA cannot compile."""
    text = PAGE.read_text()
    found = {}
    for row in re.findall(r"^\| `.*$", text, flags=re.MULTILINE):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        if len(cells) == 6:
            found |= dict.fromkeys(re.findall(r"`(\w+)`", cells[0]), cells[4])
    for name, answer in found.items():
        supports = getattr(tf_relax.relaxations, name).supports_jit
        assert supports == (answer != "no"), name
    assert {name for name, answer in found.items() if answer == "no"} == {
        "GumbelMatching",
        "NearestPermutation",
    }
