"""How the workers find each other, and who is turned away."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from workers import greeting

from keras_seq.benchmarks.distribution import free_ports
from keras_seq.distribution import rendezvous
from keras_seq.distribution.rendezvous import meet
from keras_seq.distribution.tf_config import tf_config
from keras_seq.errors import RendezvousError


def addresses(count):
    return [f"127.0.0.1:{port}" for port in free_ports(count)]


def connect(address, host="127.0.0.1"):
    """Connects when the first worker listens."""
    for _ in range(100):
        try:
            return socket.create_connection((host, int(address.rpartition(":")[2])), timeout=5)
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise AssertionError("the first worker does not listen")


@pytest.fixture
def three_workers():
    """Three addresses, and the first worker waiting for the others."""
    workers = addresses(3)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(meet, workers, 0)
        yield workers, first
        for number in (1, 2):  # Whatever was tried, the real workers meet.
            pool.submit(meet, workers, number)
        first.result(timeout=10)


def test_no_worker_continues_before_all_have_arrived():
    workers, arrived = addresses(4), []

    def arrive(number):
        meet(workers, number)
        arrived.append(number)

    threads = [threading.Thread(target=arrive, args=(number,)) for number in (3, 0, 2)]
    for thread in threads:
        thread.start()
    threads[0].join(timeout=1)
    assert arrived == []
    arrive(1)
    for thread in threads:
        thread.join(timeout=10)
    assert sorted(arrived) == [0, 1, 2, 3]


def test_others_wait_for_a_late_first_worker_and_a_single_worker_does_not_wait():
    workers = addresses(2)
    with ThreadPoolExecutor() as pool:
        other = pool.submit(meet, workers, 1)
        with pytest.raises(TimeoutError):
            other.result(timeout=0.6)
        meet(workers, 0)
        other.result(timeout=10)
    meet(workers[:1], 0)


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", b"this port is for the workers of a training run"),
        (b"\x00\x00\x00\x01", b"this port is for the workers of a training run"),
        (b"keras_seq worker 1:" + bytes(36), b"the first worker has another list of workers in its TF_CONFIG"),
        (0, b"the numbers of the other workers are 1 to 2, not 0"),
        (3, b"the numbers of the other workers are 1 to 2, not 3"),
        (2**32 - 1, b"the numbers of the other workers are 1 to 2, not 4294967295"),
    ],
)
def test_a_stranger_is_told_so_and_is_not_counted(three_workers, sent, answer):
    workers, first = three_workers
    with connect(workers[0]) as stranger:
        stranger.sendall(greeting(tf_config(workers, 0)["TF_CONFIG"], sent) if isinstance(sent, int) else sent)
        assert stranger.recv(200) == b"keras_seq: " + answer + b"\n"
    assert not first.done()


def test_a_connection_that_sends_nothing_hinders_nobody_and_is_closed(three_workers, monkeypatch):
    monkeypatch.setattr(rendezvous, "_SECONDS_TO_GREET", 1)
    workers, first = three_workers
    with connect(workers[0]) as silent, connect(workers[0]) as slow:
        slow.sendall(b"keras")
        for one in (silent, slow):
            assert one.recv(200) == b"keras_seq: nothing was sent within 1 seconds\n"
    assert not first.done()


def test_many_silent_connections_hinder_nobody(three_workers):
    workers, _ = three_workers
    strangers = [connect(workers[0]) for _ in range(100)]
    time.sleep(0.2)
    strangers[0].sendall(b"keras")  # What the oldest one sends may arrive together with the one it makes room for.
    strangers += [connect(workers[0]) for _ in range(200)]
    with connect(workers[0]) as other:
        other.sendall(greeting(tf_config(workers, 0)["TF_CONFIG"], 0))
        assert b"not 0" in other.recv(200)
    for one in strangers:
        one.close()


def test_a_second_worker_of_a_number_is_refused_until_the_first_one_has_ended(three_workers):
    workers, _ = three_workers
    with connect(workers[0]) as one:
        one.sendall(greeting(tf_config(workers, 0)["TF_CONFIG"], 1))
        time.sleep(0.2)
        with pytest.raises(RendezvousError, match="has refused this one: another worker with the number 1 is present"):
            meet(workers, 1)
    # Its restart is welcome: the fixture has workers 1 and 2 meet the first one.


def test_the_first_worker_listens_at_its_own_address_only(three_workers):
    workers, _ = three_workers
    with connect(workers[0]), pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", int(workers[0].rpartition(":")[2])), timeout=5)


def test_a_worker_does_not_take_another_server_for_the_first_worker():
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor() as pool:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        worker = pool.submit(meet, [address, "127.0.0.1:1"], 1)
        connection, _ = server.accept()
        with connection:
            connection.recv(200)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(RendezvousError, match=f"{address} answers, but is not the first worker"):
            worker.result(timeout=10)


def test_a_first_worker_that_ends_is_reported():
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor() as pool:
        worker = pool.submit(meet, [f"127.0.0.1:{server.getsockname()[1]}", "127.0.0.1:1"], 1)
        server.accept()[0].close()
        with pytest.raises(RendezvousError, match="the first worker ended while the others were waiting"):
            worker.result(timeout=10)


@pytest.mark.parametrize(
    ("host", "number", "message"),
    [
        ("no.such.host.invalid", 1, r"the host of the first worker, no\.such\.host\.invalid, is unknown"),
        ("no.such.host.invalid", 0, r"the host of the first worker, no\.such\.host\.invalid, is unknown"),
        ("192.0.2.1", 0, r"the first worker cannot listen at 192\.0\.2\.1:1234 .*Name an address of its machine"),
        ("127.0.1.1", 0, r"has the address 127\.0\.1\.1 on its own machine, which other machines cannot reach"),
    ],
)
def test_an_address_of_the_first_worker_that_cannot_work_is_reported(host, number, message, monkeypatch):
    monkeypatch.setattr(rendezvous, "_SECONDS_FOR_NAME", 0.1)
    with pytest.raises(RendezvousError, match=message):
        meet([f"{host}:1234", "192.0.2.7:1"], number)


def test_two_names_of_this_machine_can_be_mixed():
    ports = free_ports(2)
    workers = [f"localhost:{ports[0]}", f"127.0.0.1:{ports[1]}"]
    with ThreadPoolExecutor() as pool:
        other = pool.submit(meet, workers, 1)
        meet(workers, 0)
        other.result(timeout=10)
