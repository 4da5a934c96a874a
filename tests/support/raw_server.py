"""A server on loopback that answers every request with given bytes, as a broken or hostile server would."""

import contextlib
import http.server
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc

REST = "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"


class RestAnswers:
    """Answers over REST: `answers` are whole HTTP answers, the last of which is repeated.

    Attributes:
        address: http://HOST:PORT.
        answers: bytes, or a function that writes to the connection.
    """

    def __init__(self):
        self.answers = []
        answering = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def respond(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answers = answering.answers
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                with contextlib.suppress(OSError):
                    answer(self.wfile) if callable(answer) else self.wfile.write(answer)
                self.close_connection = True

            do_GET = do_POST = respond

            def log_message(self, *arguments):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class GrpcAnswers:
    """Answers over gRPC: `answers` are serialized messages, the last of which is repeated.

    Attributes:
        address: grpc://HOST:PORT.
        answers: the messages.
    """

    def __init__(self):
        self.answers = []
        answering = self

        class Handler(grpc.GenericRpcHandler):
            def service(self, details):
                def respond(request, context):
                    answers = answering.answers
                    return answers.pop(0) if len(answers) > 1 else answers[0]

                return grpc.unary_unary_rpc_method_handler(respond)  # Without a serializer: bytes.

        self._server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.max_send_message_length", -1)])
        self._server.add_generic_rpc_handlers((Handler(),))
        self.address = f"grpc://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def close(self):
        self._server.stop(None).wait()


def http_answer(content, status="200 OK"):
    """Returns a whole HTTP answer."""
    return REST.format(status=status, length=len(content)).encode() + content
