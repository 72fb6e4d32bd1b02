"""A small character model whose samples learn a rule that no gradient knows.

First it learns to write as a corpus does, by maximum likelihood: strings of brackets of two kinds,
most of which do not balance. That is the reference. Then it is paid for strings that do, by a
Python parser that returns 1 or 0, and pays for its divergence from the reference:

    max E[balanced(y)] - kl_weight KL(p || reference).

Without the divergence, one string would do. With it, the best is the reference on condition that
the string balances, the more so the smaller the weight.

    python examples/rlhf_toy.py
    python examples/rlhf_toy.py --estimators leave_one_out unordered_set relax grpo --kl-weights .05

Prints how many samples balance, how far the model is from its reference, and how many different
strings it writes, before and after; and draws the balance that is reached against the divergence.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

import common
from tf_relax import sequences

SYMBOLS = "$()[]"  # token 0 begins and ends strings
STOP, LENGTH = 0, 12
CLOSES = {2: 1, 4: 3}


class Outcome(NamedTuple):
    """What the samples of a model are like.

    Attributes:
        balanced: fraction that balances.
        kl: from the reference, in nats.
        different: number of different balanced strings among the samples.
        examples: some of them.
    """

    balanced: float
    kl: float
    different: int
    examples: list[str]


def corpus(count: int, seed: int) -> np.ndarray:
    """Returns strings whose brackets close half of the time, `[count, LENGTH]`."""
    rng = np.random.default_rng(seed)
    tokens = np.zeros((count, LENGTH), "int32")
    for row in tokens:
        open_ones: list[int] = []
        for t in range(rng.integers(2, LENGTH)):
            if open_ones and rng.random() < 0.5:
                row[t] = open_ones.pop() + 1
            else:
                row[t] = rng.choice([1, 3])
                open_ones.append(row[t])
            if rng.random() < 0.1:  # a slip
                row[t] = rng.integers(1, 5)
    return tokens


def is_balanced(tokens: np.ndarray) -> bool:
    """Returns whether every bracket of a string is closed, by one of its kind, in order."""
    open_ones: list[int] = []
    for token in tokens:
        if token == STOP:
            return not open_ones
        if token not in CLOSES:
            open_ones.append(token)
        elif not open_ones or open_ones.pop() != CLOSES[token]:
            return False
    return False  # it has not ended


@keras.saving.register_keras_serializable(package="rlhf_toy")
def balances(finished: sequences.Finished) -> np.ndarray:
    """The reward: 1 for strings that balance, if they are none of nothing."""
    rewards = [is_balanced(row) and row[0] != STOP for row in finished.tokens]
    return np.array(rewards, "float32")


def language_model(units: int) -> keras.Model:
    """Returns a recurrent model from tokens to the logits of the next."""
    tokens = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(len(SYMBOLS), units)(tokens)
    x = keras.layers.GRU(units, return_sequences=True)(x)
    return keras.Model(tokens, keras.layers.Dense(len(SYMBOLS))(x))


def pretrained(units: int, epochs: int, seed: int) -> keras.Model:
    """Returns a model that writes as the corpus does."""
    strings = corpus(5000, seed)
    ends = np.argmax(strings == STOP, axis=1)
    weights = (np.arange(LENGTH) <= ends[:, np.newaxis]).astype("float32")
    before = np.concatenate([np.full((len(strings), 1), STOP), strings[:, :-1]], axis=1)
    model = language_model(units)
    model.compile(
        keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    model.fit(before, strings, sample_weight=weights, batch_size=100, epochs=epochs, verbose=0)
    return model


def judged(model: sequences.SequenceModel, reference: sequences.SequenceModel) -> Outcome:
    """Looks at two thousand samples."""
    prompts = np.full((2000, 1), STOP)
    drawn = model.sample(prompts, seed=1)
    tokens = drawn.tokens.numpy()
    good = [is_balanced(row) and row[0] != STOP for row in tokens]
    kl = np.mean(model.log_prob(prompts, drawn) - reference.log_prob(prompts, drawn))
    texts = ["".join(SYMBOLS[k] for k in row).rstrip(SYMBOLS[STOP]) for row in tokens[good]]
    return Outcome(float(np.mean(good)), float(kl), len(set(texts)), texts[:4])


def tuned(
    base: keras.Model, estimator: str, kl_weight: float, arguments: argparse.Namespace
) -> sequences.SequenceModel:
    """Trains a copy of a model on the reward."""
    keras.utils.set_random_seed(arguments.seed)
    policy, reference = keras.models.clone_model(base), keras.models.clone_model(base)
    policy.set_weights(base.get_weights())
    reference.set_weights(base.get_weights())
    model = sequences.SequenceModel(policy, LENGTH, STOP, reference=reference)
    model.compile(keras.optimizers.Adam(0.003), balances, estimator, kl_weight=kl_weight)
    prompts = np.full((64 * arguments.steps, 1), STOP)
    model.fit(prompts, batch_size=64, verbose=arguments.verbose)
    return model


def main(argv: list[str] | None = None) -> dict[tuple[str, float], Outcome]:
    """Trains, prints and draws; returns what was reached."""
    parser = common.parser(__doc__, output="outputs/rlhf_toy", jit=False)
    names = ["leave_one_out", "unordered_set", "relax", "grpo", "reinforce"]
    parser.add_argument("--estimators", nargs="+", choices=names, default=names[:1])
    parser.add_argument("--kl-weights", nargs="+", type=float, default=[0.02, 0.1, 0.5])
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=10, help="over the corpus")
    parser.add_argument("--steps", type=int, default=600, help="on the reward")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", type=int, default=1)
    arguments = parser.parse_args(argv)

    keras.utils.set_random_seed(arguments.seed)
    base = pretrained(arguments.units, arguments.epochs, arguments.seed)
    start = sequences.SequenceModel(base, LENGTH, STOP)
    outcomes = {("reference", 0.0): judged(start, start)}
    for name in arguments.estimators:
        for weight in arguments.kl_weights:
            model = tuned(base, name, weight, arguments)
            outcomes[name, weight] = judged(model, start)
    print("\n| trained by | kl_weight | balanced | KL, nats | different strings | such as |")
    print("|---" * 6 + "|")
    for (name, weight), outcome in outcomes.items():
        shown = " ".join(f"`{text}`" for text in outcome.examples)
        print(f"| {name} | {weight:g} | {100 * outcome.balanced:.1f} % | {outcome.kl:.2f} "
              f"| {outcome.different} | {shown} |")  # fmt: skip
    draw(outcomes, arguments.output)
    return outcomes


def draw(outcomes: dict[tuple[str, float], Outcome], folder: Path) -> None:
    """Draws the balance that was reached against the divergence that it took."""
    figure, [[axis]] = common.figure(width=6.4, height=4)
    names = list(dict.fromkeys(name for name, _ in outcomes))
    for name in names:
        own = [(o.kl, 100 * o.balanced, weight) for (n, weight), o in outcomes.items() if n == name]
        kl, balanced, weights = zip(*sorted(own), strict=True)
        marker = "s" if name == "reference" else "o"
        axis.plot(kl, balanced, marker=marker, linewidth=2, label=name, **common.style(name))
        if name == names[-1]:  # those of the others are nearby
            for x, y, weight in zip(kl, balanced, weights, strict=True):
                at = {"xytext": (7, -13), "textcoords": "offset points", "color": "0.35"}
                axis.annotate(f"{weight:g}", (x, y), fontsize=9, **at)
    axis.set(xlabel="KL divergence from the reference, nats", ylabel="samples that balance, %")
    axis.set(xlim=(-0.05, None), ylim=(None, 103))
    axis.legend(frameon=False, loc="lower right", title="numbers: weight of the divergence")
    common.save(figure, folder / "balance.png")
    print(f"\nfigure: {folder / 'balance.png'}")


if __name__ == "__main__":
    common.run(main, resumes=False)
