"""The tables of decisions: what auto chooses is asked of models, figures of benchmarks' files."""

import json
import pathlib
import re

import keras
import pytest

import tf_relax
from tests.models import costs
from tf_relax import RelaxModel, layers
from tf_relax.losses import BlackBox

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs/which_estimator.md").read_text()


def rows(heading):
    """Cells of the table below a heading, without its head."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def model_of(*drawn):
    """An encoder, stochastic layers with a dense one before each, and a decoder."""
    x = inputs = keras.Input((6,))
    for shape, layer in drawn:
        x = keras.layers.Reshape(shape)(keras.layers.Dense(int(keras.ops.prod(shape)))(x))
        x = keras.layers.Flatten()(layer(x))
    return RelaxModel(inputs, keras.layers.Dense(6)(x))


def bits(name="bits"):
    return (6,), layers.RelaxBernoulli(name=name)


MODELS = {
    "bits, one layer": [bits()],
    "bits, layers in a row": [bits("low"), bits("high")],
    "one choice among many per example": [((9,), layers.RelaxCategorical())],
    "several choices per example": [((3, 9), layers.RelaxCategorical())],
    "permutations, by Plackett and Luce": [((5,), layers.RelaxPermutation())],
    "subsets, matchings, trees": [((6,), layers.RelaxTopK(2))],
    "counts": [((4,), layers.RelaxPoisson())],
    "normal variables": [((8,), layers.RelaxNormal())],
    "at most 8 outcomes in all": [((8,), layers.RelaxCategorical())],
}
OTHERS = {
    "subsets, matchings, trees": [
        [((4, 4), layers.RelaxPermutation(method="matching"))],
        [((6,), layers.RelaxSpanningTree())],
        [((4, 4), layers.RelaxArborescence(4))],
    ]
}


def test_the_table_has_these_rows():
    assert [row[0] for row in rows("What auto chooses")] == list(MODELS)


@pytest.mark.parametrize("row", rows("What auto chooses"), ids=lambda row: row[0])
def test_what_auto_chooses(row):
    drawn, differentiable, black_box = row
    cells = {"mse": differentiable}
    if black_box != "as above":
        cells[BlackBox(costs)] = black_box
    for kinds in [MODELS[drawn], *OTHERS.get(drawn, [])]:
        for loss, cell in cells.items():
            model = model_of(*kinds)
            model.compile("adam", loss=loss)
            # Options at their defaults are not shown by a repr, and are in the table.
            written = eval(cell.strip("`"), vars(tf_relax.estimators))
            assert repr(model.estimator) == repr(written)


def bound(cell):
    return float(cell.strip("*"))


def name_of(cell):
    """What the files call the estimator of a row."""
    return re.sub(r' \(.*"auto".*\)', "", cell).replace("`", "")


def kept(file):
    return json.loads((ROOT / "benchmarks/results" / file).read_text())


def test_bits_in_training():
    sixty, short = kept("race_60000.json"), kept("race_24000.json")
    table = rows("Bits in training")
    assert len(table) == 4
    for estimator, _, *cells in table:
        name = name_of(estimator)
        long = sixty["runs"][name]["0"]
        assert sixty["steps"] // len(long) == short["steps"] // 12 == 2000
        for steps, cell in zip((10_000, 24_000, 60_000), cells, strict=True):
            assert f"{long[steps // 2000 - 1]:.2f}" == f"{bound(cell):.2f}", (name, steps)
    for column in (2, 3, 4):  # in bold: the best, and the best unbiased one
        unbiased = [row for row in table if row[1] == "yes"]
        best = [max(some, key=lambda row: bound(row[column])) for some in (table, unbiased)]
        for row in table:
            assert row[column].startswith("**") == (row in best), (column, row)


def test_categories_in_training():
    runs = kept("categories.json")["runs"]
    table = rows("Categories in training")
    assert len(table) == len(runs)
    for estimator, unbiased, cell in table:
        seeds = runs[name_of(estimator)]
        assert set(seeds) == {"0", "1", "2"}
        mean = sum(bounds[-1] for bounds in seeds.values()) / len(seeds)
        assert f"{mean:.2f}" == f"{bound(cell):.2f}", estimator
        assert unbiased in ("yes", "**no**")
    order = [bound(cell) for *_, cell in table]
    assert order == sorted(order, reverse=True)
