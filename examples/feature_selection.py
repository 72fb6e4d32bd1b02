"""Exactly k inputs: which measurements to take, learned together with what reads them.

A mask b with k ones is drawn by `RelaxTopK(k)` from scores a, and a classifier f reads the masked
inputs and the mask. Scores and classifier descend

    E_{b ~ p(b | a)} [cross-entropy(y, f(x * b, b))]

by `fit` of a `RelaxModel`. An input that is not chosen is not made small: it is absent.

- `relax`: one set for all examples, a is a vector of weights. Nothing else has to be measured.
  `auto` is the same with the estimator that `estimator="auto"` takes.
- `relax, per example`: a = selector(x), another set for every example. It shows what a decision
  looks at, but saves no measurement: the selector itself reads all inputs.
- `concrete`, `gumbel_straight_through`: the model of `relax`, trained by biased derivatives.
- `l1`: the k inputs that an L1 penalty leaves to logistic regression.
- `mutual_information`: the k inputs that tell most about the label, each by itself.
- `all`: every input, no choice.

Whatever chose, the same classifier is then trained anew on the choice. Each way of choosing has two
candidates (learning rates; weights of the classes; numbers of neighbours), the classifier three
penalties, and the cross-entropy on validation data decides. The winner alone sees the test data.

`cancer`: tumours described by 30 numbers, malignant or not (scikit-learn). `genes`: 76 expression
levels and 4 clinical values of patients, with a distant metastasis within five years or not
(scikit-survival). The first seed's set is exported as a SavedModel of its k raw measurements alone.

    python examples/feature_selection.py --dataset cancer --k 5 --methods relax l1

References: Grathwohl et al. (2018), arXiv:1711.00123; Balın et al. (2019), arXiv:1901.09346.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from sklearn.metrics import roc_auc_score

import common
import feature_sets
import tf_relax
from feature_models import Classifier, Selector, export
from feature_sets import Split
from tf_relax.estimators import Concrete, GumbelStraightThrough, Relax

PENALTIES = (0.001, 0.01, 0.1)
LEARNED = ("relax", "relax, per example", "auto", "concrete", "gumbel_straight_through")
# What a method is given to choose from, by validation.
CANDIDATES: dict[str, tuple] = {
    **dict.fromkeys(LEARNED, (0.03, 0.1)),  # learning rates
    "l1": (None, "balanced"),  # weights of the classes
    "mutual_information": (3, 10),  # neighbours
    "all": (None,),
}
BASELINES = ("concrete", "gumbel_straight_through", "l1", "mutual_information")
LOOKS: dict[str, dict[str, Any]] = {
    "relax, per example": {"linestyle": common.DENSE},
    "auto": common.style("leave_one_out"),
    "l1": {"color": common.BLACK, "linestyle": "-"},
    "mutual_information": {"color": common.ORANGE, "linestyle": common.DASHED},
}


def estimator_of(method: str) -> Any:
    """Returns the estimator of a learned method."""
    if method == "concrete":
        return Concrete(temperature=0.5)
    if method == "gumbel_straight_through":
        return GumbelStraightThrough(temperature=1.0)
    if method == "auto":
        return "auto"
    # What an example costs depends on its label more than on anything else.
    sees = ("logits", "context", "targets")
    surrogate = tf_relax.surrogates.Network((64,), looks_at=sees, targets_shape=(1,))
    return Relax(surrogate=surrogate)


class Winner(NamedTuple):
    """What did best on validation: loss there, candidate, masks of the test, weights of both."""

    loss: float
    candidate: Any
    mask: np.ndarray
    weights: list[np.ndarray]
    chooser: list[np.ndarray] | None


def compete(
    method: str, k: int, parts: Split, seed: int, selector: Any, judge: Classifier
) -> Winner:
    """Chooses by every candidate, trains the classifier with every penalty, keeps the best."""
    (x, y), (x_validation, y_validation), (x_test, _) = parts[:3]
    best = None
    for candidate in CANDIDATES[method]:
        chooser = None
        if method in LEARNED:
            selector.train(parts.train, seed, candidate)
            chooser = selector.model.get_weights()
            masks = [selector.masks(inputs) for inputs in (x, x_validation, x_test)]
        else:
            chosen: Any = slice(None)
            if method == "l1":
                chosen = feature_sets.lasso(x, y, k, candidate)
            elif method == "mutual_information":
                chosen = feature_sets.informative(x, y, k, candidate, seed)
            masks = [np.zeros_like(inputs) for inputs in (x, x_validation, x_test)]
            for mask in masks:
                mask[:, chosen] = 1
        for penalty in PENALTIES:
            judge.train(x, masks[0], y, seed, penalty)
            sign = 1 - 2 * y_validation[:, 0]
            loss = np.mean(np.logaddexp(0, sign * judge.logits(x_validation, masks[1])))
            if best is None or loss < best.loss:
                best = Winner(float(loss), candidate, masks[2], judge.model.get_weights(), chooser)
    return best


def measure(logits: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Returns accuracy and area under the ROC curve."""
    return float(np.mean((logits > 0) == (y[:, 0] > 0))), float(roc_auc_score(y[:, 0], logits))


