"""`keras-seq benchmark layer`: one training pass of the GRU layer beside other libraries' layers, on this machine.

Each contender has a process of its own, because the threads of PyTorch and TensorFlow compete when both are loaded, and
because its memory can then be measured. The contenders take turns (A B C A B C ...), so that a disturbance of the machine
affects all of them alike. Compare the ratios of the medians.
"""

import importlib
import importlib.util
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from keras_seq import require
from keras_seq.errors import ArgumentError, ProcessEndedError

PRODUCT = "matrix product"
PRODUCT_SIZE = 2048
PASSES_PER_TURN = 3
OURS, KERAS, TORCH = "keras_seq.GRU", "keras.layers.GRU", "torch.nn.GRU"


class Size(NamedTuple):
    """The shape of the layer's input, `(batch, length, features)`, and its units."""

    batch: int
    length: int
    features: int
    units: int

    def __str__(self) -> str:
        """Returns the size in the form `32x64x64x128`."""
        return "x".join(map(str, self))

    @classmethod
    def parse(cls, text: str) -> "Size":
        """Parses a size in the form `32x64x64x128`.

        Raises:
            ArgumentError: `text` is not four positive integers.
        """
        parts = text.split("x")
        if len(parts) != 4 or not all(part.isdecimal() and int(part) > 0 for part in parts):
            raise ArgumentError("sizes", "of the form BATCHxLENGTHxFEATURESxUNITS, such as 32x64x64x128", text)
        return cls(*map(int, parts))

    def operations(self) -> int:
        """Returns the number of multiplications and additions in the matrix products, forward and backward.

        The forward pass has two products per step: input and memory times the kernels of all three gates. The backward pass
        has two for each of them, one for the gradient of either factor.
        """
        return 3 * 2 * self.batch * self.length * (self.features + self.units) * 3 * self.units


SIZES = tuple(map(Size.parse, ("32x64x64x128", "64x100x128x256", "64x100x256x512", "32x35x128x256", "1x1000x64x256")))


class LayerTime(NamedTuple):
    """The time and memory of one contender at one size.

    Attributes:
        size: the size, in the form `32x64x64x128`.
        contender: the layer.
        milliseconds: median time of a forward and backward pass.
        gflops: rate of the matrix products, in GFLOP/s.
        share: this rate as a share of the rate of a large matrix product on this machine.
        speedup: speed relative to `keras.layers.GRU`.
        peak_mib: largest memory of the process, less that of the imported library, in MiB; compilation is included.
            None if there is no `/proc`.
    """

    size: str
    contender: str
    milliseconds: float
    gflops: float
    share: float
    speedup: float
    peak_mib: float | None


def benchmark_layer(sizes: Iterable[Size] = SIZES, rounds: int = 15) -> Iterator[LayerTime]:
    """Times the forward and backward pass of each contender at each size.

    Args:
        sizes: the sizes.
        rounds: number of turns of each contender.

    Yields:
        A row for each size and contender.

    Raises:
        ArgumentError: `rounds` is not a positive integer.
        ProcessEndedError: the process of a contender ended.
    """
    require.positive_integer("rounds", rounds)
    contenders = [OURS, KERAS, *([TORCH] if importlib.util.find_spec("torch") else [])]
    for size in sizes:
        times, peaks = _take_turns([*contenders, PRODUCT], size, rounds)
        medians = {name: statistics.median(values) for name, values in times.items()}
        rate = 2 * PRODUCT_SIZE**3 / medians.pop(PRODUCT)
        for name, seconds in medians.items():
            yield LayerTime(
                size=str(size),
                contender=name,
                milliseconds=seconds * 1e3,
                gflops=size.operations() / seconds / 1e9,
                share=size.operations() / seconds / rate,
                speedup=medians[KERAS] / seconds,
                peak_mib=peaks[name],
            )


def table(rows: Iterable[LayerTime]) -> Iterator[str]:
    """Yields the lines of a table of the rows, each as soon as its row is there."""
    layout = "{:<33}{:<18}{:>9}{:>10}{:>9}{:>7}{:>7}"
    yield layout.format("batch x length x features x units", "", "ms", "speed-up", "GFLOP/s", "share", "MiB")
    previous = None
    for row in rows:
        yield layout.format(
            row.size if row.size != previous else "",
            row.contender,
            f"{row.milliseconds:.1f}",
            f"{row.speedup:.2f}x",
            f"{row.gflops:.0f}",
            f"{row.share:.0%}",
            "" if row.peak_mib is None else f"{row.peak_mib:.0f}",
        )
        previous = row.size


