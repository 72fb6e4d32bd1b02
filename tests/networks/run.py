"""Random networks, as many as are asked for, held against enumeration.

    python -m tests.networks.run --examples 10000 --log networks.jsonl

prints a table of how they agreed. Networks come in chunks of a hundred, each chunk from a seed of
its own. With `--log` chunks that a file knows already are not run again, so that a run that was
stopped goes on. A network that disagrees is reduced to its simplest form and printed, and makes the
command fail at its end.
"""

from __future__ import annotations

import argparse
import collections
import gc
import json
import traceback
import warnings
from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np
import scipy.stats
from hypothesis import HealthCheck, Phase, given, seed, settings
from tqdm import tqdm

from tests.networks.checks import Agreement, agree
from tests.networks.drawn import Network, networks

CHUNK = 100


def run_chunk(number: int, examples: int = CHUNK, **limits: int) -> list[Agreement]:
    """Checks so many networks, in float64; raises for the simplest one that disagrees."""
    found = []

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(networks(**limits))
    def check(network: Network) -> None:
        found.append(agree(network))

    check()
    keras.backend.clear_session()
    gc.collect()
    return found


class Summary:
    """How networks agreed, all together.

    Squares of the scores are chi-squared where estimates are unbiased, one degree of freedom each,
    give or take what a thousand samples leave of a Gaussian.
    """

    def __init__(self, agreements: Iterable[Agreement]):
        self.agreements = [Agreement(*fields) for fields in agreements]
        scores = collections.defaultdict(list)
        for one in self.agreements:
            if one.score:  # neither rare nor without noise
                scores[one.estimator].append(one.score)
        self.scores = {name: np.array(values) for name, values in sorted(scores.items())}

    @property
    def errors(self) -> np.ndarray:
        """Of the exact gradients."""
        return np.array([one.error for one in self.agreements if one.error is not None])

    @property
    def all_scores(self) -> np.ndarray:
        return np.concatenate([np.zeros(0), *self.scores.values()])

    @property
    def tail(self) -> float:
        """Probability of a sum of squares as large as this."""
        return chi_squared_tail(self.all_scores)

    def __str__(self) -> str:
        errors, scores = self.errors, self.all_scores
        lines = [
            f"{len(self.agreements)} networks agree with enumeration",
            f"{len(errors)} exact gradients: error at most {errors.max(initial=0):.1e}",
            f"{len(scores)} estimates: largest score {np.abs(scores).max(initial=0):.2f}",
            f"{'estimator':<18}{'networks':>10}{'mean z^2':>10}{'max |z|':>10}{'tail':>10}",
        ]
        for name, z in [*self.scores.items(), ("all", scores)]:
            lines.append(
                f"{name:<18}{len(z):>10}{np.mean(z**2):>10.3f}{np.abs(z).max():>10.2f}"
                f"{chi_squared_tail(z):>10.3f}"
            )
        kinds = collections.Counter(kind for one in self.agreements for kind in one.kinds)
        lines.append("layers: " + ", ".join(f"{k} {n}" for k, n in sorted(kinds.items())))
        return "\n".join(lines)


def chi_squared_tail(z: np.ndarray) -> float:
    return float(scipy.stats.chi2.sf(np.sum(z**2), len(z))) if len(z) else 1.0


def main(argv: list[str] | None = None) -> Summary:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--first-seed", type=int, default=1000, help="of the first chunk")
    parser.add_argument("--log", type=Path, help="JSON lines, one per chunk, to go on from")
    arguments = parser.parse_args(argv)
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    # Keras's own: a layer that does not hand on a mask says so.
    warnings.filterwarnings("ignore", ".*destroy the mask information")

    known: dict[int, list[Agreement]] = {}
    log = arguments.log
    if log is not None and log.exists():
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        known = dict(lines)
    sizes = [CHUNK] * (arguments.examples // CHUNK) + [arguments.examples % CHUNK]
    chunks = {arguments.first_seed + k: size for k, size in enumerate(sizes) if size}
    done = sum(len(known.get(number, [])) for number in chunks)
    failed = []
    with tqdm(total=arguments.examples, initial=done, desc="networks") as bar:
        for number, size in chunks.items():
            if number in known:
                continue
            try:
                known[number] = run_chunk(number, size)
            except Exception:  # whatever is wrong with one network, the others count
                failed.append(number)
                traceback.print_exc()
                continue
            bar.update(size)
            if log is not None:
                with log.open("a") as file:
                    file.write(json.dumps([number, known[number]]) + "\n")
    summary = Summary(one for number in chunks for one in known.get(number, []))
    print(summary)
    if failed:
        raise SystemExit(f"chunks of seeds {failed} have networks that disagree, see above")
    return summary


if __name__ == "__main__":
    main()
