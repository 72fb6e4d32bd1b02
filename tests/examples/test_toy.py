"""The toy example: the command with a few steps, its shortcuts, and the result it is there for."""

import keras
import numpy as np
import pytest
import tensorflow as tf

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
        (row,) = [line for line in printed.splitlines() if line.startswith(estimator)]
        assert np.all(np.isfinite([float(cell) for cell in row.split()[1:]]))
        runs = results[0.499][estimator]
        assert len(runs) == 2
        for run in runs:
            assert run.probability.shape == run.log_variance.shape == (4,)
            assert run.probability[0] == 0.5
            assert run.surrogate.shape == toy.Z.shape
        assert not np.array_equal(runs[0].probability, runs[1].probability)


def test_every_restart_is_a_new_model(relax):
    def after_five_steps(seed):
        relax.restart(seed)
        relax.advance(tf.constant(0.45), tf.constant(5))
        return [keras.ops.convert_to_numpy(v) for v in relax.model.variables]

    first, other, again = (after_five_steps(seed) for seed in (0, 1, 0))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_loop_over_train_steps_is_fit(relax):
    relax.restart(0)
    relax.advance(tf.constant(0.45), tf.constant(5))
    looped = relax.model.get_weights()
    relax.restart(0)
    dataset = tf.data.Dataset.from_tensors(toy.data(tf.constant(0.45), 1)).repeat(5)
    relax.model.fit(dataset, shuffle=False, verbose=0)
    for a, b in zip(relax.model.get_weights(), looped, strict=True):
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
    expected = np.log(np.var(drawn.estimate.gradients[0]))
    assert float(log_variance) == pytest.approx(expected, abs=0.015)


@pytest.mark.slow
def test_relax_solves_what_is_hidden_in_noise(tmp_path):
    arguments = ["--t", "0.499", "--estimators", "relax", "--seeds", "5"]
    results = toy.main([*arguments, "--output", str(tmp_path / "toy.png")])
    runs = results[0.499]["relax"]
    p = [run.probability[-1] for run in runs]
    assert np.mean(p) <= 0.05
    assert max(p) <= 0.1
    assert np.mean([run.log_variance[-1] for run in runs]) <= -12
