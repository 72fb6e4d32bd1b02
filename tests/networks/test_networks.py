"""Random networks agree with enumeration.

`make test`, and every commit, runs 240 small ones, `make test-slow` 500, and

    python -m tests.networks.run --examples 10000

as many as it is told to. What is exact is held to 1e-8. Estimates from a thousand samples give one
z-score per network; one beyond 4 is looked at again with 30,000 fresh samples (300,000 where those
had no noise) and has to stay below 5.5, which a Gaussian exceeds once in 25 million. The sum of the
squares of all scores has to stay below what chance exceeds once in a million runs.
"""

import pytest

from tests.estimators.learned import objective_and_network
from tests.networks.built import build
from tests.networks.checks import exact_error, sampled_score
from tests.networks.drawn import Network, Site
from tests.networks.enumerated import enumerated
from tests.networks.kinds import KINDS
from tests.networks.run import Summary, main, run_chunk
from tf_relax.estimators import Relax
from tf_relax.relaxations import Bernoulli

pytestmark = [
    pytest.mark.usefixtures("float64"),
    # Keras's own: a layer that does not hand on a mask says so.
    pytest.mark.filterwarnings("ignore:.*destroy the mask information"),
]


def check(summary):
    print(summary)
    assert summary.errors.max() < 1e-8
    assert summary.tail > 1e-6


@pytest.mark.parametrize("chunk", range(4))
def test_random_networks(chunk, seed):
    summary = Summary(run_chunk(4 * seed + chunk, examples=60, listed=8))
    check(summary)
    assert len(summary.errors) > 10
    assert len(summary.all_scores) > 10


def test_a_wrong_equation_shows(monkeypatch):
    """What the tests of random networks would do if half of a term were missing."""
    (bits,) = [kind for kind in KINDS if kind.name == "bits2"]
    site = Site(bits, inputs=(0,), scale=1.0, prior="learned")
    network = Network((site,), 2, 2, top=(1,), loss="mse", weighted=False, examples=1, seed=0)
    built = build(network)
    expected = enumerated(network, built)
    right = {name: getattr(Bernoulli, name) for name in ("score", "delta_vjp")}

    def halve(name):
        half = lambda *arguments: 0.5 * right[name](*arguments)  # noqa: E731
        monkeypatch.setattr(Bernoulli, name, half)

    halve("score")
    with pytest.raises(AssertionError, match="the exact gradient is off by"):
        exact_error(network, built, expected)
    monkeypatch.undo()
    halve("delta_vjp")
    built.model.compile("sgd", "mse", estimator=Relax(surrogate=objective_and_network(3)))
    assert abs(sampled_score(network, built, expected, 30_000)) > 7


@pytest.mark.slow
def test_more_random_networks(tmp_path, capsys):
    log = tmp_path / "networks.jsonl"
    main(["--examples", "400", "--log", str(log)])
    summary = main(["--examples", "500", "--log", str(log)])
    assert "400/500" in capsys.readouterr().err  # where the second run began
    assert len(log.read_text().splitlines()) == 5
    check(summary)
