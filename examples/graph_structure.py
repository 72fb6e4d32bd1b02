r"""Infer a hidden graph from what spreads along its edges.

Nodes are active or not, x in {0, 1}^n. From one step to the next every active node activates each
of its neighbours with probability `PASS`, and any node comes alive by itself with probability
`LEAK` (a noisy-or, or a cascade of infections, adoptions or spikes):

    P(x'_v = 1 | x, A) = 1 - (1 - leak) prod_u (1 - pass A_uv x_u).

The adjacency matrix A is hidden. A tf_relax layer holds a distribution q(A) over all graphs of a
kind, and its logits, the only thing that is trained, maximise E_q[log p(x' | x, A)]:

    --structure arborescence   RelaxArborescence   trees directed away from node 0
                spanning_tree  RelaxSpanningTree   undirected trees: edges pass both ways
                edges          RelaxBernoulli      any directed graph, edges independent under q

    --objective black_box      NumPy computes the likelihood of hard graphs, and nothing else is
                               known of it. RELAX's surrogate is a network that sees relaxed graphs.
                likelihood     The same in TensorFlow. RELAX's surrogate evaluates it at relaxed
                               graphs, each of which counts as an evaluation as well.

`--posterior` adds the divergence of q from the uniform distribution, in the proportion that makes
the objective minus the evidence lower bound (per transition): q is then an approximate posterior,
and with little data its edges stay uncertain (try --cascades 10).

Every seed is another graph with data of its own. All estimators make the same number of evaluations
per step, so those that need several for an example get smaller batches. What to look at:

1. F1 of the edges of q's mode, and the evaluations after which it is above .95 for good.
2. The excess, E_q[-log p] minus that of the true graph, in nats per transition. Below 0 the data
   prefer another graph to the one that they came from.
3. REINFORCE is slow since costs are far from 0 and nothing is subtracted. Two samples, each the
   other's baseline, remove what all graphs cost alike from the start (leave-one-out), while a
   surrogate network has to learn that first; RELAX with two samples (relax_2) has both. Where the
   likelihood may be relaxed, RELAX has a good surrogate from the start and needs fewer evaluations.

`python examples/graph_structure.py` takes about a minute. References:
Grathwohl et al. (2018), arXiv:1711.00123; for trees Struminsky et al. (2021), arXiv:2110.15072.
"""

from __future__ import annotations

import argparse
import functools
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from matplotlib.axes import Axes
from tqdm import tqdm

import common
import tf_relax
from cascades import LENGTH, Problem, negative_log_likelihood, random_graph, spread

LEARNING_RATE, SURROGATE_LEARNING_RATE = 0.1, 0.01
EVALUATIONS = 16  # graphs per step, over which all estimators dispose alike
EVERY = 10  # steps between two looks at the mode
SAMPLES = 500  # graphs behind the learned probabilities
SURROGATE_USERS = ("relax", "relax_2", "nvil")
RELAX_2 = functools.partial(tf_relax.estimators.Relax, num_samples=2)
ESTIMATORS = {
    "relax": (tf_relax.estimators.Relax, common.style("relax")),
    "relax_2": (RELAX_2, {**common.style("relax"), "linestyle": common.DASHED}),
    "leave_one_out": (tf_relax.estimators.LeaveOneOut, common.style("leave_one_out")),
    "nvil": (tf_relax.estimators.Nvil, common.style("nvil")),
    "reinforce": (tf_relax.estimators.Reinforce, common.style("reinforce")),
}
DEFAULT = ["relax", "relax_2", "leave_one_out", "reinforce"]


class Run(NamedTuple):
    """One seed: F1 and the objective after every `EVERY` steps, and what is known at the end."""

    f1: np.ndarray
    objective: np.ndarray
    probability: np.ndarray  # of every edge, `[nodes, nodes]`
    excess: float


def make_problem(structure: str, nodes: int, cascades: int, seed: int) -> Problem:
    """Draws a graph and its data."""
    rng = np.random.default_rng(seed)
    graph = random_graph(structure, nodes, rng)
    return Problem(structure, graph, *spread(graph, cascades, rng))


def f1_score(predicted: np.ndarray, true: np.ndarray) -> float:
    """Returns the harmonic mean of precision and recall of the edges, loops left out."""
    off_diagonal = ~np.eye(len(true), dtype=bool)
    predicted, true = predicted[off_diagonal] > 0.5, true[off_diagonal] > 0.5
    return float(2 * np.sum(predicted & true) / max(np.sum(predicted) + np.sum(true), 1))


def evaluations_per_example(name: str, objective: str) -> int:
    """Returns how often an estimator evaluates the likelihood, of hard and of relaxed graphs."""
    samples = getattr(ESTIMATORS[name][0](), "num_samples", 1)
    return samples * (2 if "relax" in name and objective == "likelihood" else 1)


