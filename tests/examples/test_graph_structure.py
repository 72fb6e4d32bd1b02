"""The graph example: its likelihood and its scores by hand, the command, and graphs recovered."""

import math

import keras
import numpy as np
import pytest
import scipy.sparse.csgraph
import tensorflow as tf

import graph_structure

STRUCTURES = ("arborescence", "spanning_tree", "edges")


def problem_of(before, after, nodes=2):
    graph = np.zeros((nodes, nodes), "float32")
    return graph_structure.Problem("edges", graph, np.float32(before), np.float32(after))


@pytest.mark.parametrize("structure", STRUCTURES)
def test_command_prints_a_table_and_draws_a_figure(structure, tmp_path, capsys):
    path = tmp_path / "figures" / "graph.png"
    posterior = [] if structure == "edges" else ["--posterior"]
    results = graph_structure.main(
        [
            *("--structure", structure, "--nodes", "3", "--cascades", "5", "--steps", "10"),
            *("--estimators", "relax", "--seeds", "1", "--output", str(path), *posterior),
        ]
    )
    assert path.read_bytes().startswith(b"\x89PNG")
    (row,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("relax ")]
    assert row.split()[1] == "1"
    (run,) = results["relax"]
    assert run.f1.shape == run.objective.shape == (1,)
    assert np.all(np.isfinite([run.f1[0], run.objective[0], run.excess]))
    assert run.probability.shape == (3, 3)
    assert np.all((run.probability >= 0) & (run.probability <= 1))
    # Trees have a fixed number of edges, and so has their expectation.
    if structure != "edges":
        edges = 2 if structure == "arborescence" else 4
        assert run.probability.sum() == pytest.approx(edges, abs=1e-4)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_random_graphs_are_what_they_are_called(structure, rng):
    for nodes in (2, 5, 9):
        graph = graph_structure.random_graph(structure, nodes, rng)
        assert np.all(np.isin(graph, [0, 1]))
        assert np.all(np.diag(graph) == 0)
        if structure == "arborescence":
            np.testing.assert_array_equal(graph.sum(axis=0), [0, *[1] * (nodes - 1)])
        if structure == "spanning_tree":
            np.testing.assert_array_equal(graph, graph.T)
            assert graph.sum() == 2 * (nodes - 1)
        if structure != "edges":
            order = scipy.sparse.csgraph.breadth_first_order(graph, 0, return_predecessors=False)
            assert len(order) == nodes


def test_likelihood_by_hand():
    problem = problem_of([[1, 0], [1, 1]], [[0, 1], [1, 0]])
    edge = np.float32([[0, 1], [0, 0]])
    empty = np.zeros((2, 2), "float32")
    loops = np.eye(2, dtype="float32")  # play no part
    # An active neighbour leaves node 1 quiet with probability .95 * .3.
    log_p = [
        math.log(0.95) + math.log(1 - 0.285) + math.log(0.05) + math.log(0.285),
        math.log(0.95) + math.log(0.05) + math.log(0.05) + math.log(0.95),
    ]
    expected = -np.array([*log_p, log_p[1]]) / 2
    graphs = np.stack([edge, empty, loops])
    found = graph_structure.negative_log_likelihood(graphs, problem)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    found = graph_structure.negative_log_likelihood(tf.constant(graphs), problem, keras.ops)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_likelihood_has_a_derivative_at_relaxed_graphs():
    problem = problem_of([[1, 0]], [[0, 1]])
    graph = tf.Variable([[[0.0, 0.5], [0.25, 0.0]]])
    with tf.GradientTape() as tape:
        cost = graph_structure.negative_log_likelihood(graph, problem, keras.ops)
    # Only the edge 0 -> 1 matters: -d/dA log(1 - .95 (1 - .7 A)) at A = .5.
    expected = -0.95 * 0.7 / (1 - 0.95 * (1 - 0.35))
    np.testing.assert_allclose(
        tape.gradient(cost, graph), [[[0, expected], [0, 0]]], rtol=1e-5, atol=1e-7
    )


