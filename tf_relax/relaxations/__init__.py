"""What is random: hard ``b = H(z)``, relaxed ``z ~ p(z|a)``, conditional ``z~ ~ p(z|b, a)``."""

from tf_relax.relaxations.bernoulli import Bernoulli
from tf_relax.relaxations.normal import Normal
from tf_relax.relaxations.relaxation import Draw, Relaxation

__all__ = ["Bernoulli", "Draw", "Normal", "Relaxation"]
