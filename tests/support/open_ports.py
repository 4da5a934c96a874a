"""Which ports a process has open, as Linux lists them."""

import contextlib
import os
from pathlib import Path

_LISTENING = "0A"


def children(process):
    """Returns the process ids of a process's children."""
    found = []
    for thread in Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # The thread ends meanwhile.
            found += map(int, (thread / "children").read_text().split())
    return found


def listening(process):
    """Returns the local addresses at which a process and its children listen, as Linux writes them: `0100007F:1F90`."""
    sockets = set()
    for file in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # The process closes files meanwhile.
            sockets.add(os.readlink(file))
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/{process}/net/{name}").read_text().splitlines()
    ]
    own = [row[1] for row in rows if row[3] == _LISTENING and f"socket:[{row[9]}]" in sockets]
    return own + [address for child in children(process) for address in listening(child)]
