"""Every private or undocumented name of Keras and TensorFlow that the packages use, each behind a function.

Written for Keras 3.15 and TensorFlow 2.21. Each docstring says what the function relies on, and why no public name
serves. tests/test_keras_internals.py has a test for each of them that fails with a sentence when a new version of Keras
or TensorFlow changes it. No other module may use a private name of theirs; tests/test_private_names.py checks this.

`keras_seq.GRUCell` relies on two undocumented parts of the interface between `keras.layers.RNN` and its cell. It sets or
overrides them, so no function can stand in front of them; they have tests too. `dropout_mask_count` is the number of
masks that `get_dropout_mask` draws. `get_recurrent_dropout_mask` and `reset_recurrent_dropout_mask` are called before
and after the loop over time.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import tree
from tensorflow.python.eager import context, forwardprop_util
from tensorflow.python.ops import control_flow_util, gradients_util

# Layers


def possible_derivatives(tensors: Sequence[Any]) -> int:
    """Returns the order of the derivatives that gradient tapes may take of what is computed from tensors.

    This is 0 if no tape records the tensors, 1 if one tape does that is not persistent, and 2 otherwise, which stands
    for any higher order.

    Relies on `tensorflow.python.ops.gradients_util.PossibleTapeGradientTypes`, which TensorFlow asks when it calls a
    function. The public `tf.GradientTape` can be asked what it watches, but not whether there is one.
    """
    return gradients_util.PossibleTapeGradientTypes(list(tensors))


def has_tangents(tensors: Sequence[Any]) -> bool:
    """Returns whether a `tf.autodiff.ForwardAccumulator` computes derivatives along some of the tensors.

    Relies on `tensorflow.python.eager.forwardprop_util.pack_tangents`, which TensorFlow calls when it calls a function.
    The public accumulator can be asked for the derivative of a result, but not whether there is one.
    """
    return bool(forwardprop_util.pack_tangents(list(tensors)).tangents)


def is_in_xla() -> bool:
    """Returns whether the function that is traced is compiled by XLA as a whole.

    Relies on `tensorflow.python.ops.control_flow_util.GraphOrParentsInXlaContext`, which the loops of TensorFlow ask.
    """
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def is_in_trainer() -> bool:
    """Returns whether a graph is traced for `fit`, `evaluate` or `predict` of a model, so that it is never exported.

    Relies on the names of the functions that `keras.src.backend.tensorflow.trainer` traces, and on graphs of functions having
    the attributes `name` and `outer_graph`. A model does not tell its layers who calls it.
    """
    graph = tf.compat.v1.get_default_graph()
    while graph is not None:
        if getattr(graph, "name", None) in ("one_step_on_data", "one_step_on_data_distributed", "multi_step_on_data"):
            return True
        graph = getattr(graph, "outer_graph", None)
    return False


def refuse_jit_compile(layer: keras.layers.Layer) -> None:
    """Makes Keras turn off `jit_compile` for every model with this layer.

    Relies on the undocumented attribute `supports_jit`, which `Model.compile` reads of every layer.
    """
    layer.supports_jit = False


def rnn_loop(
    layer: keras.layers.RNN, sequences: Any, initial_state: Any, mask: Any, training: bool
) -> tuple[Any, Any, Any]:
    """Runs the cell of a recurrent layer over a sequence in the loop of `keras.layers.RNN`.

    Relies on the undocumented method `inner_loop`, which `keras.layers.RNN.call` calls for the loop over time alone and
    which `FastLayer` overrides. `call` prepares the initial state and the dropout masks before it, and keeps the
    state of a stateful layer after it. With a public override of `call`, all of this would have to be repeated.

    Args:
        layer: a built recurrent layer.
        sequences: `(batch, time, features)`.
        initial_state: the initial states of the cell, a list.
        mask: `(batch, time)`, a list with it, or None.
        training: whether dropout is on.

    Returns:
        The last output `(batch, units)`, the outputs `(batch, time, units)` (`(batch, 1, units)` without
        `return_sequences`), and the list of the last states.
    """
    return keras.layers.RNN.inner_loop(layer, sequences, initial_state, mask=mask, training=training)


_inner_loops = threading.RLock()  # One thread at a time gives layers another loop.


@contextlib.contextmanager
def with_inner_loop(layers: Sequence[keras.layers.RNN], loop: Callable[..., tuple[Any, Any, Any]]) -> Iterator[None]:
    """Makes recurrent layers run another loop: `loop(layer, sequences, initial_state, mask, training)`.

    Relies on `keras.layers.RNN.call` calling `inner_loop` through the instance; see `rnn_loop` for why there is no public
    way. It returns the last output, the outputs and the last states.
    """
    with _inner_loops:
        for layer in layers:
            vars(layer)["inner_loop"] = functools.partial(loop, layer)
        try:
            yield
        finally:
            for layer in layers:
                del vars(layer)["inner_loop"]


# Graphs of layers


def all_layers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns a layer or model and every layer inside it: in nested models, in wrappers, and recurrent cells.

    Relies on `Layer._flatten_layers`. The public `Model.layers` stops at nested models and does not enter wrappers.
    """
    return layer._flatten_layers()


