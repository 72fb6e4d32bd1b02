r"""Experts of different size: pay for the large ones only where an image needs them.

Half of the images are digits in the middle of their frame, half are displaced. Experts are networks
with one hidden layer, `--experts` units wide, and a small router chooses one of them for each image
(`--active 2`: two, whose answers are averaged). All are trained together on

    E[cross-entropy(b) + weight price(b)],    b ~ router(image),

where the price counts multiply-adds, in units of the largest expert. Training computes all experts
and selects, so that a further sample of b costs a selection; what is served computes the expert
that was chosen and no other. Against each other, over the same weights of the price:

- auto: here the sum over all experts, `sum_e p_e (cross-entropy_e + weight price_e)`;
- relax, leave_one_out, unordered_set: unbiased, two selections per step;
- straight_through, gumbel_straight_through, concrete: biased;
- switch: the most probable expert, times its probability, with a loss for equal load (Fedus et al.
  2022, arXiv:2101.03961; for two experts GShard, Lepikhin et al. 2021, arXiv:2006.16668);
- mixture: `sum_e p_e answer_e`, served whole, or its most probable expert alone;
- the experts alone, each on all images, and a cascade: the second smallest first, the largest where
  the former's largest probability is below a threshold.

All routers start from equal probabilities and are held there by `exploration KL(p || uniform)`,
which falls to zero over the first 70 % of the steps: without, one expert gets ahead and all images.

    python examples/routed_experts.py
    python examples/routed_experts.py --dataset mnist --data mnist.npz --steps 3000
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

import common
import datasets
from expert_training import DRAWN, METHODS, ONE_ONLY, Job, Runs, Setting, load

MARGIN = 0.005  # of accuracy: what counts as equal
BATCHES = (1, 100, 2000)  # served at once, to measure the time
# Of auto, whose choice is the sum over all experts, and of what does not draw.
LOOK: dict[str, dict[str, Any]] = {
    "auto": common.STYLES["exact"],
    "switch": {"color": common.SKY, "linestyle": "-"},
    "mixture, the most probable alone": {"color": common.YELLOW, "linestyle": "-"},
    "mixture, whole": {"color": common.YELLOW, "linestyle": "", "marker": "*", "markersize": 12},
    "one expert for all": {"color": common.GREY, "linestyle": "--", "marker": "s"},
    "cascade": {"color": common.GREY, "linestyle": ":"},
}


class Row:
    """A line of the table: one method at one weight of the price, over seeds.

    Args:
        method: its name, in the figure too.
        option: what tells its rows apart.
        accuracy: of every seed.
        cost: multiply-adds per image, of every seed.
        load: share of every expert, `[seeds, experts]`; `None` where nothing is routed.
    """

    def __init__(self, method: str, option: str, accuracy: Any, cost: Any, load: Any = None):
        self.method, self.option = method, option
        self.accuracy, self.cost = np.asarray(accuracy), np.asarray(cost)
        self.load = None if load is None else np.asarray(load)

    def __str__(self) -> str:
        (a, a_error), (c, c_error) = map(
            common.mean_and_error, (100 * self.accuracy, self.cost / 1e3)
        )
        line = f"{self.method:<33}{self.option:>8}{a:8.2f} +- {a_error:.2f}"
        line += f"{c:10.2f} +- {c_error:.2f}"
        if self.load is None:
            return line
        shares = "".join(f"{100 * share:5.0f}" for share in self.load.mean(axis=0))
        return f"{line}  {shares}{effective(self.load).mean():8.2f}"


def effective(load: np.ndarray) -> np.ndarray:
    """Returns the effective number of experts, `exp(-sum_e load_e log load_e)`."""
    return np.exp(-np.sum(load * np.log(np.maximum(load, 1e-12)), axis=-1))


def collect(results: dict[Job, list[dict[str, Any]]], setting: Setting) -> list[Row]:
    """Returns the rows of the table."""
    rows = []
    for (method, price), runs in results.items():
        if method == "alone":
            answers = np.array([run["alone"] for run in runs]).T
            for units, accuracy, price in zip(setting.units, answers, setting.prices, strict=True):
                cost = [price] * len(runs)
                rows.append(Row("one expert for all", f"{units}", accuracy, cost))
            for threshold in runs[0]["cascade"]:
                points = np.array([run["cascade"][threshold] for run in runs])
                rows.append(Row("cascade", threshold, *points.T))
            continue
        option = f"{price:g}"
        label = "mixture, the most probable alone" if method == "mixture" else method
        columns = ([run[key] for run in runs] for key in ("accuracy", "multiply_adds", "load"))
        rows.append(Row(label, option, *columns))
        if method == "mixture":
            cost = [setting.router + setting.prices.sum()] * len(runs)
            rows.append(Row("mixture, whole", option, [run["whole"] for run in runs], cost))
    return rows


def cheapest(rows: Sequence[Row]) -> dict[str, Row]:
    """Returns the cheapest row of every method as accurate as the largest expert, up to MARGIN."""
    alone = [row for row in rows if row.method == "one expert for all"]
    bar = max(alone, key=lambda row: row.cost.mean()).accuracy.mean() - MARGIN
    found: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: row.cost.mean()):
        if row.accuracy.mean() >= bar:
            found.setdefault(row.method, row)
    return found


def milliseconds(function: Any, images: np.ndarray, batch: int) -> float:
    """Returns the best of thirty times to serve a batch."""
    x = tf.constant(np.resize(images, (batch, images.shape[1])))
    function(x)  # traces
    times = []
    for _ in range(30):
        start = time.perf_counter()
        tf.nest.map_structure(np.asarray, function(x))
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def draw(
    rows: Sequence[Row], weights: np.ndarray, setting: Setting, title: str, path: Path
) -> None:
    """Draws accuracy over cost, where images went, and some of them.

    Args:
        rows: of the table.
        weights: of every expert for every held-out image, in the model that was exported.
        setting: of all runs.
        title: of that model.
        path: of the picture.
    """
    made, [[left, middle, right]] = common.figure(columns=3, width=4.8, height=4.4)
    for method in dict.fromkeys(row.method for row in rows):
        points = sorted(
            ((row.cost.mean(), row) for row in rows if row.method == method), key=lambda p: p[0]
        )
        cost = [c / 1e3 for c, _ in points]
        mean, error = zip(
            *(common.mean_and_error(100 * row.accuracy) for _, row in points), strict=True
        )
        look = {"marker": "o", "markersize": 4, **(LOOK.get(method) or common.style(method))}
        left.errorbar(cost, mean, error, label=method, capsize=2, **look)
    left.set(xscale="log", xlabel="thousand multiply-adds per image", ylabel="accuracy / %")
    best = max(row.accuracy.mean() for row in rows) * 100
    left.set_ylim(best - 8, best + 1)
    left.legend(fontsize=6.5, frameon=False, loc="upper left")

    chosen, moved = weights > 0, setting.test.moved
    for k, (name, where) in enumerate({"in the middle": ~moved, "displaced": moved}.items()):
        share = 100 * chosen[where].mean(axis=0)
        at = np.arange(len(share)) + 0.4 * (k - 0.5)
        middle.bar(at, share, 0.38, label=name, color=(common.SKY, common.BLUE)[k])
    middle.set_xticks(range(len(setting.units)), [f"{units}" for units in setting.units])
    middle.set(xlabel="hidden units of the expert", ylabel="images sent to it / %", title=title)
    middle.legend(frameon=False)

    right.set_axis_off()
    side = round(setting.test.x.shape[1] ** 0.5)
    used = [e for e in range(len(setting.units)) if chosen[:, e].any()]
    lines = []
    for e in dict.fromkeys((used[0], used[-1])):
        picked = np.flatnonzero(chosen[:, e])[:18]
        tiles = np.zeros((18, side + 1, side + 1))
        tiles[: len(picked), :side, :side] = setting.test.x[picked].reshape(-1, side, side)
        lines.append(tiles.reshape(3, 6, side + 1, -1).swapaxes(1, 2).reshape(3 * side + 3, -1))
    right.imshow(np.concatenate(lines), cmap="gray_r")
    names = " (above) and ".join(f"{setting.units[e]}" for e in dict.fromkeys((used[0], used[-1])))
    right.set_title(f"sent to the experts of {names} units")
    common.save(made, path)


def options() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = common.parser(__doc__, output="saved_models/routed_experts", seeds=5)
    parser.add_argument("--dataset", choices=datasets.LABELLED, default="digits")
    parser.add_argument("--data", help="local copy of the data: an .npz file or its folder")
    parser.add_argument("--methods", nargs="+", choices=METHODS, metavar="NAME",
                        help=f"of {', '.join(METHODS)}; all by default")  # fmt: skip
    parser.add_argument("--price-weights", type=float, nargs="+", default=[0.03, 0.1, 0.3],
                        help="nats that the largest expert costs")  # fmt: skip
    parser.add_argument("--experts", type=common.count, nargs="+", default=[8, 32, 128, 256],
                        help="hidden units of each")  # fmt: skip
    parser.add_argument("--active", type=int, choices=(1, 2), default=1, help="experts per image")
    parser.add_argument("--steps", type=common.count, default=1000)
    parser.add_argument("--batch-size", type=common.count, default=64)
    parser.add_argument("--learning-rate", type=float, default=0.005)
    parser.add_argument("--exploration", type=float, default=0.3, help="weight of KL(p || uniform)")
    parser.add_argument("--balance", type=float, default=0.0, help="weight of the loss for balance")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Runs the command line and returns the rows of the table."""
    parser = options()
    args = parser.parse_args(argv)
    possible = [name for name in METHODS if args.active == 1 or name not in ONE_ONLY]
    methods = args.methods or possible
    if unknown := [name for name in methods if name not in possible]:
        parser.error(f"not defined for two experts per image: {', '.join(unknown)}")
    if args.active > len(args.experts) or len(args.experts) < 2:
        parser.error("--experts: give two or more")
    if args.steps % 10:
        parser.error("--steps has to be a multiple of 10")
    try:
        train, test = load(args.dataset, args.data)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    setting = Setting(train, test, tuple(sorted(args.experts)), args.active, args.steps,
                      args.batch_size, args.learning_rate, args.exploration, args.balance,
                      not args.no_jit)  # fmt: skip
    free = ("methods", "price_weights", "seeds", "output", "data")
    kept = common.Results(
        args.output / "results.json", {k: v for k, v in vars(args).items() if k not in free}
    )
    shown = next((name for name in methods if name in DRAWN), methods[0])
    middle = sorted(args.price_weights)[len(args.price_weights) // 2]
    routed, largest = args.output / "served", args.output / "largest"
    exports = {("alone", None): largest, (shown, middle): routed}
    runs = Runs(setting, kept, exports)
    jobs = [("alone", None), *((m, price) for m in methods for price in args.price_weights)]
    start = time.perf_counter()
    with tqdm(total=len(jobs) * args.seeds, unit="run") as progress:
        results = {job: runs.of(job, args.seeds, progress) for job in jobs}
    runs.export_missing()

    rows = collect(results, setting)
    print(
        f"\n{args.dataset}: {len(test.x):,} held-out images, {args.steps} steps, mean and standard"
    )
    print(
        f"error over {args.seeds} seeds; a router costs {setting.router:,} multiply-adds of its own"
    )
    units = "".join(f"{units:5}" for units in setting.units)
    print(f"{'':<33}{'option':>8}{'accuracy / %':>16}{'1000 mult.-adds':>18}  {units}{'eff.':>8}")
    for row in rows:
        print(row)
    print(f"\ncheapest that is within {100 * MARGIN:g} points of the largest expert:")
    full = setting.prices.max()
    for method, row in cheapest(rows).items():
        accuracy, share = 100 * row.accuracy.mean(), row.cost.mean() / full
        print(f"{method:<33}{row.option:>8}{accuracy:8.2f} %{share:10.0%} of its cost")

    served = [tf.saved_model.load(str(folder)) for folder in (routed, largest)]
    functions = [model.serve for model in served]
    chosen = functions[0](test.x)["weights"].numpy()
    title = f"{shown}, price weight {middle:g}"
    print(f"\nmilliseconds to serve a batch: {title}, and the largest expert")
    for batch in BATCHES:
        one, other = (milliseconds(function, test.x, batch) for function in functions)
        print(f"{batch:>6} images {one:10.3f} {other:10.3f}")
    path = args.output / "routed_experts.png"
    draw(rows, chosen, setting, title, path)
    print(f"\n{time.perf_counter() - start:.0f} s. Figure: {path}")
    return rows


if __name__ == "__main__":
    common.run(main)
