"""Messages about `compile`."""

from tests.messages.rows import Row, model_of, step, weighted
from tests.models import costs
from tf_relax import losses

ROWS = [
    Row(
        "vimco_without_samples",
        lambda: model_of(estimator="vimco"),
        ValueError,
        (
            "Vimco estimates the gradient of the importance-weighted bound with K >= 2 samples. "
            "Compile the model with `importance_samples=K`. Received: importance_samples=None"
        ),
    ),
    Row(
        "importance_samples",
        lambda: model_of(estimator="relax", importance_samples=3),
        ValueError,
        (
            "Relax() estimates the gradient of a mean over samples, and importance_samples=3 asks "
            "for the logarithm of one. Use 'vimco' or 'reinforce', or one of the pathwise "
            "estimators."
        ),
    ),
    Row(
        "importance_samples_number",
        lambda: model_of(estimator="reinforce", importance_samples=0),
        ValueError,
        "`importance_samples` must be at least 1 (a whole number). Received: 0",
    ),
    Row(
        "importance_samples_without_prior",
        lambda: step(estimator="vimco", importance_samples=3),
        ValueError,
        (
            "RelaxModel 'model' is compiled with importance_samples=3, and has no prior: there is"
            " no likelihood to bound. Give its stochastic layers one, for example "
            "RelaxBernoulli(prior='learned')."
        ),
    ),
    Row(
        "black_box_rebar",
        lambda: model_of(loss=losses.BlackBox(costs, name="cost"), estimator="rebar"),
        ValueError,
        (
            "Estimator Rebar() differentiates the objective, and loss 'cost' is a BlackBox. Use "
            "estimator='relax', whose surrogate network then stands alone, or 'reinforce'."
        ),
    ),
    Row(
        "black_box_xla",
        lambda: model_of(
            loss=losses.BlackBox(costs, name="cost"), run_eagerly=False, jit_compile=True
        ),
        ValueError,
        (
            "Loss 'cost' is a BlackBox and runs NumPy code, which XLA cannot compile. Use "
            "jit_compile=False."
        ),
    ),
    Row(
        "using",
        lambda: weighted(estimator="vimco").using("relax").__enter__(),
        ValueError,
        (
            "Relax() estimates the gradient of a mean over samples, and importance_samples=3 asks "
            "for the logarithm of one. Use 'vimco' or 'reinforce', or one of the pathwise "
            "estimators."
        ),
    ),
]
