"""Packages of the npm registry for tests."""

import subprocess

from devices import need, need_program


def npm_install(folder, *packages):
    """Installs packages, and those of a package.json that is there; returns the folder `node_modules`."""
    need_program("npm", "npm")
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--fetch-retries=5", *packages]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    need(done.returncode == 0, f"needs the npm registry: {done.stderr[-300:]}")
    return folder / "node_modules"