def _take_turns(
    contenders: list[str], size: Size, rounds: int
) -> tuple[dict[str, list[float]], dict[str, float | None]]:
    """Returns the seconds of each contender in each round, and its peak memory in MiB."""
    spawn = multiprocessing.get_context("spawn")
    workers, ends = [], {}
    try:
        for name in contenders:
            ends[name], end_of_worker = spawn.Pipe()
            worker = spawn.Process(target=_work, args=(name, size, end_of_worker), daemon=True)
            worker.start()
            end_of_worker.close()
            workers.append(worker)
            ends[name].recv()  # The process has warmed up.
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name in contenders:
                ends[name].send("run")
                times[name].append(ends[name].recv())
        for end in ends.values():
            end.send("stop")
        return times, {name: end.recv() for name, end in ends.items()}
    except (EOFError, ConnectionError):
        raise ProcessEndedError(f"the process of {name} ended during the benchmark") from None
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _work(contender: str, size: Size, end: Connection) -> None:
    """What the process of a contender runs.

    For each "run" that it receives, it takes a turn and sends the seconds of a pass. Then it sends its peak memory.
    """
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    library, make_pass = CONTENDERS[contender]
    importlib.import_module(library)
    imported = _mib("VmRSS")
    training_pass = make_pass(size)
    for _ in range(2):
        training_pass()
    end.send("warm")
    while end.recv() == "run":
        training_pass()  # Fills the caches again, after the turns of the others.
        start = time.perf_counter()
        for _ in range(PASSES_PER_TURN):
            training_pass()
        end.send((time.perf_counter() - start) / PASSES_PER_TURN)
    peak = _mib("VmHWM")
    end.send(None if peak is None or imported is None else peak - imported)


def _keras_seq_pass(size: Size) -> Callable[[], Any]:
    from keras_seq.layers.gru import GRU

    return _tensorflow_pass(GRU, size)


def _keras_pass(size: Size) -> Callable[[], Any]:
    import keras

    return _tensorflow_pass(keras.layers.GRU, size)


def _tensorflow_pass(layer_class: Any, size: Size) -> Callable[[], Any]:
    import tensorflow as tf

    layer = layer_class(size.units, return_sequences=True)
    layer.build((None, None, size.features))
    weights = [weight.value for weight in layer.weights]
    inputs = tf.random.normal((size.batch, size.length, size.features))
    upstream = tf.random.normal((size.batch, size.length, size.units))

    @tf.function
    def training_pass() -> Any:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, training=True)
        return tape.gradient(outputs, [inputs, *weights], output_gradients=upstream)

    return training_pass


def _torch_pass(size: Size) -> Callable[[], Any]:
    import torch

    layer = torch.nn.GRU(size.features, size.units, batch_first=True)
    inputs = torch.randn(size.batch, size.length, size.features, requires_grad=True)
    upstream = torch.randn(size.batch, size.length, size.units)

    def training_pass() -> Any:
        outputs, _ = layer(inputs)
        return torch.autograd.grad(outputs, [inputs, *layer.parameters()], grad_outputs=upstream)

    return training_pass


def _matrix_product(size: Size) -> Callable[[], Any]:
    import tensorflow as tf

    left, right = (tf.random.normal((PRODUCT_SIZE, PRODUCT_SIZE)) for _ in range(2))
    return tf.function(lambda: tf.matmul(left, right))


CONTENDERS: dict[str, tuple[str, Callable[[Size], Callable[[], Any]]]] = {
    OURS: ("keras_seq.layers.gru", _keras_seq_pass),
    KERAS: ("keras", _keras_pass),
    TORCH: ("torch", _torch_pass),
    PRODUCT: ("tensorflow", _matrix_product),
}


def _mib(entry: str) -> float | None:
    """Returns `VmRSS` (current) or `VmHWM` (peak) of this process in MiB; None if there is no `/proc`."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return int(status.split(f"{entry}:")[1].split()[0]) / 1024
