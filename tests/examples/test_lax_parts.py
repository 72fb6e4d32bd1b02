"""The parts of LAX: that they add up to the package's estimate, and what each is on average."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import lax_parts


@pytest.fixture(scope="module")
def model():
    """A unit whose surrogate has learned a little, so that every part is at work."""
    keras.utils.set_random_seed(0)
    model = lax_parts.build_model(0.3, -0.2)
    lax_parts.train_surrogate(model, 20, jit_compile=False)
    return model


def test_parts_add_up_to_the_estimate_of_the_package(model, rng):
    noise = rng.normal(size=(50, 1)).astype("float32")
    found = lax_parts.parts(model, noise)
    step = model.differentiate(*lax_parts.data(50), noise=[noise])
    np.testing.assert_allclose(found.lax, step.logit_gradients[0], rtol=1e-4, atol=1e-5)
    for part in found:
        assert np.all(np.std(part, axis=0) > 1e-3)  # none of them is a constant


def test_only_the_surrogate_learns(model):
    kernel = model.get_layer("parameters").kernel
    np.testing.assert_allclose(kernel, [[0.3, -0.2]])
    assert np.any(model.estimator_state["unit"].surrogate.get_weights()[-1] != 0)


def test_surrogate_changes_no_mean(model, rng):
    found = lax_parts.parts(model, rng.normal(size=(200_000, 1)).astype("float32"))
    exact = lax_parts.exact_gradient(model)
    for samples, mean in [
        (found.reinforce, exact),
        (found.lax, exact),
        (found.pathwise + found.score, 0),
    ]:
        error = np.std(samples, axis=0) / np.sqrt(len(samples))
        assert np.all(np.abs(np.mean(samples, axis=0, dtype="float64") - mean) < 5 * error)


def test_best_surrogate_leaves_no_noise(rng):
    """Where mu = t: c = f + 2 sigma^2, as the docstring says."""
    t, sigma = lax_parts.T, np.exp(0.5)
    model = lax_parts.build_model(t, 0.5)

    def best(z, **looks_at):
        return tf.square(z[:, 0] - t) + 2 * sigma**2

    model.estimator_state["unit"].surrogate.call = best
    found = lax_parts.parts(model, rng.normal(size=(1000, 1)).astype("float32"))
    np.testing.assert_allclose(found.lax, np.full((1000, 2), [0, 2 * sigma**2]), atol=1e-4)


def test_command_prints_a_table_and_draws_a_figure(tmp_path, capsys):
    path = tmp_path / "figures" / "lax_parts.png"
    arguments = ["--steps", "300", "--samples", "20000", "--no-jit", "--output", str(path)]
    found, exact = lax_parts.main(arguments)

    assert path.read_bytes().startswith(b"\x89PNG")
    np.testing.assert_allclose(exact, [-0.998, 2])
    # A little training is enough to make the sum much quieter than its first part.
    assert np.all(np.var(found.lax, axis=0) < np.var(found.reinforce, axis=0) / 4)
    lines = capsys.readouterr().out.splitlines()
    for title, name in [
        ("(a)", "reinforce"),
        ("(b)", "pathwise"),
        ("(c)", "score"),
        ("(d)", "lax"),
    ]:
        rows = [line.split() for line in lines if line.startswith(title)]
        printed = [float(row[-1]) for row in rows]
        np.testing.assert_allclose(printed, np.var(getattr(found, name), axis=0), rtol=1e-2)
