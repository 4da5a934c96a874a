"""Learned files, packed as docs/formats.md says: an oracle of their readers and writers."""

import hashlib
import struct

import numpy as np


def learned_file(rows, columns, magic=b"KSLEARN1", sha256=bytes(32), tokens=9, shares=None, weights=None, words=b"\n"):
    """Returns the bytes of a learned file; by default, of a model whose SHA-256 is zeros."""
    shares = np.log([0.2, 0.3, 0.5]) if shares is None else shares
    weights = np.arange(rows * columns) / 8 if weights is None else weights
    content = magic + sha256 + struct.pack("<IIQ3f", rows, columns, tokens, *shares)
    content += np.asarray(weights, "<f4").tobytes() + struct.pack("<I", len(words)) + words
    return content + hashlib.sha256(content).digest()
