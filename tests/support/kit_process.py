"""A program that answers the tests of a kit in another language, for export/android and export/ios.

It reads a JSON request per line and writes a JSON answer per line. To run a signature of a model it asks the test, which
runs it in LiteRT: the program has the text, the tokens and the random numbers, and LiteRT the model.
"""

import hashlib
import json
import math
import re
import subprocess
import zlib

import numpy as np
from ai_edge_litert.interpreter import Interpreter


class KitProcess:
    """A running program.

    Attributes:
        calls: the names of the signatures that were run.
        fail: `fail(signature, calls)` says whether LiteRT fails now; None: never.
        change: `change(signature, outputs)` may change what LiteRT returned; None: nothing.
    """

    def __init__(self, command, **options):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, text=True, encoding="utf-8", **pipes, **options)
        self._runners, self.path = {}, None
        self.calls, self.fail, self.change = [], None, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        assert self._process.wait(timeout=30) == 0

    def open(self, path):
        """Opens a model in the program and in LiteRT."""
        self.load(path)
        return self.ask("open", path=str(path))

    def load(self, path):
        """Opens a model in LiteRT."""
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        self._runners = {name: interpreter.get_signature_runner(name) for name in interpreter.get_signature_list()}
        self.path, self.calls, self.fail, self.change = path, [], None, None

    def ask(self, task, **values):
        """Returns the answer to a request.

        Raises:
            ValueError: the program refuses it.
        """
        self._say({"task": task, **values})
        while not {"answer", "error"} & set(heard := self._hear()):
            self._say(self._done(heard))
        if "error" in heard:
            raise ValueError(heard["error"])
        return heard["answer"]

    def _say(self, value):
        self._process.stdin.write(json.dumps(value) + "\n")
        self._process.stdin.flush()

    def _hear(self):
        line = self._process.stdout.readline()
        assert line, "the program has ended"
        return json.loads(line)

    def _done(self, asked):
        """Returns what the program asks for: outputs of a signature, or what Apple's frameworks do elsewhere."""
        if "run" in asked:
            return self._outputs(asked["run"], asked["inputs"])
        if "sha256" in asked:
            return hashlib.sha256(bytes.fromhex(asked["sha256"])).hexdigest()
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            content = stream.decompress(bytes.fromhex(asked["inflate"]), asked["most"])
        except zlib.error:
            return None
        return [content.hex(), stream.eof, len(stream.unused_data) + len(stream.unconsumed_tail)]

    def _outputs(self, signature, inputs):
        """Returns the outputs of a signature as lists that begin with their dtype; None if LiteRT fails."""
        self.calls.append(signature)
        if self.fail and self.fail(signature, self.calls):
            return None
        runner = self._runners[signature]
        details = runner.get_input_details()
        assert set(inputs) == set(details)
        given = {
            name: np.array(values, details[name]["dtype"]).reshape(details[name]["shape"])
            for name, values in inputs.items()
        }
        try:
            outputs = runner(**given)
        except RuntimeError:
            return None
        if self.change:
            self.change(signature, outputs)
        return {name: [array.dtype.name, *map(_json, array.ravel().tolist())] for name, array in outputs.items()}


def _json(number):
    """Returns a number; the name of one that JSON does not have."""
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def write_code_blocks(page, beginning, folder, ending):
    """Writes the code blocks of a page that begin with some words as files; returns their paths."""
    blocks = re.findall(f"```[a-z]+\n({re.escape(beginning)}.*?)```", page.read_text(), re.S)
    assert blocks
    files = [folder / f"App{number}{ending}" for number in range(len(blocks))]
    for file, block in zip(files, blocks, strict=True):
        file.write_text(block)
    return files
