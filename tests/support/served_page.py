"""The page of export/web on a server in this process."""

import contextlib
import threading

from keras_seq_export.tflite.page_server import page_server


@contextlib.contextmanager
def served(model, litert):
    """Serves the page; yields its address."""
    server, address = page_server(model, litert, port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield address
    finally:
        server.shutdown()
        server.server_close()
