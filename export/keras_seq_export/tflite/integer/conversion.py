"""Writing a step in integers: 8-bit weights, 16-bit activations, and no operator whose result depends on a runtime's rounding.

Runtimes round in different ways: once or twice, half away from zero or upwards. Here nearly no result depends on that:

* A dense layer reads multiples of 4 and adds biases that are 2 more than a multiple of 4. The ratio of its scales is 2^-k
  with k >= 3. So no sum is half-way between two results, whether it is rounded in one step or in two.
* ADD and SUB have equal scales: nothing is rounded.
* QUANTIZE multiplies by an integer.
* MUL has a ratio of 2^-k; LiteRT and TensorFlow Lite for Microcontrollers round it alike.
* LOGISTIC and TANH read a table of integers in both.
"""

from typing import NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_seq_export.errors import ExportError
from keras_seq_export.signatures import is_state
from keras_seq_export.tflite.flatbuffer import float32_constant, pack, parse
from keras_seq_export.tflite.integer.graph import StepGraph
from keras_seq_export.tflite.integer.hashes import write_hashes
from keras_seq_export.tflite.integer.new_model import INT8, INT16, INT32, NewModel
from keras_seq_export.tflite.integer.ngrams import Ngrams, separate_ngrams
from keras_seq_export.tflite.integer.ranges import Ranges, ranges_of
from keras_seq_export.tflite.integer.scales import GATE_SCALE, HIGHEST, HIGHEST_INPUT, Scales, scales_of
from keras_seq_export.tflite.integer.weights import biases, weights_of_factor

_SCALE_OF_ONE = 2.0**-14  # of a constant 16384, which is 1


def integer_model(content: bytes, frame_range: float = 1.0) -> bytes:
    """Returns a .tflite whose signature `decode` computes in integers.

    Args:
        content: a .tflite in float32 with the signature `decode` of one row, and perhaps `start`.
        frame_range: the largest absolute value of a number in a frame; larger ones are cut off. For models that read frames.

    Returns:
        The .tflite. Tokens are int32, all other numbers that it takes and gives int16, each tensor with one scale. Hashes of
        n-grams are int32 numbers within the step.

    Raises:
        ExportError: an operator has no form in integers, a state is not bounded, or numbers are too large.
    """
    graph = StepGraph(parse(content))
    graph.remove_log_softmax()
    ngrams = separate_ngrams(graph)
    graph.fold_biases_of_lookups()
    ranges = ranges_of(graph, frame_range)
    writer = _Writer(graph, ranges, scales_of(graph, ranges), ngrams)
    for operator in graph.operators:
        writer.write(operator)
    return pack(writer.finish())


class _Part(NamedTuple):
    """Some of the results of a GATHER or FULLY_CONNECTED, all at first. They are written when something reads them."""

    operator: schema.OperatorT
    units: slice


