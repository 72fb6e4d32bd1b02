"""Tables with many inputs, their splits, and the usual ways to choose k of the inputs."""

from __future__ import annotations

import inspect
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.feature_selection import mutual_info_classif
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, train_test_split

import common

DATASETS = ("cancer", "genes")
FIVE_YEARS = 5 * 365.25  # days
# The two patients whose grade is unknown ("unkown" in the file) get the one in the middle.
GRADES = {"well differentiated": 1, "intermediate": 2, "poorly differentiated": 3, "unkown": 2}


class Data(NamedTuple):
    """Inputs `[examples, n]`, labels `[examples]`, 0 or 1, and the names of the inputs."""

    x: np.ndarray
    y: np.ndarray
    names: list[str]


class Split(NamedTuple):
    """Standardised inputs and labels `[examples, 1]` of each part; mean and scale of training."""

    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    mean: np.ndarray
    scale: np.ndarray


def load(name: str) -> Data:
    """Returns a data set: `"cancer"` (malignant is 1) or `"genes"` (metastasis is 1)."""
    if name == "cancer":
        found = load_breast_cancer()
        return Data(found.data, 1 - found.target, [str(feature) for feature in found.feature_names])
    common.require("sksurv", "pip install scikit-survival")
    from sksurv.datasets import load_breast_cancer as load_genes

    table, outcome = load_genes()
    table = table.assign(er=table["er"] == "positive", grade=table["grade"].map(GRADES).astype(int))
    within = outcome["t.tdm"] <= FIVE_YEARS
    known = outcome["e.tdm"] | ~within  # who left earlier without a metastasis tells nothing
    label = (outcome["e.tdm"] & within).astype(int)
    return Data(table.to_numpy(dtype=float)[known], label[known], list(table.columns))


def split(data: Data, seed: int) -> Split:
    """Returns three fifths to train on, one to validate and one to test; all keep the classes.

    Seed s tests fold s mod 5 of the (s div 5)-th shuffle: five seeds test every example once.
    """
    folds = StratifiedKFold(5, shuffle=True, random_state=seed // 5)
    rest, test = list(folds.split(data.x, data.y))[seed % 5]
    train, validation = train_test_split(
        rest, test_size=0.25, stratify=data.y[rest], random_state=seed
    )
    mean, scale = data.x[train].mean(0), data.x[train].std(0)

    def part(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = (data.x[rows] - mean) / scale
        return x.astype("float32"), data.y[rows, None].astype("float32")

    return Split(part(train), part(validation), part(test), mean, scale)


def lasso(x: np.ndarray, y: np.ndarray, k: int, class_weight: str | None = None) -> np.ndarray:
    """Returns the indices of k inputs: bisects C until L1 leaves k coefficients.

    Where the path jumps over k, the k largest of the next larger set are taken.
    """
    # scikit-learn 1.8 renamed the option, and warns about the old name.
    renamed = inspect.signature(LogisticRegression).parameters["penalty"].default == "deprecated"
    options = {"l1_ratio": 1.0} if renamed else {"penalty": "l1"}
    low, high = -4.0, 3.0  # of log10 C
    for _ in range(20):
        middle = (low + high) / 2
        model = LogisticRegression(
            C=10**middle, solver="liblinear", class_weight=class_weight, random_state=0, **options
        )
        size = np.abs(model.fit(x, y[:, 0]).coef_[0])
        if np.count_nonzero(size) >= k:
            chosen, high = np.argsort(-size, kind="stable")[:k], middle
        else:
            low = middle
        if np.count_nonzero(size) == k:
            break
    return chosen


def informative(x: np.ndarray, y: np.ndarray, k: int, neighbours: int, seed: int) -> np.ndarray:
    """Returns the indices of the k inputs with the largest mutual information with y."""
    information = mutual_info_classif(x, y[:, 0], n_neighbors=neighbours, random_state=seed)
    return np.argsort(-information, kind="stable")[:k]
