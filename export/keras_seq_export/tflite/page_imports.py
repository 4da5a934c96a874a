"""Replaces the names of npm packages in the imports of a script: workers have no import map that would do it."""

import posixpath
import re

from keras_seq_export.errors import ExportError

# Up to the string with a name: `import .. from`, `export .. from`, `import`, `import(` and `import.meta.resolve(`.
_NAME = re.compile(
    r"""(\b(?:import|export)\b[^;"'`()]*?\bfrom\s*|\bimport\s*\(?\s*|\bimport\.meta\.resolve\(\s*)(["'])([^"'\n]+)\2"""
)
_PATH = ("./", "../", "/")
_CHANGED = "\n// Changed by keras_seq: imports name addresses instead of packages.\n"  # The Apache License requires it.


def with_addresses(script: str, address: str, packages: dict[str, str]) -> str:
    """Returns a script whose imports name addresses, relative to its own, instead of packages.

    A name must be in single or double quotes, directly after `from`, `import`, `import(` or `import.meta.resolve(`. Nothing
    else of the script is understood: what looks like an import counts in comments and strings too, and the name of one of
    the packages may be in quotes at no other place.

    Args:
        script: the source text of a module.
        address: its own address, relative to that of the page.
        packages: the addresses of the packages' modules.

    Raises:
        ExportError: the script imports another package, or names one of the packages in a way that is not read.

    Example:
        >>> with_addresses('import { a } from "b";', "page/app.js", {"b": "modules/b.js"}).splitlines()[0]
        'import { a } from "../modules/b.js";'
    """

    def replaced(match: re.Match[str]) -> str:
        before, quote, name = match.groups()
        if name.startswith(_PATH):
            return match[0]
        if name not in packages:
            raise ExportError(
                f'{address} imports "{name}", which a browser cannot find. Import a path that begins with ./ or ../, or one of '
                f"the packages {', '.join(packages)}"
            )
        path = posixpath.relpath(packages[name], posixpath.dirname(address) or ".")
        return f"{before}{quote}{path if path.startswith(_PATH) else f'./{path}'}{quote}"

    changed = _NAME.sub(replaced, script)
    for name in packages:
        if re.search(rf"[\"'`]{re.escape(name)}[\"'`/]", changed):
            raise ExportError(
                f"{address} has {name} in quotes where no import is read. Name a package in single or double quotes directly "
                "after `from`, `import`, `import(` or `import.meta.resolve(`, without a comment between them"
            )
    return changed if changed == script else changed + _CHANGED
