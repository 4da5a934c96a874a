"""The float32 step of a model as its operators, constants and states."""

from typing import NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_seq_export.errors import ExportError
from keras_seq_export.signatures import LOGITS, is_state
from keras_seq_export.tflite.flatbuffer import add_buffer, add_tensor, float32_constant, operator_name


class State(NamedTuple):
    """A state, as the tensors that it is before and after the step."""

    name: str
    before: int
    after: int


class StepGraph:
    """The first graph of a model, its signature `decode`.

    Args:
        model: the flatbuffer with float32 numbers.

    Attributes:
        model: the flatbuffer.
        graph: the graph.
        operators: its operators, each after those whose results it reads.
        states: the states in the order of their numbers; those that hold tokens are taken out (`separate_ngrams`).
        all_states: all states.
        frames: the inputs that are neither tokens nor states, by name.
        outputs: the outputs that are not states, by name.
    """

    def __init__(self, model: schema.ModelT):
        self.model, self.graph = model, model.subgraphs[0]
        self.operators: list[schema.OperatorT] = self.graph.operators
        signature = model.signatureDefs[0]
        before = {entry.name.decode(): int(entry.tensorIndex) for entry in signature.inputs}
        after = {entry.name.decode(): int(entry.tensorIndex) for entry in signature.outputs}
        names = sorted(filter(is_state, before), key=lambda name: int(name.rpartition("_")[2]))
        self.states = [State(name, before[name], after[name]) for name in names]
        self.all_states = list(self.states)
        self.inputs = before
        self.frames = {name: index for name, index in before.items() if not is_state(name) and self.is_float32(index)}
        self.outputs = {name: index for name, index in after.items() if not is_state(name)}
        self._producers = {int(output): one for one in self.operators for output in one.outputs}

    def remove_log_softmax(self) -> None:
        """Makes the numbers before a softmax the logits, where the logarithm of its probabilities is.

        Both are the same distribution: they differ by one number in each step.
        """
        for name, index in self.outputs.items():
            logarithm = self.producer(index, "LOG")
            limited = None if logarithm is None else self.producer(logarithm.inputs[0], "MAXIMUM")
            before = limited or logarithm
            softmax = None if before is None else self.producer(before.inputs[0], "SOFTMAX")
            if softmax is not None and name == LOGITS:
                removed = [one for one in (logarithm, limited, softmax) if one is not None]
                self.operators = [one for one in self.operators if one not in removed]
                self._replace_output(index, int(softmax.inputs[0]))

    def fold_biases_of_lookups(self) -> None:
        """Adds what is added to each row that a GATHER looks up to its table instead."""
        for add in [one for one in self.operators if self.name(one) == "ADD" and not self.is_relu(one)]:
            for row, bias in (add.inputs, add.inputs[::-1]):
                gather, added = self.producer(row, "GATHER"), self.constant(bias)
                if gather is None or added is None or len(self.readers(row)) > 1 or row in self.outputs.values():
                    continue
                if added.size not in (1, self.shape(row)[-1]):
                    continue
                table = self.weights(gather) + added.reshape(-1)
                buffer = add_buffer(self.model, table)
                name = self.graph.tensors[gather.inputs[0]].name
                index = add_tensor(self.graph, name, schema.TensorType.FLOAT32, table.shape, buffer)
                gather.inputs, gather.outputs = [index, gather.inputs[1]], list(add.outputs)
                self._producers[int(add.outputs[0])] = gather
                self.operators = [one for one in self.operators if one is not add]

    def replace(self, old: list[schema.OperatorT], new: list[schema.OperatorT]) -> None:
        """Puts operators in the place of the first of some others, and removes those of them whose results nothing reads.

        The first one is removed: the new operators give its results.
        """
        first, *candidates = old
        position = self.operators.index(first)
        self.operators[position : position + 1] = new
        while unread := [one for one in candidates if not self._is_read(one)]:
            candidates = [one for one in candidates if all(one is not other for other in unread)]
            self.operators = [one for one in self.operators if all(one is not other for other in unread)]
        self._producers = {int(output): one for one in self.operators for output in one.outputs}

    def _is_read(self, operator: schema.OperatorT) -> bool:
        """Returns whether an operator, or the caller, reads a result of an operator."""
        after = [*self.outputs.values(), *(state.after for state in self.states)]
        return any(self.readers(int(index)) or index in after for index in operator.outputs)

    def _replace_output(self, old: int, new: int) -> None:
        for entry in self.model.signatureDefs[0].outputs:
            if entry.tensorIndex == old:
                entry.tensorIndex = new
                self.outputs[entry.name.decode()] = new

    def name(self, operator: schema.OperatorT) -> str:
        """Returns an operator's name, such as `FULLY_CONNECTED`."""
        return operator_name(self.model, operator)

    def is_float32(self, index: int) -> bool:
        """Returns whether a tensor holds float32 numbers."""
        return bool(self.graph.tensors[index].type == schema.TensorType.FLOAT32)

    def shape(self, index: int) -> tuple[int, ...]:
        """Returns the shape of a tensor."""
        return tuple(map(int, self.graph.tensors[index].shape))

    def producer(self, index: int, *names: str) -> schema.OperatorT | None:
        """Returns the operator with one of these names that writes a tensor; None if it is written by another, or given."""
        operator = self._producers.get(int(index))
        return operator if operator is not None and self.name(operator) in names else None

    def readers(self, index: int) -> list[schema.OperatorT]:
        """Returns the operators that read a tensor."""
        return [operator for operator in self.operators if index in list(operator.inputs)]

    def constant(self, index: int) -> np.ndarray | None:
        """Returns the values of a float32 constant; None for any other tensor."""
        return float32_constant(self.model, self.graph.tensors[index])

    def weights(self, operator: schema.OperatorT) -> np.ndarray:
        """Returns the table of a GATHER or the kernel of a FULLY_CONNECTED.

        Raises:
            ExportError: it is computed by the model.
        """
        found = self.constant(operator.inputs[1 if self.name(operator) == "FULLY_CONNECTED" else 0])
        if found is None or found.ndim != 2:
            raise self.has_no_integer_form(operator)
        return found

    def bias(self, operator: schema.OperatorT) -> np.ndarray:
        """Returns the bias of a FULLY_CONNECTED, `(units,)`; zeros if it has none."""
        index = int(operator.inputs[2]) if len(operator.inputs) > 2 else -1
        found = np.zeros(len(self.weights(operator)), np.float32) if index < 0 else self.constant(index)
        if found is None:
            raise self.has_no_integer_form(operator)
        return found

    def is_relu(self, operator: schema.OperatorT) -> bool:
        """Returns whether an operator sets negative results to zero.

        Raises:
            ExportError: it does something else to its results.
        """
        kind = operator.builtinOptions.fusedActivationFunction
        if kind not in (schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU):
            raise self.has_no_integer_form(operator)
        return bool(kind)

    def place(self, index: int) -> str:
        """Returns where in the model a tensor is computed, such as `my_gru, gru_cell/Tanh`: the layer comes first."""
        name = self.graph.tensors[index].name.decode(errors="replace").partition(";")[0]
        if "/" in name:
            _, layer, *rest = name.split("/")
            # TensorFlow numbers the names of the layers of a step.
            return ", ".join(filter(None, [layer.removesuffix("_1"), "/".join(rest)]))
        # The outputs of the step have other names.
        for output, tensor in self.outputs.items():
            if tensor == index:
                return output
        producer = self._producers.get(index)
        given = [] if producer is None else [int(one) for one in producer.inputs if one >= 0]
        return next((self.place(one) for one in given if one in self._producers), name)

    def has_no_integer_form(self, operator: schema.OperatorT) -> ExportError:
        """Returns the error for an operator that integers cannot compute."""
        name = self.name(operator)
        return ExportError(
            f"{self.place(int(operator.outputs[0]))} has no form in integers (operator {name}): {_ADVICE.get(name, _WHAT_FITS)}, "
            "or export a .tflite with another {}",
            "quantization",
        )


_WHAT_FITS = (
    "use embeddings, n-grams, GRU, LSTM and SimpleRNN with tanh and sigmoid, and dense layers with tanh, sigmoid, ReLU or no "
    "activation"
)
_ADVICE = {
    "SOFTMAX": "end the model with the layer before its softmax, and compute the softmax of its outputs",
    "MEAN": "leave out LayerNormalization",
    "NOT_EQUAL": "leave out the mask (`mask_zero`, Masking)",
    "CONV_2D": "use dense and recurrent layers in place of convolutions",
    "ONE_HOT": "use an embedding in place of one-hot vectors",
    "CONCATENATION": "add values in place of concatenating them",
}
