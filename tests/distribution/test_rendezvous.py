import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from keras_seq.distribution.rendezvous import free_ports, meet
from keras_seq.errors import RendezvousError


def test_no_worker_continues_before_all_have_arrived():
    addresses = [f"127.0.0.1:{port}" for port in free_ports(4)]
    arrived = []

    def arrive(number):
        meet(addresses, number)
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
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    with ThreadPoolExecutor() as pool:
        other = pool.submit(meet, addresses, 1)
        with pytest.raises(TimeoutError):
            other.result(timeout=0.6)
        meet(addresses, 0)
        other.result(timeout=10)
    meet(addresses[:1], 0)


def test_an_unknown_host_is_reported():
    with pytest.raises(RendezvousError, match=r"the host of the first worker, no\.such\.host\.invalid, is unknown"):
        meet(["no.such.host.invalid:1234", "127.0.0.1:1"], 1)
