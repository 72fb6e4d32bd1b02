"""The toy example: the command with a few steps, its shortcuts, and the result it is there for."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
import toy


@pytest.fixture(scope="module")
def relax():
    """RELAX without XLA, which takes longer to compile than these tests to run."""
    return toy.Toy("relax", jit_compile=False)


def test_command_prints_a_table_and_draws_a_figure(tmp_path, capsys):
    path = tmp_path / "figures" / "toy.png"
    arguments = ["--t", "0.499", "--steps", "3", "--seeds", "2", "--no-jit"]
    results = toy.main([*arguments, "--output", str(path)])

    assert path.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "t = 0.499" in printed
    for estimator in ("reinforce", "rebar", "relax"):
        (row,) = [line for line in printed.splitlines() if line.split()[:1] == [estimator]]
        *numbers, unbiased, z_score = row.split()[1:]
        assert np.all(np.isfinite([float(cell) for cell in [*numbers, z_score]]))
        assert unbiased == "yes"
        runs = results[0.499][estimator]
        assert len(runs) == 2
        for run in runs:
            assert run.probability.shape == run.log_variance.shape == (4,)
            assert run.probability[0] == 0.5
            assert run.surrogate.shape == toy.Z.shape
        assert not np.array_equal(runs[0].probability, runs[1].probability)


def values_of(a_toy):
    """Everything that the model holds, and that its estimator has learned."""
    variables = [*a_toy.model.variables, *a_toy.model.estimator_state.variables]
    return [keras.ops.convert_to_numpy(v) for v in variables]


def test_every_restart_is_a_new_model(relax):
    def after_five_steps(seed):
        relax.restart(seed)
        relax.advance(tf.constant(0.45), tf.constant(5))
        return values_of(relax)

    first, other, again = (after_five_steps(seed) for seed in (0, 1, 0))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_loop_over_train_steps_is_fit(relax):
    relax.restart(0)
    relax.advance(tf.constant(0.45), tf.constant(5))
    looped = values_of(relax)
    relax.restart(0)
    dataset = tf.data.Dataset.from_tensors(toy.data(tf.constant(0.45), 1)).repeat(5)
    relax.model.fit(dataset, shuffle=False, verbose=0)
    for a, b in zip(values_of(relax), looped, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [0, 50])
def test_log_variance_is_that_of_independent_draws(relax, steps):
    t = tf.constant(0.45)
    relax.restart(0)
    relax.advance(t, tf.constant(steps))
    p, log_variance = relax.measure(t)
    drawn = relax.model.differentiate(*toy.data(t, 200_000))
    assert float(p) == pytest.approx(float(tf.sigmoid(drawn.sites[0].logits[0, 0])))
    # The standard error of the draws is .00001 at the start and .002 after 50 steps.
    expected = np.log(np.var(drawn.logit_gradients[0]))
    assert float(log_variance) == pytest.approx(expected, abs=0.015)


def test_every_estimator_of_a_coin_has_a_style():
    coin = toy.build_model().get_layer("coin")

    def defined(name):
        estimator = tf_relax.estimators.get(name)
        try:
            estimator.check(coin)
            estimator.check_objective(None)
        except ValueError:
            return False
        return True

    assert sorted(toy.STYLES) == [name for name in tf_relax.estimators.names() if defined(name)]
    styles = [(style["color"], style["linestyle"]) for style in toy.STYLES.values()]
    assert len(set(styles)) == len(styles)


def at_logit(estimator, logit):
    """Returns an untrained toy at a logit where a bias would show."""
    untrained = toy.Toy(estimator, jit_compile=False)
    untrained.restart(0)
    untrained.logit.assign([[logit]])
    return untrained


@pytest.mark.parametrize("estimator", ["leave_one_out", "arms"])
def test_log_variance_of_several_samples_is_that_of_independent_draws(estimator):
    t = tf.constant(0.45)
    several = at_logit(estimator, -1.0)
    _, log_variance = several.measure(t)
    drawn = several.model.differentiate(*toy.data(t, 200_000))
    # 10,000 nodes: the standard error of the log-variance is .01 to .02.
    assert float(log_variance) == pytest.approx(np.log(np.var(drawn.logit_gradients[0])), abs=0.08)
    assert several.evaluations == several.model.estimator.num_samples


def test_enumeration_has_no_noise():
    exact = at_logit("exact", -1.0)
    _, log_variance = exact.measure(tf.constant(0.45))
    assert float(log_variance) < -35  # 0 to rounding, and finite: it can be drawn
    assert abs(float(exact.check(tf.constant(0.45)))) < 1


@pytest.mark.parametrize("estimator", ["relax", "nvil", "disarm", "straight_through", "concrete"])
def test_z_score_tells_biased_from_unbiased(estimator):
    drawn = at_logit(estimator, -1.0)
    before = values_of(drawn)
    z_score = abs(float(drawn.check(tf.constant(0.45))))
    assert z_score < 4 if drawn.model.estimator.unbiased else z_score > 20
    # Looking at a gradient changes nothing, neither random numbers nor a baseline.
    for after, value in zip(values_of(drawn), before, strict=True):
        np.testing.assert_array_equal(after, value)


def test_z_score_is_unknown_where_draws_are_too_few():
    assert np.isnan(float(at_logit("reinforce", -12.0).check(tf.constant(0.45))))


@pytest.mark.slow
def test_all_estimators_run(tmp_path, capsys):
    arguments = ["--t", "0.45", "--estimators", "all", "--steps", "2", "--seeds", "1", "--no-jit"]
    results = toy.main([*arguments, "--output", str(tmp_path / "toy.png")])
    assert list(results[0.45]) == list(toy.STYLES)
    printed = capsys.readouterr().out
    for estimator in toy.STYLES:
        (row,) = [line for line in printed.splitlines() if line.split()[:1] == [estimator]]
        unbiased = tf_relax.estimators.get(estimator).unbiased
        assert row.split()[-2] == ("yes" if unbiased else "no")


@pytest.mark.slow
def test_relax_solves_what_is_hidden_in_noise(tmp_path):
    arguments = ["--t", "0.499", "--estimators", "relax", "--seeds", "5"]
    results = toy.main([*arguments, "--output", str(tmp_path / "toy.png")])
    runs = results[0.499]["relax"]
    p = [run.probability[-1] for run in runs]
    assert np.mean(p) <= 0.05
    assert max(p) <= 0.1
    assert np.mean([run.log_variance[-1] for run in runs]) <= -12
