"""Where the tests find files."""

from pathlib import Path

SUPPORT = Path(__file__).parent
REPOSITORY = SUPPORT.parents[1]
VECTORS = SUPPORT.parent / "vectors.json"
