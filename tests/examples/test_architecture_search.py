"""Architecture search, small: the cell, its price, what is pruned, and a search of one edge."""

import argparse

import keras
import numpy as np
import pytest

import architecture_cell as cell
import architecture_search as example

ARGUMENTS = argparse.Namespace(seed=0, steps=30, batch_size=64, learning_rate=0.01)


@pytest.fixture
def one_edge(monkeypatch):
    """A cell of one edge: quick to compile."""
    monkeypatch.setattr(cell, "NODES", 2)
    monkeypatch.setattr(cell, "EDGES", [(0, 1)])
    monkeypatch.setattr(cell, "OPERATIONS", ("zero", "identity", "conv 3x3"))


def test_main(one_edge, tmp_path, capsys):
    path = tmp_path / "folder" / "picture.png"
    small = ["--steps", "4", "--random", "2", "--repeats", "1", "--output", str(path)]
    (one,), rows = example.main([*small, "--estimators", "relax"])
    assert [row.name for row in rows] == ["relax", "random", "all operations"]
    assert [len(row.accuracy) for row in rows] == [1, 2, 1]
    for row in rows:
        assert np.all((row.accuracy >= 0) & (row.accuracy <= 1))
    assert rows[-1].multiplications == 9 * 64 * 64  # of the convolution
    assert one.probabilities.shape == (5, 1, 3)
    np.testing.assert_allclose(one.probabilities.sum(axis=-1), 1, rtol=1e-5)
    np.testing.assert_allclose(one.probabilities[0], 1 / 3, rtol=1e-5)
    assert not np.allclose(one.probabilities[-1], 1 / 3, rtol=1e-3)
    assert np.isfinite(one.objective)
    assert path.stat().st_size > 1000
    printed = capsys.readouterr().out
    assert "all operations" in printed
    assert str(path) in printed


def test_table_labels_biased_estimators(one_edge, capsys):
    found = [
        example.Found(name, ["identity"], np.ones((1, 1, 3)) / 3, 0.5, 1.0, 2.0)
        for name in ("relax", "concrete")
    ]
    rows = [example.Row(one.estimator, np.array([0.25, 0.5]), np.array([1e3])) for one in found]
    example.print_table(found, rows)
    *_, relax, concrete = capsys.readouterr().out.splitlines()
    assert relax.split() == ["relax", "2.0", "1.000", "50.0", "37.5", "25.0", "50.0", "1"]
    assert concrete.split()[:2] == ["concrete", "(biased)"]


def test_multiplications():
    assert cell.multiplications("conv 3x3", 8) == 3 * 3 * 8 * 8 * 8 * 8
    assert cell.multiplications("conv 5x5", 14) == 5 * 5 * 14 * 14 * 8 * 8
    assert {cell.multiplications(name, 8) for name in cell.OPERATIONS[:4]} == {0}


@pytest.mark.parametrize(
    ("edges", "alive"),
    [
        # 0 to 1, 0 to 2, 1 to 2, 0 to 3, 1 to 3, 2 to 3
        ("111111", "111111"),
        ("100000", "000000"),  # nothing reads node 1
        ("001101", "000100"),  # nothing feeds node 1, so nothing feeds node 2
        ("101001", "101001"),
        ("011010", "000000"),
        ("110010", "100010"),
    ],
)
def test_prune(edges, alive):
    architecture = ["identity" if edge == "1" else "zero" for edge in edges]
    expected = ["identity" if edge == "1" else "zero" for edge in alive]
    assert cell.prune(architecture) == expected


def test_one_hot_weights_choose_operations():
    keras.utils.set_random_seed(0)
    features = keras.random.normal((2, 5, 5, cell.CHANNELS))
    supernet = cell.Cell([cell.OPERATIONS] * 6)
    architectures = [
        ["conv 3x3", "zero", "max pool", "identity", "zero", "conv 5x5"],
        ["zero", "mean pool", "zero", "conv 3x3", "zero", "identity"],
    ]
    rows = [[cell.OPERATIONS.index(name) for name in one] for one in architectures]
    mixed = supernet(features, keras.ops.one_hot(rows, len(cell.OPERATIONS)))
    operations = cell.OPERATIONS[1:]
    for k, architecture in enumerate(architectures):
        alone = cell.Cell([[name] for name in architecture])
        expected = alone(features)
        chosen = [e * 5 + operations.index(n) for e, n in enumerate(architecture) if n != "zero"]
        for operation, shared in zip(alone.operations, chosen, strict=True):
            operation.set_weights(supernet.operations[shared].get_weights())
        before, expected = expected, alone(features)
        assert not np.allclose(before[k], mixed[k], atol=1e-3)  # the weights matter
        np.testing.assert_allclose(mixed[k], expected[k], rtol=1e-4, atol=1e-5)


