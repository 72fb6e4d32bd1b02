"""Private hooks of Keras and TensorFlow, in one place, each with a test."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


def functional_class() -> type[keras.Model]:
    """Returns the class of functional models, which `keras.Model(inputs, outputs)` turns into."""
    from keras.src.models.functional import Functional

    return Functional


def global_seed_state() -> keras.Variable | None:
    """Returns the state of the seed generator that serves every random op without a seed.

    `None` in threads where nothing has asked for one yet, as in those of replicas: making one there
    would create a variable inside of a step.
    """
    from keras.src.backend.common import global_state
    from keras.src.random import seed_generator

    generator = global_state.get_global_attribute("global_seed_generator")
    if generator is None and not tf.distribute.has_strategy():
        generator = seed_generator.global_seed_generator()
    return None if generator is None else generator.state


def position_of_call() -> int:
    """Returns how often this was called before in the call of the outermost layer or model.

    It is 0 outside of all calls. Within a model it tells calls apart in the same way every time.
    """
    from keras.src.backend.common import global_state

    context = global_state.get_global_attribute("current_call_ctx")
    if context is None:
        return 0
    position = getattr(context, "tf_relax_position", 0)
    context.tf_relax_position = position + 1
    return position


def first_part(iterator: Any, strategy: Any) -> Any:
    """Returns what the first replica of a strategy gets of the first batch of an epoch.

    Args:
        iterator: what Keras's `_maybe_symbolic_build` is given.
        strategy: that distributes the batch.
    """
    epoch = iterator.enumerate_epoch() if hasattr(iterator, "enumerate_epoch") else iterator
    *_, batches = next(iter(epoch))
    return _first_part(next(batches), strategy)


def _first_part(batch: Any, strategy: Any) -> Any:
    def part(value: Any) -> Any:
        distributed = isinstance(value, tf.distribute.DistributedValues)
        return strategy.experimental_local_results(value)[0] if distributed else value

    # Of Keras's trees, which are those of TensorFlow but for distributed values.
    return tf.nest.map_structure(part, batch)


def build_metrics(model: keras.Model, batch: Any) -> None:
    """Gives the metrics of a compiled model their variables, by a batch as `fit` reads it."""
    strategy = model.distribute_strategy
    with strategy.scope():
        model._symbolic_build(data_batch=_first_part(batch, strategy))


def keras_mask(tensor: Any) -> Any:
    """Returns the mask that Keras has attached to a tensor, or `None`."""
    return getattr(tensor, "_keras_mask", None)


def sublayers(layer: keras.Layer) -> list[keras.Layer]:
    """Returns all layers inside a layer or model, however deeply nested."""
    return layer._flatten_layers(include_self=False)


def number_of_calls(layer: keras.Layer) -> int:
    """Returns how often a layer was called on symbolic tensors, in all functional models."""
    return len(layer._inbound_nodes)


def loss_tracker(model: keras.Model) -> Any:
    """Returns the metric that tracks the total loss of a compiled model."""
    return model._loss_tracker


def forget_kernels() -> None:
    """Drops what TensorFlow keeps ready to run of every function called, gone ones included.

    As `keras.backend.clear_session` does. A function that is still in use is prepared once more.
    """
    from tensorflow.python.eager import context

    context.context().clear_kernel_cache()


def inside_eager_loop() -> bool:
    """Returns whether a loop of TensorFlow runs the caller, step by step as Python code."""
    frame: types.FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "tensorflow.python.ops.while_loop":
            return tf.executing_eagerly()
        frame = frame.f_back
    return False


def bind_build(model: keras.Model) -> None:
    """Lets a model whose class has changed build itself as its class does now.

    Keras wraps the `build` of every new object in one that is the object's own.
    """
    wrapper = model.__dict__["build"]
    wrapped = wrapper.__code__.co_freevars.index("original_build_method")
    wrapper.__closure__[wrapped].cell_contents = types.MethodType(type(model).build, model)


def moving_averages(optimizer: keras.optimizers.Optimizer) -> dict[int, Any]:
    """Returns the moving averages of an optimizer with `use_ema`, by the ids of the variables."""
    if not optimizer.use_ema:
        return {}
    averages = zip(
        optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True
    )
    return {id(variable): average for variable, average in averages}


def finish_clones(
    cls: type[keras.Model], finish: Callable[[keras.Model, keras.Model], None]
) -> None:
    """Lets `keras.models.clone_model` hand over what it makes of functional, sequential models.

    It makes a plain `keras.Sequential` of a subclass, and a plain functional model of a subclass
    with a constructor of its own, and compiles those as if they were of the subclass.

    Args:
        cls: the class whose instances are concerned, and no other.
        finish: is given the model and its clone, before that is compiled, where `cls` got lost.
    """
    from keras.src.models import cloning

    def finishing(clone: Callable[..., keras.Model]) -> Callable[..., keras.Model]:
        @functools.wraps(clone)
        def clone_and_finish(model: keras.Model, *args: Any, **kwargs: Any) -> keras.Model:
            if not isinstance(model, cls):
                return clone(model, *args, **kwargs)
            compiled, model.compiled = model.compiled, False
            try:
                made = clone(model, *args, **kwargs)
            finally:
                model.compiled = compiled
            if not isinstance(made, cls):
                finish(model, made)
            if compiled:
                made.compile_from_config(model.get_compile_config())
            return made

        return clone_and_finish

    for name in ("_clone_sequential_model", "_clone_functional_model"):
        setattr(cloning, name, finishing(getattr(cloning, name)))


def saving_to_legacy_hdf5() -> bool:
    """Returns whether Keras asks for the config of a model that goes to a `.h5` file."""
    from keras.src.backend.common import global_state

    return bool(global_state.get_global_attribute("use_legacy_config", False))


def leaves_config_to_keras(get_config: Callable[..., dict[str, Any]]) -> Callable[..., Any]:
    """Marks a `get_config` that adds nothing: Keras goes on recording constructor arguments."""
    from keras.src.utils.python_utils import default

    return default(get_config)


class Checkpointed(keras.Model):
    """A model of which `tf.train.Checkpoint` holds variables that no layer of it holds.

    TensorFlow saves and restores by the graph of `_trackable_children`, in which Keras has no place
    for the states of seed generators.
    """

    def also_checkpointed(self) -> dict[str, list[keras.Variable]]:
        """Returns those variables, in groups of which a checkpoint may lack some."""
        raise NotImplementedError(f"{type(self).__name__} does not implement `also_checkpointed`.")

    def _trackable_children(self, save_type: str = "checkpoint", **kwargs: Any) -> Any:
        children = super()._trackable_children(save_type, **kwargs)
        if save_type != "checkpoint" or not self.built:
            return children
        groups = self.also_checkpointed()
        # One object for as long as the variables are the same.
        names = {name: [id(variable) for variable in group] for name, group in groups.items()}
        known = self.__dict__.get("_tf_relax_checkpointed")
        if known is None or known[0] != names:
            known = names, tf.train.Checkpoint(**groups)
            self.__dict__["_tf_relax_checkpointed"] = known
        return {**children, "tf_relax": known[1]}


def start_at_epoch(model: keras.Model, epoch: int) -> None:
    """Lets the `fit` that is about to begin do so at a later epoch."""
    model._initial_epoch = epoch


def input_signature(model: keras.Model) -> list[Any]:
    """Returns the specifications of what a model is called with, as `export` takes them."""
    try:
        from keras.src.export.export_utils import get_input_signature
    except ImportError:  # Keras 3.6
        from keras.src.export.export_lib import _get_input_signature

        if isinstance(model, keras.Sequential):
            inputs = model.inputs[0]
        elif isinstance(model, functional_class()):
            inputs = model.input
        else:
            return list(_get_input_signature(model))
        specification = keras.tree.map_structure(
            lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype, tensor.name), inputs
        )
        return [specification]
    return list(get_input_signature(model))