class Runs:
    """Runs of one data set; what they share is made once, when the first needs it."""

    def __init__(self, dataset: str, steps: int, output: Path):
        self.dataset, self.data, self.steps = dataset, feature_sets.load(dataset), steps
        self.output, self.n = output, len(self.data.names)
        self.judge: Classifier | None = None
        self.selectors: dict[tuple[str, int], Selector] = {}  # the latest

    def run(self, method: str, k: int, seed: int) -> dict[str, Any]:
        """Returns measures on test data, and the share of its examples that chose each input."""
        parts = feature_sets.split(self.data, seed)
        self.judge = self.judge or Classifier(self.n)
        if method in LEARNED and (method, k) not in self.selectors:
            made = Selector(estimator_of(method), self.n, k, self.steps, "per example" in method)
            self.selectors = {(method, k): made}
        selector = self.selectors.get((method, k))
        best = compete(method, k, parts, seed, selector, self.judge)
        self.judge.model.set_weights(best.weights)
        x, y = parts.test
        accuracy, area = measure(self.judge.logits(x, best.mask), y)
        found = {"accuracy": accuracy, "auc": area, "candidate": best.candidate}
        found["chosen"] = best.mask.mean(0).round(4).tolist()
        if selector is not None:
            selector.model.set_weights(best.chooser)
            found["as_trained"] = measure(np.asarray(selector.model(x))[:, 0], y)[0]
            if method == "relax" and seed == 0:  # served with the classifier of the table
                selector.model.get_layer("classifier").set_weights(best.weights)
                folder = self.output / f"{self.dataset}_{k}_inputs"
                found["names"] = export(selector.model, self.data, parts, folder)
        return found

    def seeds(self, results: common.Results, method: str, k: int, count: int) -> list[Any]:
        """Returns the runs of all seeds, those that are kept or new ones."""
        k = self.n if method == "all" else k  # one run for every k
        name = f"{self.dataset}, {k}, {method}"
        return [
            results.get(name, seed, functools.partial(self.run, method, k, seed))
            for seed in range(count)
        ]


Table = dict[str, dict[int, dict[str, list[dict[str, Any]]]]]  # by data set, k, method; of seeds


def cell(runs: list[dict[str, Any]], what: str) -> str:
    """Returns mean and standard error over seeds."""
    mean, error = common.mean_and_error([run[what] for run in runs])
    return f"{mean:.3f} +- {error:.3f}"


def ahead(methods: dict[str, list[dict[str, Any]]], of: str, what: str) -> str:
    """Returns what relax is ahead of another method, in pairs of the same seed."""
    pairs = [a[what] - b[what] for a, b in zip(methods["relax"], methods[of], strict=True)]
    mean, error = common.mean_and_error(pairs)
    return f"{mean:+.3f} +- {error:.3f}"


def gain(methods: dict[str, list[dict[str, Any]]], what: str) -> str:
    """Returns what relax gains on the baseline with the largest mean, and its name."""
    means = {
        name: np.mean([run[what] for run in methods[name]]) for name in BASELINES if name in methods
    }
    best = max(means, key=means.get)
    return f"{ahead(methods, best, what)} on {best}"


def lines(table: Table) -> list[str]:
    """Returns the rows that are printed."""
    titles = [f"{title:>15}" for title in ("accuracy", "relax ahead by", "ROC area", "as trained")]
    rows = [f"{'data':<7} {'k':>3} {'method':<24} {' '.join(titles)}"]
    gains = ["", "what relax gains on the best baseline, over the same seeds"]
    gains.append(f"{'data':<7} {'k':>3} {'accuracy':<42} ROC area")
    for dataset, by_k in table.items():
        for k, methods in by_k.items():
            for method, runs in methods.items():
                other = "relax" in methods and method != "relax"
                cells = [cell(runs, "accuracy")]
                cells.append(ahead(methods, method, "accuracy") if other else "-")
                cells.append(cell(runs, "auc"))
                cells.append(cell(runs, "as_trained") if "as_trained" in runs[0] else "-")
                row = " ".join(f"{text:>15}" for text in cells)
                rows.append(f"{dataset:<7} {k:>3} {method:<24} {row}")
            if "relax" in methods and set(BASELINES) & set(methods):
                both = f"{gain(methods, 'accuracy'):<42} {gain(methods, 'auc')}"
                gains.append(f"{dataset:<7} {k:>3} {both}")
    return rows + gains * (len(gains) > 3)