def test_edge_without_weights_is_the_mean(one_edge):
    features = keras.random.normal((1, 4, 4, cell.CHANNELS), seed=0)
    output = cell.Cell([["identity", "max pool"]])(features)
    pooled = keras.ops.max_pool(features, 3, 1, padding="same")
    np.testing.assert_allclose(output, (features + pooled) / 2, rtol=1e-5, atol=1e-6)


def test_price(one_edge):
    price = example.Price(2.0, side=8)
    price(np.eye(3, dtype="float32")[[[0], [2], [2], [1]]])
    (losses,) = price.losses
    expected = 2 * 36864 / 1e6
    np.testing.assert_allclose(4 * losses, [0, expected, expected, 0], rtol=1e-5)


def test_objective(one_edge):
    data = example.load("digits", None, 0)
    model = example.build_search(side=8, price=3.0, exploration=0.1)
    model.get_layer("architecture").logits.assign([[-50.0, -50.0, 50.0]])  # the convolution
    outputs = model.predict(data.train, verbose=0)
    normalizer = np.log(np.exp(outputs).sum(axis=1))
    entropy = np.mean(normalizer - outputs[np.arange(len(outputs)), data.train_labels])
    assert example.objective(model, data) == pytest.approx(entropy + 3 * 0.036864, abs=1e-4)


def test_prior_is_annealed(one_edge):
    model = example.build_search(side=8, price=0.0, exploration=0.5)
    watch = example.Anneal(0.5, epochs=10, label="")
    watch.set_model(model)
    weights = []
    for epoch in range(10):
        watch.on_epoch_begin(epoch)
        weights.append(float(model.get_layer("choice").kl_weight))
    np.testing.assert_allclose(weights[:2], [0.5, 0.5 * 6 / 7], rtol=1e-5)
    assert weights[7:] == [0, 0, 0]


@pytest.mark.slow
def test_networks_from_scratch_learn(one_edge):
    data = example.load("digits", None, 0)
    arguments = argparse.Namespace(**{**vars(ARGUMENTS), "steps": 200})
    twice = [[["conv 3x3"]]] * 2
    dead, *alive = example.train_from_scratch([[["zero"]], *twice], data, arguments)
    assert dead < 0.2  # no image reaches the classifier
    assert min(alive) > 0.3
    assert alive[0] != alive[1]  # copies start from weights of their own


def test_data():
    data = example.load("digits", None, 0)
    assert data.train.shape == (1297, 8, 8, 1)
    assert data.test.shape == (500, 8, 8, 1)
    assert data.train.max() == 1.0
    assert {*data.test_labels} == {*range(10)}


def test_local_mnist_is_halved(tmp_path):
    images = np.zeros((3, 28, 28), np.uint8)
    images[:, 2, 5] = 255
    path = tmp_path / "mnist.npz"
    np.savez(path, x_train=images, y_train=[1, 2, 3], x_test=images, y_test=[4, 5, 6])
    data = example.load("mnist", str(path), 0)
    assert data.train.shape == (3, 14, 14, 1)
    assert data.test[0, 1, 2, 0] == 0.25
    assert data.test.sum() == 0.75


@pytest.mark.slow
def test_search_beats_random_architectures(tmp_path):
    arguments = ["--estimators", "relax", "--output", str(tmp_path / "picture.png")]
    (found,), rows = example.main(arguments)
    accuracy = {row.name: row.accuracy.mean() for row in rows}
    assert accuracy["relax"] > accuracy["random"] + 0.02
    assert accuracy["relax"] > 0.92
    assert found.objective < 0.6
