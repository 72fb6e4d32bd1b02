"""The ranking example: its simulator, its surrogate, the command, and what it is there for."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import ranking


def labels_of(*items):
    """One query of (appeal, price, category), filled up with items that nobody buys."""
    rest = [(0.0, 1.0, 2)] * (ranking.ITEMS - len(items))
    return np.array([[*items, *rest]], dtype="float32")


def order_of(*first):
    return np.array([[*first, *(k for k in range(ranking.ITEMS) if k not in first)]])


def test_revenue_worked_out_by_hand():
    labels = labels_of((0.5, 2.0, 0), (0.4, 1.0, 0), (0.2, 3.0, 1))
    # Place 1 sells for .5 * 2; (1 - .5) .95 look on, and see a second item of its category.
    looks = 0.5 * 0.95
    expected = 1.0 + looks * 0.04 * 1.0 + looks * 0.96 * 0.95 * 0.2 * 3.0
    assert ranking.revenue(labels, order_of(0, 1, 2))[0] == pytest.approx(expected, rel=1e-6)
    expected = 1.0 + looks * 0.6 + looks * 0.8 * 0.95 * 0.04 * 1.0
    assert ranking.revenue(labels, order_of(0, 2, 1))[0] == pytest.approx(expected, rel=1e-6)


def test_revenue_ends_with_the_last_place():
    labels = labels_of((0.5, 2.0, 0))
    others = range(1, ranking.ITEMS)
    seen = order_of(*itertools.islice(others, ranking.PLACES - 1), 0)
    unseen = order_of(*itertools.islice(others, ranking.PLACES), 0)
    looks = ranking.PATIENCE ** (ranking.PLACES - 1)
    assert ranking.revenue(labels, seen)[0] == pytest.approx(looks, rel=1e-6)
    assert ranking.revenue(labels, unseen)[0] == 0


def test_cost_serves_the_loss_as_it_comes():
    queries = ranking.make_queries(5, seed=0)
    order = np.tile(np.arange(ranking.ITEMS), (5, 1))
    costs = ranking.cost(queries.labels, order.astype("float32"))
    np.testing.assert_array_equal(costs, -ranking.revenue(queries.labels, order))
    assert costs.shape == (5,)


def test_queries_are_seeded_and_the_labels_hidden_in_the_features():
    queries, again = ranking.make_queries(2000, seed=3), ranking.make_queries(2000, seed=3)
    np.testing.assert_array_equal(queries.features, again.features)
    other = ranking.make_queries(2000, seed=4)
    assert not np.array_equal(queries.features, other.features)
    np.testing.assert_allclose(queries.features[..., -1], np.log(queries.labels[..., 1]), atol=1e-5)
    category = queries.labels[..., 2].astype(int)
    one_hot = queries.features[..., ranking.TASTES : ranking.TASTES + ranking.CATEGORIES]
    np.testing.assert_array_equal(one_hot, np.eye(ranking.CATEGORIES)[category])

    # Half of the variance of the appeal is linear in the features of a category, not all of it.
    def explained(k):
        x, y = queries.features[category == k], queries.labels[..., 0][category == k]
        x = np.concatenate([x[:, : ranking.TASTES], np.ones((len(x), 1))], axis=1)
        return 1 - np.var(y - x @ np.linalg.lstsq(x, y, rcond=None)[0]) / np.var(y)

    for k in range(ranking.CATEGORIES):
        assert 0.3 < explained(k) < 0.95


def test_what_stands_before_is_a_count_where_scores_are_far_apart():
    scores = keras.ops.convert_to_tensor(100.0 * np.arange(ranking.ITEMS)[None])
    items = np.ones((1, ranking.ITEMS, 1))
    before = ranking.stands_before(tf.cast(scores, "float32"), tf.constant(items, tf.float32))
    np.testing.assert_allclose(before[0, :, 0], np.arange(ranking.ITEMS)[::-1], atol=1e-6)


def test_listwise_loss_is_the_likelihood_of_the_ideal_order():
    rng = np.random.default_rng(0)
    labels, scores = ranking.make_queries(1, seed=0).labels, rng.normal(size=(1, ranking.ITEMS))
    left = list(np.argsort(-labels[0, :, 0] * labels[0, :, 1]))
    expected = 0.0
    for _ in range(ranking.PLACES):
        expected -= scores[0, left[0]] - np.log(np.sum(np.exp(scores[0, left])))
        left.pop(0)
    loss = ranking.listwise_loss(tf.constant(labels), tf.constant(scores, tf.float32))
    assert float(loss[0]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_restart_forgets_everything():
    setting = ranking.Setting(10, 4, (0.01,), 1, 20)
    contestant = ranking.Contestant("relax", setting)
    first, other, again = (contestant.train(seed, 0.01) for seed in (0, 1, 0))
    np.testing.assert_allclose(first, again, rtol=1e-5)
    assert not np.allclose(first, other, rtol=1e-5)


def test_command_prints_a_table_and_draws_a_figure(tmp_path, capsys):
    path = tmp_path / "figures" / "ranking.png"
    methods = ["relax", "leave_one_out, K = 4", "listwise"]
    arguments = ["--steps", "12", "--batch-size", "4", "--seeds", "2", "--queries", "30"]
    arguments += ["--learning-rates", "0.01", "--methods", *methods, "--output", str(path)]
    results = ranking.main(arguments)

    assert path.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "after 48 evaluations" in printed
    assert list(results) == methods
    for name, result in results.items():
        assert any(line.startswith(name) for line in printed.splitlines())
        assert result.learning_rate == 0.01
        assert result.sampled.shape == result.mode.shape == (2, len(ranking.checkpoints(12)))
        assert np.all(np.isfinite(result.sampled))
        assert np.all(result.mode > 0)
    # All start from the same scores, 0 for every item.
    starts = [result.sampled[0, 0] for result in results.values()]
    assert starts == pytest.approx([starts[0]] * 3)


@pytest.mark.slow
def test_relax_earns_more_than_simple_baselines(tmp_path):
    """Against leave-one-out the difference is within the error of so few runs."""
    names = ["relax, K = 4", "reinforce, moving average", "listwise"]
    arguments = ["--seeds", "2", "--steps", "400", "--learning-rates", "0.01"]
    results = ranking.main(
        [*arguments, "--methods", *names, "--output", str(tmp_path / "ranking.png")]
    )
    relax, *others = (results[name].sampled[:, -1].mean() for name in names)
    assert relax > max(others) + 0.02
