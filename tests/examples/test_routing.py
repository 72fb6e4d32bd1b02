"""The routing example: its solver, its decoder, and the command."""

import itertools

import numpy as np
import pytest

import routing
from tf_relax import sequences


def test_lengths_of_round_trips():
    square = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    tours = np.array([[0, 1, 2, 3], [0, 2, 1, 3]])
    expected = [4.0, 2 + 2 * np.sqrt(2)]
    np.testing.assert_allclose(routing.lengths(np.stack([square, square]), tours), expected)


def test_optimal_tours_are_those_of_all_permutations(rng):
    # In two heaps, so that round trips that are too short have to be ruled out.
    for spread in (1.0, 0.1):
        cities = spread * rng.random((7, 2)) + np.repeat([[0.0], [5.0]], [3, 4], axis=0)
        every = np.array([[0, *rest] for rest in itertools.permutations(range(1, 7))])
        shortest = routing.lengths(np.broadcast_to(cities, (len(every), 7, 2)), every).min()
        tour = routing.optimal(cities)
        assert sorted(tour) == list(range(7))
        assert routing.lengths(cities, tour) == pytest.approx(shortest)


def test_the_decoder_scores_what_it_draws(rng):
    """Memory and parallel scoring are one function, and tours visit every city once."""
    cities = rng.random((3, 5, 2)).astype("float32")
    starts = np.zeros((3, 1), "int32")
    model = sequences.SequenceModel(routing.Pointer(width=8, heads=2), 4)
    every = model.sample_without_replacement([cities, starts], 24, seed=0)
    np.testing.assert_array_equal(np.sort(every.tokens, axis=1), np.tile([1, 2, 3, 4], (72, 1)))
    rows = [np.repeat(cities, 24, axis=0), np.repeat(starts, 24, axis=0)]
    p = np.exp(model.log_prob(rows, every)).reshape(3, 24).sum(axis=1)
    np.testing.assert_allclose(p, 1.0, rtol=1e-5)  # these are all that there are


@pytest.mark.parametrize("name", ["leave_one_out", "unordered_set", "relax"])
def test_command(name, tmp_path, capsys):
    small = ["--cities", "5", "--samples", "3", "--batch-size", "4", "--width", "8", "--test", "3"]
    run = ["--steps", "2", "--checkpoints", "2", "--verbose", "0", "--output", str(tmp_path)]
    gaps = routing.main(["--estimators", name, *small, *run])
    assert set(gaps) == {name}
    assert 0 <= gaps[name] < 200
    assert "above the optimum" in capsys.readouterr().out
    assert (tmp_path / "tours.png").stat().st_size > 1000


@pytest.mark.slow
def test_tours_get_short(tmp_path):
    run = ["--cities", "8", "--samples", "6", "--steps", "400", "--checkpoints", "1"]
    gaps = routing.main([*run, "--test", "100", "--verbose", "0", "--output", str(tmp_path)])
    assert gaps["leave_one_out"] < 6
