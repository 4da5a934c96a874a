"""Ends the program with one sentence if LiteRT does not return, as it may not from a damaged or forged .tflite.

Python cannot interrupt native code, so the process has to end. Another process for the model would make each token
slower, and would need memory for a second Python. This costs two additions per call. A model that works takes less than
a second per call, of one token or of 64 tokens of the prompt.
"""

import os
import sys
import threading
import time
import weakref
from typing import Any, NoReturn

SECONDS = 120  # for loading a file, and for each call of LiteRT; not for a whole text
_LOOKS = 10  # in this time. They are counted, so that the time of a stopped process (Ctrl-Z) does not count.


def watched_sampler(path: str) -> Any:
    """Returns a `LiteRTSampler`; ends the process if loading the file, or one call of LiteRT, takes `SECONDS`.

    Raises:
        BundleError: the file is damaged, was not written by this package, or is not a model of text.
    """
    from keras_seq_export.tflite.runtime import LiteRTSampler

    loading = threading.Timer(SECONDS, _end, [path])
    loading.daemon = True
    loading.start()
    try:
        sampler = LiteRTSampler(path)
    finally:
        loading.cancel()
    threading.Thread(target=_watch, args=(path, weakref.ref(sampler.decoder)), daemon=True).start()
    return sampler


def _watch(path: str, decoder_or_none: Any) -> None:
    """Looks whether the same call is still running, until the decoder is no longer used."""
    last, looks = 0, 0
    while (decoder := decoder_or_none()) is not None:
        calls = decoder.calls
        del decoder
        is_running = calls % 2 == 1
        looks = looks + 1 if is_running and calls == last else 0
        if looks >= _LOOKS:
            _end(path)
        last = calls
        time.sleep(SECONDS / _LOOKS)


def _end(path: str) -> NoReturn:
    print(
        f"\nkeras-seq: {path} did not return from one call within {SECONDS} seconds: it is damaged or forged; "
        "keras-seq inspect shows what is in it without running it",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)
