"""What every test may use. KERAS_SEQ_NO_SKIPS=1, as `.ci/run` sets it, turns each skipped test into a failure.

Imported before the processes of pytest-xdist start, so it imports TensorFlow inside of its fixtures only.
"""

import contextlib
import fcntl
import gc
import hashlib
import io
import os
import shutil
import signal
import sys
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings

from keras_seq.cli.main import main, parse

if "PYTEST_XDIST_WORKER" in os.environ:
    # Each process of pytest-xdist has one core, on which several threads of TensorFlow only hinder each other.
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A background job of a shell, which these tests may be, ignores Ctrl-C, and the programs that they start inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
# How busy the machine is decides about no property.
settings.register_profile(
    "patient",
    settings.get_profile(settings.get_current_profile_name()),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("long", settings.get_profile("patient"))  # see tests/support/fuzzing.py
settings.load_profile("patient")


class Answer(NamedTuple):
    """What a call of the program returned and printed."""

    returncode: int
    stdout: str
    stderr: str


def run_in_process(*arguments, cwd):
    """Runs `keras-seq` with these arguments inside this process; returns an `Answer`."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(parse([str(argument) for argument in arguments]))
        except SystemExit as end:  # argparse ends the program after its own errors and after --help.
            code = end.code
    return Answer(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def run_cli():
    """`run_cli("sample", "--run=fox", cwd=folder)` runs the program without a new process."""
    return run_in_process


@pytest.fixture(scope="session", autouse=True)
def few_steps_are_compared():
    """A model's other forms are compared with it over 16 steps, which take a quarter of the time of the usual ones.

    Models that look further back are compared over more. Programs that a test starts compare all steps.
    """
    if "keras_seq.models.probe" in sys.modules:  # Otherwise no test of this session needs it.
        with pytest.MonkeyPatch.context() as changed:
            changed.setattr("keras_seq.models.probe.STEPS", 16)
            yield
    else:
        yield


@pytest.fixture
def all_steps_are_compared(monkeypatch):
    """For tests of the comparison itself."""
    monkeypatch.setattr("keras_seq.models.probe.STEPS", 64)


@pytest.fixture(scope="session", autouse=True)
def xla_compiles_without_optimizing(pytestconfig):
    """Nearly all that XLA compiles here runs once: a test of the fast path takes a sixth less time with this.

    XLA reads its flags when it compiles for the first time. The whole suite, programs that a test starts, and one test by
    itself (-n0) have the usual ones.
    """
    is_fast_suite = pytestconfig.getoption("markexpr") == "not slow" and "PYTEST_XDIST_WORKER" in os.environ
    if is_fast_suite and "keras_seq.layers.fast_path" in sys.modules:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
        with pytest.MonkeyPatch.context() as changed:
            changed.setenv("XLA_FLAGS", flags.strip())
            sys.modules["keras_seq.layers.fast_path"].is_available()


@pytest.fixture(scope="session")
def tiny_model():
    """`tiny_model(vocabulary, seed=1, **options)` returns a new `language_model` with peaked distributions."""
    import hamlet

    return hamlet.tiny_model


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """`made_once(name, make)` returns what `make(folder)` returned, a path in the folder, and calls it once in all.

    The processes of pytest-xdist share these folders: the first that needs one makes it while the others wait.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # Each process has a folder of its own in this one.

    def made(name, make):
        folder, result = shared / "made_once" / name, shared / "made_once" / f"{name}.result"
        folder.parent.mkdir(exist_ok=True)
        with open(folder.with_name(f"{name}.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not result.exists():
                shutil.rmtree(folder, ignore_errors=True)  # `make` failed in another test.
                folder.mkdir()
                result.write_text(os.path.relpath(make(folder), folder))
        return folder / result.read_text()

    return made


@pytest.fixture(scope="session")
def small_tflite(made_once):
    """`small_tflite(level="word", quantization="int8")` exports a small model once for the whole session."""
    import hamlet

    def named(kind, key, make):
        return made_once(f"{kind}-{hashlib.sha256(key.encode()).hexdigest()[:16]}", make)

    def converted(key, convert):
        def make(folder):
            (folder / "converted.tflite").write_bytes(convert())
            return folder / "converted.tflite"

        return named("converted", key, make).read_bytes()

    def path_of(**options):
        key = repr(sorted(options.items()))
        return named("exported", key, lambda folder: hamlet.export_small_tflite(folder, converted, **options))

    return path_of


@pytest.fixture(scope="session")
def small_saved_model(made_once):
    """The signatures of the `tiny_model` of `hamlet.CATS` as a SavedModel, written once for the whole session."""
    import hamlet

    from keras_seq_export.graph.step import GraphStep
    from keras_seq_export.saved_model.export import write_signatures

    def make(folder):
        step = GraphStep(hamlet.tiny_model(hamlet.CATS), hamlet.CATS)
        write_signatures(step, hamlet.CATS, folder / "1", max_length=10_000)
        return folder / "1"

    return made_once("saved_model", make)


def pytest_configure(config):
    # Keras reads TensorFlow's tensors in a way that NumPy 2 warns of, ten thousand times in these tests.
    config.addinivalue_line(
        "filterwarnings", "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
    )


def pytest_collection_finish():
    """Exempts the imported modules from garbage collection, and lets it start less often: tracing makes many objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


# The files of the whole suite that take the most time, the longest first: 40 s to 4 minutes each.
LONG_FILES = (
    *(
        "export/ios/test_kit",
        "test_faults",
        "export/web/test_package",
        "export/web/test_package_learning",
        "export/android/test_kit",
        "export/native/test_library",
    ),
    *("test_brought_models", "test_sequence_models", "layers/test_fast_path", "layers/test_fast_layers"),
    *("training/test_checkpoint", "export/native/test_native", "export/native/test_arm64", "export/web/test_page"),
    *("test_docs", "export/saved_model/test_endpoints", "layers/test_fast_path_tapes", "cli/test_demo"),
    *("distribution/test_distributed_fit", "export/tflite/test_export", "training/test_train", "cli/test_train"),
    *("export/tflite/test_old_runtime", "cli/test_workers", "cli/test_sample", "test_signals"),
    *("export/saved_model/test_export", "export/tflite/test_runtime"),
    *("export/micro/test_machines", "export/micro/test_decoder", "export/tflite/test_micro"),
)


# The tests of the kits in other languages need compilers, Node.js or browsers, so all of them are slow.
KITS = tuple(f"tests/export/{kit}/" for kit in ("android", "ios", "micro", "native", "web"))


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what is slow
def pytest_collection_modifyitems(config, items):
    """Marks the tests of the kits, and begins with the long files.

    If a long file began last, one process would run it while the other has nothing left.
    """
    order = {f"tests/{name}.py": number for number, name in enumerate(LONG_FILES)}
    files = {item: item.path.relative_to(config.rootpath).as_posix() for item in items}
    for item, file in files.items():
        if file.startswith(KITS):
            item.add_marker(pytest.mark.slow)
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: order.get(files[item], len(order)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    _fail_if_skipped(report)
    return report


def _fail_if_skipped(report):
    if report.skipped and os.environ.get("KERAS_SEQ_NO_SKIPS") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
