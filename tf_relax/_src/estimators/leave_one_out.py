"""Score function with several samples, each of which is the others' baseline."""

from __future__ import annotations

from typing import Any

import keras

from tf_relax._src import rules
from tf_relax._src.estimators.estimator import Estimate, Estimator, Passes, sampled


class IndependentSamples(Estimator):
    """Base of the estimators that compare K independent samples of all layers.

    Args:
        num_samples: K, at least 2.

    Raises:
        ValueError: for fewer than two samples.
    """

    def __init__(self, num_samples: int = 2):
        self.num_samples = check_samples(type(self).__name__, num_samples)
        self.num_passes = self.num_noises = num_samples

    def get_config(self) -> dict[str, Any]:
        return {"num_samples": self.num_samples}


@keras.saving.register_keras_serializable(package="tf_relax")
class LeaveOneOut(IndependentSamples):
    r"""Leave-one-out REINFORCE: each of $K$ samples is held against the mean of the others.

    $$g = \frac{1}{K} \sum_k (f_k - \bar f_k) \nabla_a \log p(b_k \mid a)$$

    Kool et al. (2019), equation 8, with the mean $\bar f_k = \frac{1}{K - 1} \sum_{j \ne k} f_j$ of
    the others; $K$ independent samples of every layer, and $K$ evaluations of the objective.
    Unbiased for any objective.

    Args:
        num_samples: $K$, at least 2.

    Raises:
        ValueError: for fewer than two samples.

    Example:

    >>> LeaveOneOut(num_samples=4)
    LeaveOneOut(num_samples=4)
    """

    papers = ("kool2019",)
    needs = ()

    def estimate(self, passes: Passes) -> Estimate:
        signals = rules.leave_one_out([one.f for one in passes])
        return Estimate(
            [
                [rules.score_function(*sampled(site), signal) / len(passes) for site in one.sites]
                for one, signal in zip(passes, signals, strict=True)
            ]
        )


def check_samples(name: str, num_samples: int, least: int = 2) -> int:
    """Returns the number of samples.

    Raises:
        ValueError: if it is too small.
    """
    if not isinstance(num_samples, int) or num_samples < least:
        raise ValueError(
            f"{name} compares samples with one another: a whole number, at least {least}. "
            f"Received: num_samples={num_samples}"
        )
    return num_samples
