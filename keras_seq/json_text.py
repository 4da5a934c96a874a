"""JSON from files that a person or another program may have changed."""

import json
from typing import Any


def parse_json(content: str | bytes) -> Any:
    """Returns the value of a JSON text.

    Raises:
        ValueError: it is not JSON, not UTF-8, or nested more deeply than Python can read. Other parsers raise a
            RecursionError for the last.

    Example:
        >>> parse_json(b'{"units": [32]}')
        {'units': [32]}
        >>> parse_json(1000 * "[")
        Traceback (most recent call last):
        ValueError: it is nested too deeply
    """
    try:
        # `json.loads` would also take UTF-16, which the readers in other languages refuse.
        return json.loads(content.decode("utf-8-sig") if isinstance(content, bytes) else content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not valid JSON ({error})") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 at byte {error.start}") from None
    except ValueError:  # Python limits the digits of an integer.
        raise ValueError("it is not usable: a number has too many digits") from None
