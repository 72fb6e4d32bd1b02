"""Messages about estimators of several layers."""

from tests.messages.rows import Row, model_of
from tests.models import bernoulli
from tf_relax import estimators

ROWS = [
    Row(
        "estimators_by_unknown_names",
        lambda: model_of(estimator={"code": "relax", "kode": "disarm"}),
        ValueError,
        (
            "The mapping of estimators has no stochastic layers ['kode']. It needs the names of "
            "the stochastic layers of the model, each once: ['code']."
        ),
    ),
    Row(
        "estimators_by_too_few_names",
        lambda: model_of(
            after=lambda code: bernoulli(name="second")(code), estimator={"code": "relax"}
        ),
        ValueError,
        (
            "The mapping of estimators leaves out ['second']. It needs the names of the "
            "stochastic layers of the model, each once: ['code', 'second']."
        ),
    ),
    Row(
        "estimators_that_work_on_all_layers",
        lambda: model_of(estimator={"code": "exact"}),
        ValueError,
        (
            "Exact() works on all layers of a model together, and cannot be combined with others, "
            "as it is for the layer 'code'. Use it for the whole model, or another one, such as "
            "'relax' or 'leave_one_out', for this layer."
        ),
    ),
    Row(
        "estimators_with_different_passes",
        lambda: model_of(
            after=lambda code: bernoulli(name="second")(code),
            estimator={"code": estimators.LeaveOneOut(3), "second": "disarm"},
        ),
        ValueError,
        (
            "LeaveOneOut(num_samples=3) and Disarm() draw their samples in different ways, 3 "
            "independent passes and 1, and cannot be combined. Choose one of them for both layers, "
            "or two that take the same `num_samples`."
        ),
    ),
    Row(
        "no_estimator_by_name",
        lambda: model_of(estimator={}),
        ValueError,
        "PerLayer: an estimator is needed for every stochastic layer.",
    ),
    Row(
        "state_of_an_unknown_layer",
        lambda: model_of().estimator_state["kode"],
        KeyError,
        "\"There is a state for the layers ['code'], and none for 'kode'.\"",
    ),
]