def build_model(
    problem: Problem, name: str, objective: str, posterior: bool
) -> tuple[tf_relax.RelaxModel, keras.Model]:
    """Returns a model that draws a graph for every example, and one that returns the mode."""
    nodes = len(problem.graph)
    one = keras.Input((1,))  # always 1, so the kernel holds the logits
    shape = (nodes * (nodes - 1) // 2,) if problem.structure == "spanning_tree" else (nodes, nodes)
    # At 0 no edge is preferred to another.
    logits = keras.layers.Dense(math.prod(shape), use_bias=False, kernel_initializer="zeros")(one)
    logits = keras.layers.Reshape(shape)(logits)
    layer = {
        "arborescence": functools.partial(tf_relax.layers.RelaxArborescence, nodes),
        "spanning_tree": functools.partial(tf_relax.layers.RelaxSpanningTree, output="adjacency"),
        "edges": tf_relax.layers.RelaxBernoulli,
    }[problem.structure]
    network = tf_relax.surrogates.Network(units=(64, 64), activation="tanh", looks_at=())
    surrogate = network if objective == "black_box" else "objective"
    learned = {"surrogate": surrogate} if name in SURROGATE_USERS else {}
    prior = {"prior": "uniform", "kl_weight": 1 / len(problem.before)} if posterior else {}
    model = tf_relax.RelaxModel(one, layer(**prior)(logits))
    mode = keras.Model(one, layer(inference="mode")(logits))

    def loss(y_true: tf.Tensor, graphs: tf.Tensor) -> tf.Tensor:
        return negative_log_likelihood(graphs, problem, keras.ops)

    def black_box(y_true: np.ndarray, graphs: np.ndarray) -> np.ndarray:
        return negative_log_likelihood(graphs, problem)

    optimizer = tf_relax.RelaxOptimizer(
        keras.optimizers.Adam(LEARNING_RATE), keras.optimizers.Adam(SURROGATE_LEARNING_RATE)
    )
    chosen = tf_relax.losses.BlackBox(black_box) if objective == "black_box" else loss
    model.compile(optimizer, loss=chosen, estimator=ESTIMATORS[name][0](**learned))
    return model, mode


class Watch(keras.callbacks.Callback):
    """Looks at the mode of q after every epoch, which is `EVERY` steps."""

    def __init__(self, mode: keras.Model, true: np.ndarray, progress: tqdm):
        super().__init__()
        self.mode, self.true, self.progress = mode, true, progress
        self.f1: list[float] = []
        self.objective: list[float] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        mode = self.mode.predict_on_batch(np.ones((1, 1), "float32"))
        self.f1.append(f1_score(mode[0], self.true))
        self.objective.append(float((logs or {})["loss"]))
        self.progress.update(EVERY)


def train(problem: Problem, name: str, args: argparse.Namespace, seed: int, progress: tqdm) -> Run:
    """Learns the graph of one problem with one estimator."""
    keras.utils.set_random_seed(seed)
    model, mode = build_model(problem, name, args.objective, args.posterior)
    batch = EVALUATIONS // evaluations_per_example(name, args.objective)
    ones = tf.ones((batch, 1))  # the data are in the likelihood; there is nothing to feed
    dataset = tf.data.Dataset.from_tensors((ones, ones)).repeat()
    watch = Watch(mode, problem.graph, progress)
    epochs = max(args.steps // EVERY, 1)
    options = {"epochs": epochs, "steps_per_epoch": EVERY, "shuffle": False, "verbose": 0}
    model.fit(dataset, callbacks=[watch], **options)
    graphs = keras.ops.convert_to_numpy(model(tf.ones((SAMPLES, 1)), training=True))
    excess = np.mean(negative_log_likelihood(graphs, problem))
    excess -= negative_log_likelihood(problem.graph, problem)
    probability = np.mean(graphs, axis=0) * (1 - np.eye(len(problem.graph)))
    return Run(np.array(watch.f1), np.array(watch.objective), probability, float(excess))


def evaluations_needed(f1: np.ndarray) -> float:
    """Returns the evaluations after which F1 stays at .95 or above, infinity if it does not."""
    below = np.flatnonzero(f1 < 0.95)
    first = below[-1] + 1 if len(below) else 0
    return float("inf") if first == len(f1) else float((first + 1) * EVERY * EVALUATIONS)


def print_table(results: dict[str, list[Run]], objective: str, seconds: dict[str, float]) -> None:
    """Prints one row per estimator."""
    print(
        f"\n{'estimator':<14} {'evals':>5} {'F1':>6} {'lowest':>7} {'F1 >= .95':>10} "
        f"{'evaluations until then':>23} {'excess':>8} {'seconds':>8}"
    )
    for name, runs in results.items():
        f1 = [run.f1[-1] for run in runs]
        found = f"{sum(x >= 0.95 for x in f1)} of {len(runs)}"
        needed = np.median([evaluations_needed(run.f1) for run in runs])
        excess = np.mean([run.excess for run in runs])
        until = "-" if np.isinf(needed) else f"{needed:.0f}"
        print(
            f"{name:<14} {evaluations_per_example(name, objective):5} {np.mean(f1):6.3f} "
            f"{min(f1):7.3f} {found:>10} {until:>23} {excess:8.4f} {seconds[name]:8.1f}"
        )


def plot(problem: Problem, results: dict[str, list[Run]], path: Path) -> None:
    """Draws the first seed's graph and what the first estimator learned, and curves of all."""
    figure, ((left, right), curves) = common.figure(2, 2, width=5.5, height=4.5)
    name, probability = next(iter(results)), next(iter(results.values()))[0].probability
    draw_graph(left, problem, probability)
    left.set_title("True edges (grey) and learned ones (blue, red if false)")
    image = right.imshow(probability, cmap="Blues", vmin=0, vmax=1)
    right.grid(visible=False)
    right.scatter(*np.nonzero(problem.graph)[::-1], s=90, facecolors="none", edgecolors=common.RED)
    right.set(title=f"q(edge), {name}; circles: true edges", xlabel="to", ylabel="from")
    figure.colorbar(image, ax=right, shrink=0.8)
    truth = negative_log_likelihood(problem.graph, problem)
    for estimator, runs in results.items():
        label, style = estimator.upper().replace("_", " "), ESTIMATORS[estimator][1]
        x = EVALUATIONS * EVERY * np.arange(1, len(runs[0].f1) + 1)
        curves[0].plot(x, np.mean([r.f1 for r in runs], axis=0), label=label, **style)
        curves[1].plot(x, runs[0].objective, label=label, **style)
    curves[1].axhline(truth, color="black", linewidth=1, label="−log p, true graph")
    curves[0].set(title=f"Mean over {len(runs)} graphs", ylabel="F1 of the mode", ylim=(0, 1.05))
    curves[1].set(title="The graph above", ylabel="objective, nats per transition")
    for axes in curves:
        axes.set_xlabel("evaluations of the likelihood")
        axes.legend(frameon=False)
    common.save(figure, path)


def draw_graph(axes: Axes, problem: Problem, probability: np.ndarray) -> None:
    """Draws nodes on a circle; the opacity of an edge is its probability."""
    nodes = len(problem.graph)
    angle = 2 * np.pi * np.arange(nodes) / nodes
    place = np.stack([np.sin(angle), np.cos(angle)], axis=-1)
    undirected = problem.structure == "spanning_tree"
    head = "-" if undirected else "-|>"
    # Edges that run both ways are bent apart.
    options = {"arrowstyle": head, "shrinkA": 13, "shrinkB": 13}
    options["connectionstyle"] = "arc3" if undirected else "arc3,rad=0.12"
    for u, v in np.argwhere(np.maximum(problem.graph, probability) > 0.05):
        if undirected and u > v:
            continue
        true = problem.graph[u, v] > 0
        learned = {"color": common.BLUE if true else common.RED, "alpha": float(probability[u, v])}
        for look in ([{"color": "0.8", "linewidth": 6}] if true else []) + [learned]:
            axes.annotate("", place[v], place[u], arrowprops={**options, **look})
    axes.scatter(*place.T, s=420, color="white", edgecolors="black", zorder=3)
    for node, (x, y) in enumerate(place):
        axes.text(x, y, str(node), ha="center", va="center", zorder=4)
    axes.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal")
    axes.axis("off")


def main(argv: Sequence[str] | None = None) -> dict[str, list[Run]]:
    """Runs the command line and returns estimator -> runs, one per seed."""
    parser = common.parser(__doc__, output="graph_structure.png", seeds=3, jit=False)
    structures = ["arborescence", "spanning_tree", "edges"]
    parser.add_argument("--structure", choices=structures, default="edges")
    parser.add_argument("--objective", choices=["black_box", "likelihood"], default="black_box")
    parser.add_argument("--posterior", action="store_true", help="q against a uniform prior")
    parser.add_argument("--estimators", nargs="+", choices=list(ESTIMATORS), default=DEFAULT)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--cascades", type=int, default=100, help=f"of {LENGTH} transitions each")
    parser.add_argument("--steps", type=int, default=600, help=f"of {EVALUATIONS} evaluations")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the first graph; every run has one of its own"
    )
    args = parser.parse_args(argv)

    seeds = range(args.seed, args.seed + args.seeds)
    problems = [make_problem(args.structure, args.nodes, args.cascades, seed) for seed in seeds]
    results: dict[str, list[Run]] = {}
    seconds: dict[str, float] = {}
    total = len(args.estimators) * args.seeds * max(args.steps // EVERY, 1) * EVERY
    with tqdm(total=total, unit="step") as progress:
        for name in args.estimators:
            progress.set_description(name)
            start = time.perf_counter()
            pairs = zip(problems, seeds, strict=True)
            results[name] = [train(p, name, args, seed, progress) for p, seed in pairs]
            seconds[name] = (time.perf_counter() - start) / args.seeds
    print(
        f"\n{args.structure}, {args.nodes} nodes, {args.seeds} graphs, objective {args.objective}"
    )
    print_table(results, args.objective, seconds)
    plot(problems[0], results, args.output)
    print(f"\nFigure: {args.output}")
    return results


if __name__ == "__main__":
    common.run(main, resumes=False)
