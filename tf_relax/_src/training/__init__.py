"""Models and optimizers that train stochastic layers."""

from tf_relax._src.training.differentiation import Differentiation
from tf_relax._src.training.for_inference import for_inference
from tf_relax._src.training.relax_model import RelaxModel
from tf_relax._src.training.relax_optimizer import RelaxOptimizer

__all__ = ["Differentiation", "RelaxModel", "RelaxOptimizer", "for_inference"]
