"""Files whose model was changed."""

import numpy as np
from bundles import rebundled

from keras_seq_export import LiteRTSampler
from keras_seq_export.tflite import flatbuffer
from keras_seq_export.tflite.bundle import read_bundle


def without_write(exported, path):
    """Writes a file again without the signature `write`."""
    model = flatbuffer.parse(read_bundle(exported).model)
    model.signatureDefs = [one for one in model.signatureDefs if one.signatureKey != b"write"]
    return rebundled(exported, path, model=flatbuffer.pack(model))


def with_nan_after(exported, path, character):
    """Writes a file again in which the row of a character in the table of embeddings is NaN."""
    model, token = (
        flatbuffer.parse(read_bundle(exported).model),
        LiteRTSampler(exported).vocabulary.encode(character)[0],
    )
    for graph in model.subgraphs:
        for operator in graph.operators:
            if flatbuffer.operator_name(model, operator) == "GATHER":
                table = graph.tensors[operator.inputs[0]]
                values = flatbuffer.float32_constant(model, table)
                if values is not None and values.ndim == 2:
                    values = values.copy()
                    values[token] = np.nan
                    model.buffers[table.buffer].data = np.frombuffer(values.tobytes(), np.uint8)
    return rebundled(exported, path, model=flatbuffer.pack(model))