def draw(table: Table, names: dict[str, list[str]], path: Path) -> None:
    """Draws accuracy and ROC area against k, and below how often each input was chosen."""
    made, axes = common.figure(3, len(table), width=6.2, height=3.0)
    for (*tops, bottom), (dataset, by_k) in zip(axes.T, table.items(), strict=True):
        sizes, methods = sorted(by_k), list(by_k[next(iter(by_k))])
        for top, what in zip(tops, ("accuracy", "auc"), strict=True):
            for place, method in enumerate(methods):
                look = {**common.style(method), **LOOKS.get(method, {})}
                runs = [[run[what] for run in by_k[k][method]] for k in sizes]
                mean, error = np.transpose([common.mean_and_error(values) for values in runs])
                beside = np.arange(len(sizes)) + 0.05 * (place - (len(methods) - 1) / 2)
                top.errorbar(beside, mean, error, label=method, marker="o", markersize=4, **look)
            top.set_ylabel("accuracy on test data" if what == "accuracy" else "area under ROC")
            top.set_xticks(range(len(sizes)), sizes)
        tops[0].set_title(dataset)
        tops[-1].set_xlabel("inputs chosen")
        middle = sizes[len(sizes) // 2]
        choosers = [method for method in methods if method != "all"]
        if not choosers:
            continue
        share = [[run["chosen"] for run in by_k[middle][method]] for method in choosers]
        share = np.mean(share, axis=1)
        often = np.argsort(-share.sum(0), kind="stable")[:15]
        bottom.imshow(share[:, often], cmap="Greens", vmin=0, vmax=1, aspect="auto")
        bottom.grid(False)
        bottom.set_title(
            f"how often each input is among {middle}: white never, dark always", size=9
        )
        bottom.set_yticks(range(len(choosers)), choosers)
        labels = [names[dataset][index] for index in often]
        bottom.set_xticks(range(len(often)), labels, rotation=45, ha="right", size=7)
    axes[0, -1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    common.save(made, path)


def main(argv: Sequence[str] | None = None) -> Table:
    """Runs the command line and returns all runs."""
    parser = common.parser(__doc__, "outputs/feature_selection", seeds=5, jit=False)
    both = feature_sets.DATASETS
    parser.add_argument("--dataset", nargs="+", choices=both, default=both)
    parser.add_argument("--k", nargs="+", type=common.count, default=[2, 5, 10], help="inputs")
    usual = [method for method in CANDIDATES if method != "auto"]
    parser.add_argument("--methods", nargs="+", choices=CANDIDATES, default=usual, metavar="NAME")
    parser.add_argument("--steps", type=common.count, default=600, help="of the learned choices")
    args = parser.parse_args(argv)

    start, table, names = time.process_time(), {}, {}
    results = common.Results(args.output / "runs.json", {"steps": args.steps})
    of_data = {dataset: Runs(dataset, args.steps, args.output) for dataset in args.dataset}
    for dataset, runs in of_data.items():
        if max(args.k) > runs.n:
            parser.error(f"--k {max(args.k)}: the data set {dataset} has {runs.n} inputs")
    for dataset, runs in of_data.items():
        names[dataset] = runs.data.names
        table[dataset] = {k: {} for k in args.k}
        for k in args.k:
            for method in args.methods:
                table[dataset][k][method] = runs.seeds(results, method, k, args.seeds)
                shown = cell(table[dataset][k][method], "accuracy")
                print(f"{dataset}, k = {k}, {method}: {shown}", flush=True)
        keras.backend.clear_session()
    print(f"\ntest data, mean and standard error over {args.seeds} seeds")
    print("\n".join(lines(table)))
    for dataset, by_k in table.items():
        for k, methods in by_k.items():
            if "relax" in methods:
                chosen = ", ".join(methods["relax"][0]["names"])
                print(f"{args.output / dataset}_{k}_inputs: {chosen}")
    path = args.output / "feature_selection.png"
    draw(table, names, path)
    print(f"\n{time.process_time() - start:.0f} s of one core. Figure: {path}")
    return table


if __name__ == "__main__":
    common.run(main)
