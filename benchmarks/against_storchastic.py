"""RELAX and REBAR here against those of storchastic: the same autoencoder, side by side.

    python -m venv peer && peer/bin/pip install storchastic torch numpy
    python benchmarks/against_storchastic.py --peer peer/bin/python

784 pixels, two tanh layers of 200 units on either side, 200 Bernoulli latents with a uniform prior
there and a learned one here, batches of 100, Adam at 1e-3. RELAX has a network of 50 units as its
surrogate on both sides, which is what `in_dim=` makes there (`rebar=True` with a network fails
there with several examples); REBAR the objective at relaxed samples. Both use all cores, and take
turns in processes of their own. storchastic (van Krieken et al. 2021) runs eagerly in PyTorch;
`storch.backward()` trains the surrogate as well.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from tqdm import tqdm

BATCH, PIXELS, LATENTS = 100, 784, 200


def milliseconds(run: Callable[[int], None], steps: int) -> float:
    """Returns how long a step takes, the first ones left out."""
    run(10)
    start = time.perf_counter()
    run(steps)
    return 1e3 * (time.perf_counter() - start) / steps


def ours(name: str) -> Callable[[int], None]:
    """Returns what trains the autoencoder for a number of steps by `fit`."""
    import numpy as np
    from contestants import model_for
    from step_cost import Fit, endless, images

    from tf_relax.estimators import Rebar, Relax
    from tf_relax.surrogates import Network

    x = images()
    estimator = Rebar() if name == "rebar" else Relax(surrogate=Network((50,), looks_at=()))
    model = model_for(estimator, np.full(PIXELS, 0.5), seed=0)
    data = endless(x, BATCH)
    return lambda steps: Fit(model).run(data, steps)


def theirs(name: str) -> Callable[[int], None]:
    """Returns the same for storchastic."""
    import storch
    import torch
    from storch.method import REBAR, RELAX
    from torch import nn

    torch.manual_seed(0)
    tanh = nn.Tanh()
    encoder = nn.Sequential(
        *[nn.Linear(PIXELS, 200), tanh, nn.Linear(200, 200), tanh, nn.Linear(200, LATENTS)]
    )
    decoder = nn.Sequential(
        *[nn.Linear(LATENTS, 200), tanh, nn.Linear(200, 200), tanh, nn.Linear(200, PIXELS)]
    )
    method = REBAR("z") if name == "rebar" else RELAX("z", in_dim=(LATENTS,))
    models = nn.ModuleList([encoder, decoder, method])
    optimizer = torch.optim.Adam(models.parameters(), lr=1e-3)
    encode, decode = storch.deterministic(encoder.forward), storch.deterministic(decoder.forward)
    images = (torch.rand(5000, PIXELS) < 0.13).float()

    def step(x: torch.Tensor) -> None:
        optimizer.zero_grad()
        x = storch.denote_independent(x, 0, "data")
        probabilities = torch.distributions.utils.clamp_probs(encode(x).sigmoid())
        q = torch.distributions.Bernoulli(probs=probabilities)
        p = torch.distributions.Bernoulli(probs=torch.full_like(q.probs, 0.5))
        storch.add_cost(torch.distributions.kl_divergence(q, p).sum(-1), "divergence")
        z = method(q)
        image = decode(z).sigmoid()
        storch.add_cost(storch.nn.b_binary_cross_entropy(image, x, reduction="sum"), "nll")
        storch.backward()
        optimizer.step()
        storch.reset()

    def run(steps: int) -> None:
        for k in range(steps):
            first = k * BATCH % len(images)
            step(images[first : first + BATCH])

    return run


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Prints and returns how many times as long a step of storchastic takes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--peer", help="Python of an environment with storchastic")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--alone", nargs=2, metavar=("SIDE", "ESTIMATOR"), help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.alone:
        side, name = arguments.alone
        print(milliseconds({"ours": ours, "theirs": theirs}[side](name), arguments.steps))
        return {}

    def measured(python: str, side: str, name: str) -> float:
        command = [python, __file__, "--alone", side, name, "--steps", str(arguments.steps)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        return float(output.split()[-1])

    names, medians = ("relax", "rebar"), {}
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for _ in tqdm(range(arguments.rounds), desc="rounds"):
        for name in names:
            peer = measured(arguments.peer, "theirs", name)
            pairs[name].append((peer, measured(sys.executable, "ours", name)))
    for name in names:
        there, here = (statistics.median(values) for values in zip(*pairs[name], strict=True))
        ratios = sorted(a / b for a, b in pairs[name])
        medians[name] = statistics.median(ratios)
        print(
            f"{name}: storchastic {there:.2f} ms a step, tf_relax {here:.2f}; ratio "
            f"{medians[name]:.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})"
        )
    return medians


if __name__ == "__main__":
    main()
