"""What the site shows of docstrings, as an extension of Griffe."""

import griffe

# Griffe knows these sections by other names.
_SECTIONS = {"Example:": "Examples:", "Call arguments:": "Other Parameters: Call arguments"}


class Sections(griffe.Extension):
    """Gives sections the names by which Griffe parses them."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Renames the sections of an object's docstring."""
        if obj.docstring is not None:
            lines = obj.docstring.value.split("\n")
            obj.docstring.value = "\n".join(_SECTIONS.get(line, line) for line in lines)
