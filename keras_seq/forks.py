"""Notes that this process is a fork of one that had imported TensorFlow. Imports nothing but the standard library.

A fork has none of the threads of its parent. Once TensorFlow has run something in the parent, a graph waits for them
forever in the fork. If it was only imported there, it works.
"""

import os
import sys

had_tensorflow = False  # whether a process that this one was forked from had imported TensorFlow before the fork


def _note_fork() -> None:
    global had_tensorflow
    had_tensorflow = had_tensorflow or "tensorflow" in sys.modules


if hasattr(os, "register_at_fork"):  # not in Windows, which has no fork
    os.register_at_fork(after_in_child=_note_fork)
