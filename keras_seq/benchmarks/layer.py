"""`keras-seq benchmark layer`: one training pass of a recurrent layer beside other libraries' layers, on this machine.

Each contender has a process of its own, because the threads of PyTorch and TensorFlow compete when both are loaded, and
because its first call and its memory can then be measured. The contenders take turns (A B C A B C ...), so that a
disturbance of the machine affects all of them alike. Compare the ratios of the medians.
"""

import importlib
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from keras_seq import require
from keras_seq.benchmarks.layer_cases import DEFAULT_CASES, Case
from keras_seq.benchmarks.layer_contenders import (
    CONTENDERS,
    KERAS,
    OURS,
    PRODUCT,
    PRODUCT_SIZE,
    Pass,
    calls_of_a_pass,
    contenders_of,
    layer_name,
)
from keras_seq.errors import ProcessEndedError

TURN_SECONDS = 0.1
MOST_PASSES_PER_TURN = 20


class LayerTime(NamedTuple):
    """The time and memory of one contender in one case.

    Attributes:
        size: the size, in the form `32x64x64x128`.
        case: what distinguishes the case from others of its size; empty for a layer with the default arguments.
        contender: the layer.
        milliseconds: median time of a forward and backward pass, or of the forward pass in a case of inference.
        first_seconds: time of the first call: tracing, compilation and one pass.
        gflops: rate of the matrix products, in GFLOP/s.
        share: this rate as a share of the rate of a large float32 matrix product on this machine.
        speedup: speed relative to the layer of Keras.
        peak_mib: largest memory of the process, less that of the imported library, in MiB; compilation is included.
            None if there is no `/proc`.
    """

    size: str
    case: str
    contender: str
    milliseconds: float
    first_seconds: float
    gflops: float
    share: float
    speedup: float
    peak_mib: float | None


class _Turns(NamedTuple):
    """What the process of a contender measured.

    Attributes:
        first_seconds: the seconds of the first pass.
        seconds: the seconds of a pass in each round.
        peak_mib: its peak memory in MiB.
    """

    first_seconds: float
    seconds: list[float]
    peak_mib: float | None


def benchmark_layer(cases: Iterable[Case] = DEFAULT_CASES, rounds: int = 15) -> Iterator[LayerTime]:
    """Times each contender that supports a case, in each case.

    Args:
        cases: the cases.
        rounds: number of turns of each contender.

    Yields:
        A row for each case and contender.

    Raises:
        ArgumentError: `rounds` is not a positive integer.
        ProcessEndedError: the process of a contender ended.
    """
    require.positive_integer("rounds", rounds)
    for case in cases:
        turns = _take_turns([*contenders_of(case), PRODUCT], case, rounds)
        medians = {name: statistics.median(measured.seconds) for name, measured in turns.items()}
        rate = 2 * PRODUCT_SIZE**3 / medians.pop(PRODUCT)
        for name, pass_seconds in medians.items():
            seconds = pass_seconds / calls_of_a_pass(case)
            operations = case.operations()
            if name == OURS and not case.arguments.get("reset_gate", True):
                operations = operations * 2 // 3
            yield LayerTime(
                size=str(case.size),
                case=case.name,
                contender=layer_name(name, case),
                milliseconds=seconds * 1e3,
                first_seconds=turns[name].first_seconds,
                gflops=operations / seconds / 1e9,
                share=operations / seconds / rate,
                speedup=medians[KERAS] / pass_seconds,
                peak_mib=turns[name].peak_mib,
            )


def table(rows: Iterable[LayerTime]) -> Iterator[str]:
    """Yields the lines of a table of the rows, each as soon as its row is there."""
    layout = "{:<46}{:<17}{:>8}{:>10}{:>9}{:>9}{:>7}{:>6}"
    yield layout.format("batch x length x features x units", "", "ms", "speed-up", "first s", "GFLOP/s", "share", "MiB")
    previous = None
    for row in rows:
        case = f"{row.size} {row.case}"
        yield layout.format(
            case if case != previous else "",
            row.contender,
            f"{row.milliseconds:.1f}",
            f"{row.speedup:.2f}x",
            f"{row.first_seconds:.2f}",
            f"{row.gflops:.0f}",
            f"{row.share:.0%}",
            "" if row.peak_mib is None else f"{row.peak_mib:.0f}",
        )
        previous = case


def _take_turns(contenders: list[str], case: Case, rounds: int) -> dict[str, _Turns]:
    """Returns what the process of each contender measures, the contenders taking turns."""
    spawn = multiprocessing.get_context("spawn")
    workers, ends = [], {}
    first_seconds, seconds = {}, {name: list[float]() for name in contenders}
    try:
        for name in contenders:
            ends[name], end_of_worker = spawn.Pipe()
            worker = spawn.Process(target=_work, args=(name, case, end_of_worker), daemon=True)
            worker.start()
            end_of_worker.close()
            workers.append(worker)
        for name in contenders:
            ends[name].recv()
        for name in contenders:  # One after the other, so that each compiles alone.
            ends[name].send("warm up")
            first_seconds[name] = ends[name].recv()
        for _ in range(rounds):
            for name in contenders:
                ends[name].send("run")
                seconds[name].append(ends[name].recv())
        for end in ends.values():
            end.send("stop")
        return {name: _Turns(first_seconds[name], seconds[name], end.recv()) for name, end in ends.items()}
    except (EOFError, ConnectionError):
        where = f"{case.size} {case.name}".strip()
        raise ProcessEndedError(f"the process of {name} ended during the benchmark, at {where}") from None
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _work(contender: str, case: Case, end: Connection) -> None:
    """What the process of a contender runs.

    It reports that the library is loaded. When it receives "warm up", it sends the seconds of the first pass. For each "run",
    it takes a turn and sends the seconds of a pass. Then it sends its peak memory.
    """
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    importlib.import_module(CONTENDERS[contender].library)
    imported = _mib("VmRSS")
    end.send("loaded")
    end.recv()
    run_pass = CONTENDERS[contender].make_pass(case)
    first_seconds, _, warm_seconds = [_seconds(run_pass) for _ in range(3)]
    passes = max(1, min(MOST_PASSES_PER_TURN, round(TURN_SECONDS / warm_seconds)))
    end.send(first_seconds)
    while end.recv() == "run":
        run_pass()  # Fills the caches again, after the turns of the others.
        end.send(_seconds(run_pass, passes))
    peak = _mib("VmHWM")
    end.send(None if peak is None or imported is None else peak - imported)


def _seconds(run_pass: Pass, passes: int = 1) -> float:
    """Runs some passes and returns the mean seconds of one."""
    start = time.perf_counter()
    for _ in range(passes):
        run_pass()
    return (time.perf_counter() - start) / passes


def _mib(entry: str) -> float | None:
    """Returns `VmRSS` (current) or `VmHWM` (peak) of this process in MiB; None if there is no `/proc`."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return int(status.split(f"{entry}:")[1].split()[0]) / 1024