class _Writer:
    """Writes the operators of a step in integers into a new model."""

    def __init__(self, graph: StepGraph, ranges: Ranges, scales: Scales, ngrams: list[Ngrams]):
        self._step, self._scales = graph, scales
        self._limits = {state.name: ranges.of[state.before].largest for state in graph.states}
        self._new = NewModel(graph.model.version)
        self._tensors: dict[int, int] = {}  # by the tensor of the float32 step
        self._inputs: dict[int, int] = {}  # what dense layers read, likewise
        self._parts: dict[int, _Part] = {}  # that are not written yet, by the tensor of the float32 step
        for one in ngrams:
            scales.of.update(dict.fromkeys((one.state.before, one.state.after), 1.0))
            self._limits[one.state.name] = float(one.largest_token)
        for index in graph.inputs.values():
            self._tensor(index)
        for one in ngrams:
            given = (self._tensor(index) for index in (one.token, one.state.before, one.state.after))
            self._tensors.update(zip(one.indices, write_hashes(self._new, one, *given), strict=True))

    # ---- tensors ----

    def _tensor(self, index: int) -> int:
        """Returns the tensor that holds the numbers of one of the float32 step."""
        if index not in self._tensors:
            like = self._step.graph.tensors[index]
            is_number = self._step.is_float32(index)
            kind, scale = (INT16, self._scales.of[index]) if is_number else (int(like.type), None)
            self._tensors[index] = self._new.tensor(self._step.place(index), kind, like.shape, scale)
        return self._tensors[index]

    # ---- operators ----

    def write(self, operator: schema.OperatorT) -> None:
        """Writes one operator of the float32 step.

        Look-ups and products, whose results are the largest, are written in parts just before something reads them: TensorFlow
        Lite for Microcontrollers then needs less memory.
        """
        name = self._step.name(operator)
        if name in ("GATHER", "FULLY_CONNECTED"):
            self._parts[int(operator.outputs[0])] = _Part(operator, slice(None))
            return
        if name == "SPLIT" and self._is_read_once(int(operator.inputs[1])):
            self._split(operator)
            return
        for index in map(int, operator.inputs):
            self._write_part(index)
        if name in ("LOGISTIC", "TANH"):
            self._write_activation(name, operator)
        elif name == "MUL":
            self._write_multiplication(operator)
        elif name in ("ADD", "SUB"):
            output = self._tensor(int(operator.outputs[0]))
            operands = [self._operand(int(index), self._new.scale(output)) for index in operator.inputs]
            options = schema.AddOptionsT() if name == "ADD" else schema.SubOptionsT()
            options.potScaleInt16 = False
            options.fusedActivationFunction = operator.builtinOptions.fusedActivationFunction
            self._new.add(name, operands, [output], options)
        else:
            inputs = [self._kept(int(index)) for index in operator.inputs]
            self._new.add(
                name, inputs, [self._tensor(int(index)) for index in operator.outputs], operator.builtinOptions
            )

    def _kept(self, index: int) -> int:
        """Returns an input of an operator that moves numbers: a tensor, or a constant such as an axis."""
        data = self._step.model.buffers[self._step.graph.tensors[index].buffer].data
        if data is None:
            return self._tensor(index)
        tensor = self._step.graph.tensors[index]
        return self._new.constant("shape", INT32, np.asarray(data, np.uint8).view(np.int32).reshape(tensor.shape))

    def _operand(self, index: int, scale: float) -> int:
        """Returns a summand in the scale of the sum."""
        constant = self._step.constant(index)
        if constant is None:
            return self._in_scale(self._tensor(index), scale)
        rounded = np.rint(constant.astype(np.float64) / scale)
        if np.abs(rounded).max() > HIGHEST + 1:  # 1 is 32768 in the scale of gates.
            raise ExportError(
                f"{self._step.place(index)} is too large for 16 bits; export a .tflite with another {{}}",
                "quantization",
            )
        return self._new.constant(self._step.place(index), INT16, np.clip(rounded, -HIGHEST, HIGHEST), scale)

    def _in_scale(self, tensor: int, scale: float, output: int | None = None) -> int:
        """Returns a tensor whose scale is a power of two in another such scale, rounded; `output` if it is given."""
        if self._new.scale(tensor) == scale:
            return tensor
        if output is None:
            output = self._new.tensor("rounded", INT16, self._new.graph.tensors[tensor].shape, scale)
        one = self._new.constant("one", INT16, np.array([1 / _SCALE_OF_ONE]), _SCALE_OF_ONE)
        self._new.add("MUL", [tensor, one], [output], schema.MulOptionsT())
        return output

    def _is_read_once(self, index: int) -> bool:
        """Returns whether a tensor is not written yet and read by one operator only."""
        return index in self._parts and len(self._step.readers(index)) == 1 and index not in self._step.outputs.values()

    def _split(self, split: schema.OperatorT) -> None:
        operator = self._parts.pop(int(split.inputs[1])).operator
        start = 0
        for output in map(int, split.outputs):
            end = start + self._step.shape(output)[-1]
            self._parts[output] = _Part(operator, slice(start, end))
            start = end

    def _write_part(self, index: int) -> None:
        """Writes what gives a tensor, if it is not written yet."""
        if index in self._parts:
            operator, units = self._parts.pop(index)
            write = self._write_lookup if self._step.name(operator) == "GATHER" else self._write_product
            write(index, operator, units)

    def _write_lookup(self, index: int, gather: schema.OperatorT, columns: slice) -> None:
        row = self._tensor(index)
        if index in self._scales.embeddings:
            weights, factor = self._scales.lookups[index]
        else:  # Each part of a table has a scale of its own.
            weights, factor = weights_of_factor(self._step.weights(gather)[:, columns], self._new.scale(row))
        scale = factor * self._new.scale(row)
        table = self._new.constant(self._step.place(index), INT8, weights.values, scale)
        stored = self._new.tensor("row", INT8, self._step.shape(index), scale)
        self._new.add("GATHER", [table, self._tensor(int(gather.inputs[1]))], [stored], gather.builtinOptions)
        self._new.add("QUANTIZE", [stored], [row], schema.QuantizeOptionsT())

    def _write_product(self, output: int, operator: schema.OperatorT, rows: slice) -> None:
        given = int(operator.inputs[0])
        values, scale = self._scales.kernels[int(operator.outputs[0])]
        values = values[rows]
        name, products = self._step.place(output), scale * self._scales.of_input(given)
        bias = biases(self._step.bias(operator)[rows], products)
        shift = np.log2(self._scales.of[output] / products)
        if shift < 3 or shift != np.rint(shift):
            raise ExportError(
                f"the sums of {name} are too small for 16 bits; export a .tflite with another {{}}", "quantization"
            )
        sums = np.abs(values.astype(np.int64)).sum(axis=1) * (HIGHEST + 1) + np.abs(bias)
        largest = sums.max() + 2.0 ** (shift - 1)  # half of what is shifted out is added, to round
        if largest >= 2**31:
            raise ExportError(
                f"the sums of {name} may leave 32 bits ({largest:.3g}): train with fewer units or smaller weights, or "
                "export a .tflite with another {}",
                "quantization",
            )
        options = schema.FullyConnectedOptionsT()
        options.keepNumDims, options.quantizedBiasType = operator.builtinOptions.keepNumDims, INT32
        options.fusedActivationFunction = operator.builtinOptions.fusedActivationFunction
        self._write_part(given)
        inputs = [
            self._input(given),
            self._new.constant(name, INT8, values, scale),
            self._new.constant(name, INT32, bias, products),
        ]
        self._new.add("FULLY_CONNECTED", inputs, [self._tensor(output)], options)

    def _input(self, index: int) -> int:
        """Returns what a dense layer reads: multiples of 4 below 2^15."""
        if index in self._scales.embeddings:
            return self._tensor(index)
        if index not in self._inputs:
            given, scale, shape = self._tensor(index), self._scales.of[index], self._step.shape(index)
            bounded = self._new.tensor("bounded", INT16, shape, scale)
            # 8192 would be cut off to 32767, which is no multiple of 4.
            highest = self._new.constant("highest", INT16, np.array([HIGHEST_INPUT]), scale)
            self._new.add("MINIMUM", [given, highest], [bounded], schema.MaximumMinimumOptionsT())
            self._inputs[index] = self._new.tensor("input", INT16, shape, scale / 4)
            self._new.add("QUANTIZE", [bounded], [self._inputs[index]], schema.QuantizeOptionsT())
        return self._inputs[index]

    def _write_activation(self, name: str, operator: schema.OperatorT) -> None:
        given, output = self._tensor(int(operator.inputs[0])), self._tensor(int(operator.outputs[0]))
        if self._new.scale(output) == GATE_SCALE:
            self._new.add(name, [given], [output])
            return
        result = self._new.tensor(name.lower(), INT16, self._step.shape(int(operator.outputs[0])), GATE_SCALE)
        self._new.add(name, [given], [result])
        self._in_scale(result, self._new.scale(output), output)

    def _write_multiplication(self, operator: schema.OperatorT) -> None:
        if operator.builtinOptions.fusedActivationFunction:
            raise self._step.has_no_integer_form(operator)
        output = self._tensor(int(operator.outputs[0]))
        factors = []
        for index in map(int, operator.inputs):
            constant = self._step.constant(index)
            if constant is None:
                factors.append(self._tensor(index))
            else:
                largest = max(float(np.abs(constant).max()), 2.0**-15)
                scale = float(2.0 ** np.ceil(np.log2(largest / HIGHEST)))
                factors.append(self._operand(index, scale))
        self._new.add("MUL", factors, [output], schema.MulOptionsT())

    # ---- the whole model ----

    def finish(self) -> schema.ModelT:
        """Returns the model, with its signatures."""
        for index in list(self._parts):  # outputs of the step
            self._write_part(index)
        # TensorFlow Lite for Microcontrollers knows inputs and outputs by their position: states come last, in their order.
        states = self._step.all_states
        others = [name for name in self._step.inputs if not is_state(name)]
        self._new.graph.inputs = [self._tensors[self._step.inputs[name]] for name in others]
        self._new.graph.inputs += [self._tensors[state.before] for state in states]
        self._new.graph.outputs = [self._tensors[index] for index in self._step.outputs.values()]
        self._new.graph.outputs += [self._tensors[state.after] for state in states]
        decode = self._step.model.signatureDefs[0]
        self._new.model.signatureDefs = [_signature(decode, self._tensors)]
        for start in self._step.model.signatureDefs[1:]:
            self._write_start(start)
        return self._new.model

    def _write_start(self, start: schema.SignatureDefT) -> None:
        """Writes the signature that returns the initial states, which are constants."""
        given = self._step.model.subgraphs[start.subgraphIndex]
        scales = {state.name: self._scales.of[state.before] for state in self._step.all_states}
        self._new.begin_graph(start.signatureKey)
        found = {}
        for entry in start.outputs:
            values = float32_constant(self._step.model, given.tensors[entry.tensorIndex])
            name = entry.name.decode()
            if values is None:
                raise ExportError(
                    f"the initial values of {name} must be constants; export a .tflite with another {{}}",
                    "quantization",
                )
            if np.abs(values).max() > self._limits[name]:
                raise ExportError(
                    f"the initial values of {name} must be between -{self._limits[name]:g} and {self._limits[name]:g}; "
                    "export a .tflite with another {}",
                    "quantization",
                )
            integers = np.minimum(np.rint(values / scales[name]), HIGHEST)
            found[int(entry.tensorIndex)] = self._new.constant(name, INT16, integers, scales[name])
        self._new.graph.outputs = [found[int(index)] for index in given.outputs]
        self._new.model.signatureDefs.append(_signature(start, found, len(self._new.model.subgraphs) - 1))


def _signature(like: schema.SignatureDefT, tensors: dict[int, int], subgraph: int = 0) -> schema.SignatureDefT:
    """Returns a signature with the same names, of other tensors."""
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = like.signatureKey, subgraph
    signature.inputs, signature.outputs = [], []
    for entries, found in ((like.inputs, signature.inputs), (like.outputs, signature.outputs)):
        for entry in entries:
            tensor = schema.TensorMapT()
            tensor.name, tensor.tensorIndex = entry.name, tensors[int(entry.tensorIndex)]
            found.append(tensor)
    return signature
