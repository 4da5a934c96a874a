"""Runs a module of tests/support in Node: JSON in, JSON out."""

import json
import subprocess

import paths
from devices import need_program


def in_node_with(script, task, given):
    """What a task of a script, such as web_page.mjs, answers."""
    need_program("node", "nodejs, version 20 or newer")
    command = ["node", paths.SUPPORT / script]
    done = subprocess.run(command, input=json.dumps([task, given]), text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
