"""The benchmarks of categories and permutations run, small, and their parts are right."""

import itertools
import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))

pytestmark = pytest.mark.slow


def test_places_are_those_of_all_permutations(rng):
    from permutation_toy import placed

    logits = rng.normal(size=4)
    expected = np.zeros((4, 4))
    for order in itertools.permutations(range(4)):
        weights = np.exp(logits[list(order)])
        probability = np.prod(weights / np.cumsum(weights[::-1])[::-1])
        expected[range(4), order] += probability
    np.testing.assert_allclose(placed(logits), expected, rtol=1e-12)


def test_gap_is_the_objective_minus_its_optimum():
    from permutation_toy import gap, squared_distance, target

    t = target(3, 0.05)
    np.testing.assert_allclose(t.sum(axis=0), 1, rtol=1e-6)
    np.testing.assert_allclose(np.diag(t), 1 / 3 + 0.05, rtol=1e-6)
    permutations = np.eye(3, dtype="float32")[list(itertools.permutations(range(3)))]
    values = np.asarray(squared_distance(np.repeat(t[None], 6, axis=0), permutations))
    assert values.argmin() == 0  # the identity
    assert gap(np.zeros(3), 0.05) == pytest.approx(values.mean() - values[0], rel=1e-5)
    assert gap(np.array([80.0, 40.0, 0.0]), 0.05) == pytest.approx(0, abs=1e-12)


def test_arrays_of_a_program():
    from plackett_luce_cost import arrays

    assert arrays("%x = (f32[4,100]{1,0}, s32[]) sort(pred[7] %y)") == [1600, 4, 7]


def test_plackett_luce_costs_what_sorting_costs():
    import plackett_luce_cost

    ratios = plackett_luce_cost.main(["--items", "100", "10000", "--numbers=200000", "--rounds=3"])
    assert 0 < ratios["time"] <= 300  # n log n grows 200 times, n^2 10,000 times
    assert ratios["largest array"] == pytest.approx(100)
    assert 80 < ratios["written"] < 150


def test_permutation_variance():
    import permutation_variance

    arguments = ["--eps=0.05", "--seeds=0", "--surrogate-steps=200", "--draws=20", "--no-jit"]
    result = permutation_variance.main(arguments)
    for surrogate in ("objective", "network", "sum"):
        assert 4 * result[f"relax, {surrogate}"][0] < result["reinforce"][0]


def test_permutation_toy_draws_all_estimators(tmp_path, capsys):
    import permutation_toy

    figure = tmp_path / "folder" / "toy.png"
    small = ["--items=3", "--steps=20", "--checkpoints=2", "--seeds=2", "--rates", "0.01", "0.1"]
    result = permutation_toy.main([*small, "--no-jit", f"--output={figure}"])
    assert figure.stat().st_size > 1000
    for by_rate in result.values():
        for runs in by_rate.values():
            assert runs.shape == (2, 3)
            np.testing.assert_allclose(runs[:, 0], 0.3, rtol=1e-5)  # (d - 1) 2 eps d / (d - 1)
            assert np.isfinite(runs).all()
            assert (runs[:, 1:] != runs[:, :1]).all()
            assert runs[0, -1] != runs[1, -1]
    assert capsys.readouterr().out.count("<- best") == 2


def test_permutation_toy_is_solved_by_relax_alone(tmp_path):
    import permutation_toy

    figure = tmp_path / "toy.png"
    arguments = ["--seeds=1", "--rates=0.03", "--checkpoints=5", f"--output={figure}"]
    result = permutation_toy.main(arguments)
    assert result["relax"][0.03][0, -1] <= 0.02
    assert result["reinforce"][0.03].min() > 0.3


def test_categories_cost_about_what_bernoulli_units_cost():
    import categorical_cost

    result = categorical_cost.main(["--steps=20", "--rounds=5"])
    assert 0 < result["categorical / bernoulli"] <= 1.5
