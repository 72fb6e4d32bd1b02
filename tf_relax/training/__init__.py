"""Models and optimizers that train stochastic layers."""

from tf_relax.training.differentiation import Differentiation
from tf_relax.training.relax_model import RelaxModel
from tf_relax.training.relax_optimizer import RelaxOptimizer

__all__ = ["Differentiation", "RelaxModel", "RelaxOptimizer"]


def __dir__() -> list[str]:
    return __all__