def layer_with(layer: keras.layers.Layer, **attributes: Any) -> keras.layers.Layer:
    """Returns a layer that shares everything with `layer`, weights too, but has some other attributes.

    Relies on a layer being its `__dict__`, and on layers of Keras reading public attributes such as `padding` or `return_state`
    when they are called. The public `from_config` makes a layer with weights of its own.
    """
    other = object.__new__(type(layer))
    vars(other).update(vars(layer))
    vars(other).update(attributes)
    return other


class SymbolicCall(NamedTuple):
    """A call that is part of the graph of a Functional model.

    Attributes:
        operation: the layer, or the operation of `keras.ops`.
        args: the positional arguments, with symbolic tensors in them.
        kwargs: the named arguments, likewise.
        outputs: the symbolic tensors that it returned, flat.
    """

    operation: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: Sequence[keras.KerasTensor]

    @property
    def inputs(self) -> list[keras.KerasTensor]:
        """The symbolic tensors among the arguments."""
        arguments = tree.flatten((self.args, self.kwargs))
        return [argument for argument in arguments if isinstance(argument, keras.KerasTensor)]


def call_that_made(tensor: keras.KerasTensor) -> SymbolicCall:
    """Returns the call whose output is a symbolic tensor.

    Relies on `KerasTensor._keras_history`, the operation and the number of its node, and on `Operation._inbound_nodes`.
    The public `Layer.input` does not tell the calls of a shared layer apart, such as tied embeddings.
    """
    history = tensor._keras_history
    return _call_of(history.operation._inbound_nodes[history.node_index])


def calls_in_order(model: keras.Model) -> list[SymbolicCall]:
    """Returns the calls in the graph of a Sequential or Functional model, each after those whose outputs it takes.

    Relies on `Function._nodes_by_depth`, the nodes of a graph by the distance from its outputs, and on the `is_input` of
    a node. The public `keras.Function` can only run a graph whole, and `keras.models.clone_model` refuses the additional
    inputs of a one-step model, because they are not inputs of the model it clones.
    """
    nodes_by_depth = keras.Function(model.inputs, model.outputs)._nodes_by_depth
    # An input of a nested model may be an output of another call: that call is outside of the graph.
    given = {id(tensor) for tensor in model.inputs}
    nodes = [node for depth in sorted(nodes_by_depth, reverse=True) for node in nodes_by_depth[depth]]
    return [_call_of(node) for node in nodes if not node.is_input and not given.issuperset(map(id, node.outputs))]


def _call_of(node: Any) -> SymbolicCall:
    """Relies on the `operation`, the `arguments` with `args` and `kwargs`, and the `outputs` of a node."""
    return SymbolicCall(node.operation, node.arguments.args, node.arguments.kwargs, node.outputs)


def mask_of(tensor: Any) -> Any:
    """Returns the mask that a Keras layer attached to a tensor, or None.

    Relies on the attribute `_keras_mask`, in which layers hand masks on. Only layers receive masks in a public way, as
    the argument `mask` of `call`.
    """
    return getattr(tensor, "_keras_mask", None)


def set_mask(tensor: Any, mask: Any) -> None:
    """Attaches a mask to a tensor, which the next layers read as if a layer had attached it.

    Relies on the attribute `_keras_mask`; see `mask_of`. Some layers, such as attention, have an argument of another name
    for each mask, so that handing on masks as arguments would need a rule for each.
    """
    tensor._keras_mask = mask


# Training


def additional_loss(model: keras.Model) -> Any:
    """Returns what regularizers and `add_loss` add to the loss of a batch, 0 if they add nothing.

    Relies on `Model._aggregate_additional_loss`, with which Keras's `compute_loss` adds up the public `Model.losses`:
    it sums each one and divides it by the number of replicas.
    """
    return sum(model._aggregate_additional_loss(one) for one in model.losses)


