"""Two replicas train as one device does, on two logical devices of this machine."""

import pathlib
import re
import subprocess
import sys

import numpy as np

SCRIPT = pathlib.Path(__file__).with_name("mirrored.py")


def exact_gradients_lead_to_the_weights_of_one_device(found):
    """Also where the last batch of an epoch is uneven, or leaves the second replica with nothing.

    The bar is 1e-5 after 50 steps; in float64 there is nothing but rounding.
    """
    assert found.keys() == {"even", "uneven", "one_row", "sum", "eagerly", "compiled"}
    for case, (weights, losses, _) in found.items():
        assert weights < 1e-11, case
        assert losses < 1e-11, case
    _, _, fallen = found["even"]
    assert fallen > 0.1  # it did train


def every_estimator_gives_the_gradients_of_one_device(found):
    """Given the same noise: of the model and of what the estimator learns."""
    assert len(found) == 11
    for name, difference in found.items():
        assert difference < 1e-12, name


def replicas_draw_noise_of_their_own(found):
    predicted, drawn, masked = (found[key] for key in ("predicted", "drawn", "masked"))
    np.testing.assert_array_equal(predicted[0], predicted[1])  # the same model again
    assert (predicted[0, 0] != predicted[0, 1]).any()
    for kind in (drawn, masked):  # [step, replica, ...]
        assert (kind[0, 0] != kind[0, 1]).any()
        assert (kind[0] != kind[1]).any()
    # Independent: of 64 pairs of fair bits, half agree; 6 standard errors are .375.
    assert abs(np.mean(drawn[0, 0] == drawn[0, 1]) - 0.5) < 0.375


def the_mean_is_that_of_one_device_and_the_variance_falls_with_the_global_batch(found):
    """400 steps each: a shift of .5 standard deviations of one step is found 98 times in 100.

    Of 12 weights, one exceeds 5 standard errors of the difference of means once in 100,000 runs.
    Ratios of two variances, each with a relative standard error of .07 or less, over the weights.
    """
    for name in ("relax", "leave_one_out"):
        one, two, twice = (found[f"{name}_{kind}"] for kind in ("one", "two", "twice"))
        error = np.sqrt(one.var(axis=0) / len(one) + two.var(axis=0) / len(two))
        assert np.all(np.abs(one.mean(axis=0) - two.mean(axis=0)) < 5 * error + 1e-12), name
        variances = [draw.var(axis=0).sum() for draw in (one, two, twice)]
        assert 0.7 < variances[1] / variances[0] < 1.4, name
        assert 0.35 < variances[2] / variances[1] < 0.7, name


def trainings_end_with_the_same_weights_everywhere(found):
    assert found.keys() == {"batch_norm", "baseline", "rodeo", "auto"}
    for case, (*losses, apart) in found.items():
        assert np.isfinite(losses).all(), case
        assert apart == 0, case


def what_stands_around_a_training_works_on_two_replicas(found):
    """An audit draws on one device, whatever the model trains on."""
    np.testing.assert_allclose(found["audit_one"], found["audit_two"], rtol=1e-9)
    assert len(found["variance"]) == 2
    assert np.all(found["variance"] > 0)
    assert len(found["watched"]) == 2
    assert np.all(np.isfinite(found["watched"]))
    assert found["distance"] == 0
    assert found["finite"].all()


def what_does_not_work_says_so(found):
    said = {
        "audit": "draws every batch on one device.*outside of `strategy.scope",
        "steps": "several steps.*in one graph on CPUs.*Use steps_per_execution=1",
        "synchronized": "batch statistics.*has synchronized=True.*Use synchronized=False",
        "policy": "Policies do not train on several replicas.*n_envs",
    }
    assert found.keys() == said.keys()
    for case, pattern in said.items():
        message = str(found[case])
        assert message.startswith("ValueError"), message
        assert re.search(pattern, message), message


def test_two_replicas(tmp_path):
    """One test, for one process makes all that is checked."""
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = {path.stem: dict(np.load(path)) for path in tmp_path.glob("*.npz")}
    exact_gradients_lead_to_the_weights_of_one_device(found["exact"])
    every_estimator_gives_the_gradients_of_one_device(found["of_every_estimator"])
    replicas_draw_noise_of_their_own(found["noise"])
    the_mean_is_that_of_one_device_and_the_variance_falls_with_the_global_batch(found["statistics"])
    trainings_end_with_the_same_weights_everywhere(found["trained"])
    what_stands_around_a_training_works_on_two_replicas(found["tools"])
    what_does_not_work_says_so(found["refusals"])
