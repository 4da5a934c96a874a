"""Text from a .tflite: LiteRT and NumPy, token by token. Imports neither TensorFlow nor Keras."""

import os
import threading
from typing import Any, Unpack

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from keras_seq.generation import Generation, Options, sample
from keras_seq.sampling import DRAWING
from keras_seq.scoring import Score, score
from keras_seq_export.bundle import BundleError, read_bundle
from keras_seq_export.signatures import DECODE, LOGITS, TOKEN


class LiteRTSampler:
    """A language model in one .tflite file; it is also a `keras_seq.reading.Step`. Threads may share one.

    Args:
        path: a file that `export_tflite` wrote.
        num_threads: threads of the runtime.

    Attributes:
        vocabulary: the vocabulary inside the file.
        config: the configuration inside the file.
        vocabulary_size: how many logits the model gives.

    Raises:
        BundleError: the file is damaged or is not of this package.
        ValueError: `num_threads` is not a positive integer.
    """

    def __init__(self, path: str | os.PathLike[str], num_threads: int = 1):
        if isinstance(num_threads, bool) or not isinstance(num_threads, int) or num_threads < 1:
            raise ValueError(f"`num_threads` must be a positive integer. Received: num_threads={num_threads!r}")
        self.vocabulary, self.config = read_bundle(path)
        self._lock = threading.Lock()
        try:
            self._interpreter = Interpreter(model_path=os.fspath(path), num_threads=num_threads)
            self._decode = self._interpreter.get_signature_runner(DECODE)
        except (ValueError, RuntimeError) as error:
            raise BundleError(f"{path} cannot be loaded: {str(error).splitlines()[0]}") from error
        inputs = self._decode.get_input_details()
        self._states = sorted((name for name in inputs if name != TOKEN), key=lambda name: int(name.rpartition("_")[2]))
        self._shapes = [tuple(inputs[name]["shape"]) for name in self._states]
        self.vocabulary_size = int(self._decode.get_output_details()[LOGITS]["shape"][-1])
        if self.vocabulary_size != len(self.vocabulary):
            raise BundleError(f"{path} gives {self.vocabulary_size} logits for {len(self.vocabulary)} tokens")

    def initial_states(self) -> list[np.ndarray]:
        """Returns the zero states, each `(1, units)` float32."""
        return [np.zeros(shape, np.float32) for shape in self._shapes]

    def __call__(self, token: int, states: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        """Returns the logits `(vocabulary,)` after `token`, and the new states."""
        inputs = dict(zip(self._states, states, strict=True))
        # One interpreter has one set of buffers: two threads at once would read each other's numbers.
        with self._lock:
            outputs = self._decode(**{TOKEN: np.array([token], np.int32)}, **inputs)
        return outputs[LOGITS][0], [outputs[name] for name in self._states]

    def generate(self, prompt: str = "", **options: Unpack[Options]) -> Generation:
        """Returns an iterator over the pieces of a continuation, without the prompt.

        Args:
            prompt: the text to go on from.
            **options: as of `keras_seq.generate`; settings not given are those stored in the file.

        Raises:
            TypeError: an option has another name; the names are given.
            ValueError: an argument is out of range, or the prompt has characters that the vocabulary lacks.
        """
        return Generation(self, self.vocabulary, prompt, **self._with_stored(options))

    def sample(self, prompt: str = "", **options: Unpack[Options]) -> Any:
        """Returns what `generate` gives, whole: a `keras_seq.generation.Text`; with `num_samples` a list of them."""
        return sample(self, self.vocabulary, prompt, **self._with_stored(options))

    def _with_stored(self, options: Options) -> dict[str, Any]:
        stored = self.config.get("sampling", {})
        if options.get("num_beams", 1) != 1:
            stored = {name: value for name, value in stored.items() if name not in DRAWING}
        return {**stored, **options}

    def score(self, text: str, by_line: bool = False) -> Score:
        """Returns the log-probability of each token of a text, in nats, as `keras_seq.score` does.

        Args:
            text: what to score.
            by_line: whether each line is a text of its own, ended by `<eos>`; `config["by_line"]` says whether the model
                learned so.
        """
        return score(self, self.vocabulary, text, by_line=by_line)
