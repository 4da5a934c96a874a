"""`keras-seq web`: opens a .tflite in a page of the browser, or writes the page into a folder."""

import argparse
import shlex
import threading
import webbrowser
from typing import Any

from keras_seq.cli.options import add_command, given_options
from keras_seq.errors import ConfigError


def add_parser(commands: Any) -> None:
    """Adds `keras-seq web` to the commands."""
    parser = add_command(commands, "web", "open a .tflite in a page of your browser, served to this machine only")
    page = parser.add_argument_group("page")
    page.add_argument("--model", metavar="FILE.tflite", help="the file (default: the page's own model)")
    page.add_argument(
        "--demo", metavar="DIR", help="directory of keras-seq demo: compare its models (default: not compared)"
    )
    page.add_argument("--port", type=int, help="port of the page (default: 8599)")
    page.add_argument("--no_open", action="store_true", help="print the address only (default: open it in the browser)")
    page.add_argument(
        "--output", metavar="DIR", help="write the page into a new folder, for any web server (default: serve it)"
    )
    parser.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> None:
    """Serves the page until Ctrl-C or SIGTERM, or writes it into a folder."""
    if arguments.output is None:
        _serve(arguments)
    else:
        _write(arguments)


def _serve(arguments: argparse.Namespace) -> None:
    from keras_seq_export.tflite.page_server import page_server

    server, address = page_server(arguments.model, **given_options(arguments, "port", "demo"))
    with server:
        try:
            comparison = f"{address}compare.html (the comparison)\n" if arguments.demo else ""
            print(f"{address} (Ctrl-C ends it)\n{comparison}{_for_phones(address)}", flush=True)
            if not arguments.no_open:  # A browser in the terminal keeps its caller until it ends.
                threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
            server.serve_forever()
        except KeyboardInterrupt:
            print()


def _for_phones(address: str) -> str:
    """Returns how to open the page on a phone."""
    port = address.split("/")[2].partition(":")[2]
    return (
        f"On an Android phone with USB debugging: adb reverse tcp:{port} tcp:{port}, then open there\n"
        f"  {address.replace('127.0.0.1', 'localhost', 1)}\n"
        "On any phone: keras-seq web --output=DIR writes the page as a folder for any host with https."
    )


def _write(arguments: argparse.Namespace) -> None:
    from keras_seq_export.tflite.page_output import page_output

    for name, is_given in (("port", arguments.port is not None), ("no_open", arguments.no_open)):
        if is_given:
            raise ConfigError("{} is about the served page, and {} serves none: give only one of them", name, "output")
    written = page_output(arguments.output, arguments.model, **given_options(arguments, "demo"))
    print(
        f"{arguments.output} has the page, {written / 1e6:.1f} MB. Try it: python3 -m http.server --directory "
        f"{shlex.quote(arguments.output)} 8600, then open http://localhost:8600/\n"
        "On a phone: copy the folder to any host with https, such as GitHub Pages, and open its address there."
    )
