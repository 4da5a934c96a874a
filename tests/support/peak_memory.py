"""The memory that a block of a test takes."""

import contextlib


@contextlib.contextmanager
def peak_memory():
    """Yields a function that returns how many MB the block has taken at most, beyond what the process had before."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # The peak is measured anew.
    before = _megabytes("VmRSS")
    yield lambda: _megabytes("VmHWM") - before


def _megabytes(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(name))
