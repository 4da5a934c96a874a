"""Writing fails here as on a disk that is full."""

import contextlib
import resource


@contextlib.contextmanager
def files_of_at_most(size):
    """Writing more bytes than this to one file fails, as on a disk that is full at that point."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