def test_data_spread_along_the_edges_and_nowhere_else(rng):
    graph = np.float32([[0, 1, 0], [0, 0, 0], [0, 1, 0]])
    before, after = graph_structure.spread(graph, 10_000, rng)
    assert before.shape == after.shape == (10_000 * graph_structure.LENGTH, 3)
    active = before[:, 0] + before[:, 2]
    for parents in (0, 1, 2):
        rate = after[active == parents, 1].mean()
        # At least 1,000 transitions: 5 standard errors are .08 at most.
        assert rate == pytest.approx(1 - 0.95 * 0.3**parents, abs=0.08)
    assert after[:, 0].mean() == pytest.approx(0.05, abs=0.01)
    # The state after one transition is the one before the next.
    np.testing.assert_array_equal(before[10_000:], after[:-10_000])


def test_true_graph_is_likelier_than_its_neighbours():
    problem = graph_structure.make_problem("edges", 5, 300, seed=0)
    neighbours = np.stack([problem.graph] * 26)
    for k in range(25):
        u, v = divmod(k, 5)
        neighbours[k + 1, u, v] = 1 - neighbours[k + 1, u, v]
    cost = graph_structure.negative_log_likelihood(neighbours, problem)
    off_diagonal = ~np.eye(5, dtype=bool).ravel()
    assert np.all(cost[1:][off_diagonal] > cost[0])


def test_scores_by_hand():
    true = np.float32([[0, 1, 1], [0, 0, 0], [0, 0, 0]])
    predicted = np.float32([[1, 1, 0], [1, 1, 0], [0, 1, 1]])  # 1 of 3 right, 1 of 2 found
    assert graph_structure.f1_score(predicted, true) == pytest.approx(0.4)
    assert graph_structure.f1_score(true, true) == 1
    assert graph_structure.f1_score(true.T, true) == 0
    per_look = graph_structure.EVERY * graph_structure.EVALUATIONS
    assert graph_structure.evaluations_needed(np.array([0.5, 1, 0.9, 0.96, 1])) == 4 * per_look
    assert graph_structure.evaluations_needed(np.array([1.0, 1.0])) == per_look
    assert graph_structure.evaluations_needed(np.array([1.0, 0.9])) == math.inf


@pytest.mark.parametrize("objective", ["black_box", "likelihood"])
@pytest.mark.parametrize("name", list(graph_structure.ESTIMATORS))
def test_evaluations_are_counted_right(name, objective):
    problem = graph_structure.make_problem("edges", 3, 4, seed=0)
    model, _ = graph_structure.build_model(problem, name, objective, posterior=False)
    step = model.differentiate(tf.ones((2, 1)), tf.ones((2, 1)))
    counted = graph_structure.evaluations_per_example(name, objective)
    if objective == "likelihood":  # relaxed passes through a black box do not evaluate it
        assert step.evaluations == counted
    assert graph_structure.EVALUATIONS % counted == 0


def test_black_box_sees_hard_graphs_alone(monkeypatch):
    seen = []
    cost = graph_structure.negative_log_likelihood

    def spy(graphs, *args):
        seen.append(graphs)
        return cost(graphs, *args)

    monkeypatch.setattr(graph_structure, "negative_log_likelihood", spy)
    problem = graph_structure.make_problem("edges", 3, 4, seed=0)
    for name in graph_structure.ESTIMATORS:
        model, _ = graph_structure.build_model(problem, name, "black_box", posterior=False)
        seen.clear()
        model.differentiate(tf.ones((4, 1)), tf.ones((4, 1)))
        graphs = np.concatenate(seen)
        assert np.all(np.isin(graphs, [0, 1]))
        expected = 4 * graph_structure.evaluations_per_example(name, "black_box")
        assert len(graphs) == expected


@pytest.mark.slow
@pytest.mark.parametrize("structure", STRUCTURES)
def test_relax_recovers_the_graph(structure, tmp_path):
    steps = "600" if structure == "edges" else "300"
    results = graph_structure.main(
        [
            *("--structure", structure, "--estimators", "relax", "reinforce"),
            *("--steps", steps, "--seeds", "2", "--output", str(tmp_path / "graph.png")),
        ]
    )
    assert min(run.f1[-1] for run in results["relax"]) >= 0.95
    excess = {name: np.mean([run.excess for run in runs]) for name, runs in results.items()}
    assert excess["relax"] < excess["reinforce"]
