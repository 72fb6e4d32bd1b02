"""Sorting, small: the lists, the errors that are counted, symmetry, and what is learnt."""

import numpy as np
import pytest
import tensorflow as tf

import sorting


def test_lists_are_uniform_and_targets_sorted():
    lists, ordered = sorting.make_lists(400, 5, np.random.default_rng(0))
    assert lists.shape == ordered.shape == (400, 5)
    assert lists.min() >= 0
    assert lists.max() <= 1
    assert abs(lists.mean() - 0.5) < 0.05  # 0.0065 is one standard error
    assert (np.diff(ordered, axis=1) >= 0).all()
    np.testing.assert_array_equal(np.sort(lists), ordered)
    assert (lists != ordered).any()


def test_errors_by_hand():
    ordered = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    found = np.array([[1.0, 2.0, 3.0], [2.0, 1.0, 3.0], [3.0, 1.0, 2.0]])
    assert sorting.out_of_place(found, ordered) == pytest.approx((2 / 3, 5 / 9))
    assert sorting.out_of_place(ordered, ordered) == (0, 0)


@pytest.mark.parametrize("method", sorting.METHODS)
def test_models_permute_and_do_not_look_at_the_order(method):
    model = sorting.build(method, 6)
    if method == "plackett_luce":  # scores are all the same before training
        model.get_layer("scores").set_weights([np.ones((32, 1)), np.zeros(1)])
    lists, ordered = sorting.make_lists(8, 6, np.random.default_rng(0))
    found = np.asarray(model(lists, training=False))
    np.testing.assert_array_equal(np.sort(found), ordered)
    shuffled = np.random.default_rng(1).permuted(lists, axis=1)
    np.testing.assert_array_equal(model(shuffled, training=False), found)


def test_ascending_matrices():
    """Scores that fall with the number put the smallest first; a matrix shows it."""
    model = sorting.build("plackett_luce", 3)
    model.get_layer("hidden").set_weights([-np.ones((1, 32)), np.ones(32)])
    model.get_layer("scores").set_weights([np.ones((32, 1)), np.zeros(1)])
    numbers = np.array([0.5, 0.1, 0.9], "float32")
    np.testing.assert_allclose(model(numbers[None], training=False), [[0.1, 0.5, 0.9]])
    soft, hard = sorting.matrices(model, numbers, 10.0)
    np.testing.assert_array_equal(hard, [[0, 1, 0], [1, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(np.argmax(soft, axis=1), np.argmax(hard, axis=1))
    assert ((soft > 0) & (soft < 1)).any()


def test_main(tmp_path, capsys):
    output = tmp_path / "pictures" / "sorting.png"
    arguments = ["--n", "4", "--steps", "20", "--test-lists", "50", "--output", str(output)]
    results = sorting.main(arguments)
    assert output.stat().st_size > 1000
    assert list(results) == list(sorting.METHODS)
    assert [result.unbiased for result in results.values()] == [False, True]
    for result in results.values():
        assert result.steps[-1] > 0
        for fraction in (result.wrong, result.sampled_wrong):
            assert len(fraction) == len(result.steps)
            assert ((fraction >= 0) & (fraction <= 1)).all()
        assert result.wrong[0] > 0.5  # an order drawn blindly is wrong for 23 lists in 24
    printed = capsys.readouterr().out
    for name in ("gumbel_sinkhorn", "plackett_luce", "Concrete(temperature=1.0)", "Relax"):
        assert name in printed


def test_noise_is_the_layers(tmp_path, monkeypatch):
    arguments = ["--n", "3", "--steps", "2", "--test-lists", "9", "--method", "gumbel_sinkhorn"]
    arguments = [*arguments, "--output", str(tmp_path / "sorting.png")]
    (result,) = sorting.main(arguments).values()
    np.testing.assert_array_equal(result.sampled_wrong, result.wrong)  # no noise by default
    models = []

    def train(model, *_):
        models.append(model)
        return result

    monkeypatch.setattr(sorting, "train", train)
    assert list(sorting.main([*arguments, "--noise-scale", "0.5"])) == ["gumbel_sinkhorn"]
    a = tf.zeros((1, 3, 3))
    draw = models[0].get_layer("permutation").relaxation.sample(a, tf.ones_like(a))
    np.testing.assert_array_equal(draw.z, 0.5 * np.ones((1, 3, 3)))


@pytest.mark.slow
@pytest.mark.parametrize(("n", "steps", "bar"), [(10, 1500, 0.0), (50, 1500, 0.05)])
def test_gumbel_sinkhorn_sorts(n, steps, bar, tmp_path):
    arguments = ["--n", str(n), "--steps", str(steps), "--output", str(tmp_path / "sorting.png")]
    results = sorting.main([*arguments, "--method", "gumbel_sinkhorn"])
    assert results["gumbel_sinkhorn"].wrong[-1] <= bar


@pytest.mark.slow
def test_relax_sorts(tmp_path):
    arguments = ["--n", "10", "--method", "plackett_luce", "--output", str(tmp_path / "p.png")]
    assert sorting.main(arguments)["plackett_luce"].wrong[-1] <= 0.05
