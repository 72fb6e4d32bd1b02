"""Variance of PL-RELAX and of REINFORCE on a quadratic objective of four items' order.

    python benchmarks/permutation_variance.py

The objective is that of `permutation_toy.py`, ``||P - T||_F^2`` with ``1/n + eps`` on T's diagonal:
at eps = .05 all permutations are nearly as good, at eps = .75 (n = 4) T is the identity. Logits are
all 0, or standard normal. The model stays fixed, the surrogates are fitted to it, and every draw
is an audit's: at 24 permutations it knows the exact gradient, which gives the z-scores of the bias.
"""

from __future__ import annotations

import argparse
import statistics

import keras
import numpy as np
from permutation_toy import TEMPERATURE, build, squared_distance, target

from tf_relax import audit
from tf_relax.estimators import Rebar, Reinforce, Relax
from tf_relax.surrogates import Network, Objective, Sum

EXAMPLES = 50  # copies of one example in a batch: as many draws per step


def main(argv: list[str] | None = None) -> dict[str, list[float]]:
    """Runs the benchmark; returns the variances by contestant, one per setting."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, default=4)
    parser.add_argument("--eps", type=float, nargs="+", default=[0.05, 0.75])
    parser.add_argument("--seeds", type=int, default=2, help="how many random logits")
    parser.add_argument("--surrogate-steps", type=int, default=1_000)
    parser.add_argument("--draws", type=int, default=200, help=f"of {EXAMPLES} examples each")
    parser.add_argument("--no-jit", action="store_true", help="do not compile with XLA")
    arguments = parser.parse_args(argv)
    surrogates = {
        "objective": Objective,
        "network": lambda: Network(units=(32,), looks_at=()),
        "sum": lambda: Sum([Objective(), Network(units=(32,), looks_at=())]),
    }
    result: dict[str, list[float]] = {}
    heads = f"{'variance':>10} {'reinforce / it':>15} {'z':>6}"
    print(f"{'eps':>5} {'logits':>8} {'estimator':>30} {heads}")
    for eps in arguments.eps:
        t = target(arguments.items, eps)
        x, y = np.ones((EXAMPLES, 1), "float32"), np.repeat(t[np.newaxis], EXAMPLES, axis=0)
        for seed in range(arguments.seeds + 1):
            logits = np.random.default_rng(seed).normal(size=(1, arguments.items))
            rows = {}
            for k, (surrogate, make) in enumerate(surrogates.items()):
                keras.utils.set_random_seed(10 * seed + k)  # no two share their noise
                model = build(arguments.items)
                model.get_layer("scores").kernel.assign(logits if seed else 0 * logits)
                model.compile("adam", loss=squared_distance, jit_compile=not arguments.no_jit)
                contestants = {
                    f"relax, {surrogate}": Relax(surrogate=make(), temperature=TEMPERATURE)
                }
                if surrogate == "objective":
                    contestants = {
                        "reinforce": Reinforce(),
                        "reinforce, moving average": Reinforce(baseline="moving_average"),
                        "rebar": Rebar(temperature=TEMPERATURE),
                        **contestants,
                    }
                report = audit(
                    model,
                    x,
                    y,
                    contestants,
                    num_samples=arguments.draws,
                    reference="exact",
                    surrogate_steps=arguments.surrogate_steps,
                    verbose=0,
                )
                rows.update({row.estimator: row for row in report.rows})
            for name, row in rows.items():
                result.setdefault(name, []).append(row.variance)
                times = rows["reinforce"].variance / row.variance
                where = f"normal {seed}" if seed else "0"
                figures = f"{row.variance:10.3g} {times:15.1f} {row.z:6.1f}"
                print(f"{eps:5g} {where:>8} {name:>30} {figures}")
    print("reinforce / it, over all settings: median, least")
    for name, values in result.items():
        ratios = [a / b for a, b in zip(result["reinforce"], values, strict=True)]
        print(f"{name:>30}: {statistics.median(ratios):.1f}, {min(ratios):.1f}")
    return result


if __name__ == "__main__":
    main()