def call_at_clipping(
    optimizer: keras.optimizers.Optimizer, function: Callable[[Sequence[Any], Sequence[Any]], None]
) -> Callable[[], None]:
    """Makes an optimizer call `function(gradients, clipped)` at each update of the weights, also inside a graph.

    Relies on `Optimizer._clip_gradients`. Each update calls it once through the instance, so that an attribute of the
    instance replaces it, and updates the weights by what it returns. The public `apply` is also called for the partial
    gradients of `gradient_accumulation_steps`, and gets gradients that are scaled with `loss_scale_factor`. A wrapped
    optimizer would be a public way to the former, but then the model has another optimizer during `fit`: saved models and
    checkpoints of an epoch would hold the wrapper.

    Args:
        optimizer: the optimizer; of a `LossScaleOptimizer`, its `inner_optimizer`, which clips.
        function: is called with the gradients of the update, neither scaled nor clipped, and with the clipped ones.

    Returns:
        A function that undoes it.
    """
    clip = optimizer._clip_gradients

    def clip_and_call(gradients: Any) -> Any:
        clipped = clip(gradients)
        function(gradients, clipped)
        return clipped

    def undo() -> None:
        del optimizer._clip_gradients

    optimizer._clip_gradients = clip_and_call
    return undo


def set_tensorboard_step(callback: keras.callbacks.TensorBoard, step: int) -> None:
    """Sets the number of the next training step in the plots of TensorBoard.

    Relies on `TensorBoard._global_train_batch`, which `on_train_begin` sets to 0. No argument sets it for a run that
    resumes.
    """
    callback._global_train_batch = step


# Distributed training


def without_coordination_service() -> None:
    """Lets a strategy of several workers connect them without TensorFlow's coordination service.

    The service replaces the handler of SIGTERM, before it waits for the other workers, by one that does not end the
    process. Without it, a thread of the strategy checks whether the other workers are alive. Call it before the strategy
    is created.

    Relies on `MultiWorkerMirroredStrategy`, which starts the service only if the context of TensorFlow has no
    configuration of it. No public setting turns it off.
    """
    context.context().configure_coordination_service(service_type="")


def is_carried_state(variable_name: str) -> bool:
    """Returns whether a TensorFlow variable of this name holds a state that a stateful recurrent layer carries.

    Relies on `"rnn_state"`, the name that `keras.layers.RNN` gives to these variables. The public attribute `states`
    has them too, but only after they exist, and a variable cannot change its synchronization after it was created.
    """
    return variable_name.startswith("rnn_state")


def insert_base(instance: Any, base: type) -> None:
    """Makes `base` the first base class of a model or optimizer, so that its methods override those of the class.

    Relies on assignment to `__class__`, and on Keras finding the class of a saved object by module and name, which stay
    those of the original class. A subclass would be the public way, but the model may be of any class of the user.
    """
    own = type(instance)
    attributes = {"__module__": own.__module__, "__qualname__": own.__qualname__}
    instance.__class__ = type(own.__name__, (base, own), attributes)


def sum_before_clipping(optimizer: keras.optimizers.Optimizer) -> None:
    """Makes an optimizer add up the gradients of all replicas before it clips them.

    Keras clips the gradients of each replica and then adds them up, so that the result depends on their number. Nothing
    public moves the clipping. See `_SumBeforeClipping`.
    """
    if not isinstance(optimizer, _SumBeforeClipping):
        insert_base(optimizer, _SumBeforeClipping)


class _SumBeforeClipping:
    """First base class of an optimizer.

    Relies on `apply_gradients` clipping the gradients and then passing them to `_all_reduce_sum_gradients`, which adds
    up those of all replicas and is called nowhere else.
    """

    def apply_gradients(self, grads_and_vars: Any) -> Any:
        return super().apply_gradients(super()._all_reduce_sum_gradients(list(grads_and_vars)))  # type: ignore[misc]

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        return grads_and_vars


class BuildsFromOneReplica:
    """Base class of a model: `fit` builds metrics and loss from the batch of one replica, in the scope of the strategy.

    Keras 3.15 averages the batch over all workers to learn its shapes, which fails under
    `tf.distribute.MultiWorkerMirroredStrategy` (keras issue 20585).

    Relies on `fit` and `evaluate` calling `Model._maybe_symbolic_build(iterator=...)` before the first step, where an
    element of the iterator is `(epoch, step, batches)`, and on `Model._symbolic_build(data_batch)`. Both are private;
    the public `build` and `compile` do not build metrics.
    """

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        model: Any = self
        strategy: tf.distribute.Strategy = model.distribute_strategy
        if iterator is not None:
            _, _, batches = next(iter(iterator))
            data_batch = tree.map_structure(lambda part: strategy.experimental_local_results(part)[0], next(batches))
        with strategy.scope():
            model._symbolic_build(data_batch=data_batch)
