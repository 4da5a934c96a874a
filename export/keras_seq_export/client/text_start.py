"""What the signature `start` returns: all that a client has to know of a model of text."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from keras_seq.data.vocabulary import Vocabulary
from keras_seq_export.client.answers import Output, checked, require_range
from keras_seq_export.client.encoder import Encoder
from keras_seq_export.signatures import ENCODER, MAX_TOKENS, MODEL_ID, VOCABULARY_BYTES, is_state, state_name
from keras_seq_export.vocabulary_limits import MOST_TOKENS


class TextStart(NamedTuple):
    """What a text starts with.

    Attributes:
        vocabulary: the vocabulary of the model.
        max_tokens: the default length of a text.
        encoder: what `encode` takes; None without an encoder.
        states: the initial states by name, each `(1, units)` float32; none with an encoder.
        model_id: hash of the model; None for exports of earlier versions, which did not have it.
    """

    vocabulary: Vocabulary
    max_tokens: int
    encoder: Encoder | None
    states: dict[str, np.ndarray]
    model_id: bytes | None

    @classmethod
    def of(cls, answer: Mapping[str, np.ndarray]) -> "TextStart":
        """Returns what an answer of `start` for one row says.

        Raises:
            ValueError: it is not the answer of an export.
        """
        count = 0 if ENCODER in answer else sum(map(is_state, answer))
        one = Output("string", (1,))
        outputs = {VOCABULARY_BYTES: one, MAX_TOKENS: Output("int32", (1,))}
        outputs |= {name: one for name in (ENCODER, MODEL_ID) if name in answer}
        outputs |= {state_name(index): Output("float32", (1, None)) for index in range(count)}
        found = checked(answer, outputs)
        require_range(MAX_TOKENS, found[MAX_TOKENS], 1, 2**31 - 1)
        content = found[VOCABULARY_BYTES][0]
        if (tokens := content.count(b"\n")) > MOST_TOKENS:  # Counted before they become objects.
            raise ValueError(f"a vocabulary must have at most {MOST_TOKENS:,} tokens. Received: {tokens:,}")
        vocabulary = Vocabulary.from_bytes(content)
        vocabulary.require_reserved()
        return cls(
            vocabulary,
            int(found[MAX_TOKENS][0]),
            Encoder(found[ENCODER][0]) if ENCODER in found else None,
            {state_name(index): found[state_name(index)] for index in range(count)},
            found[MODEL_ID][0] if MODEL_ID in found else None,
        )
