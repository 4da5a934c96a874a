import multiprocessing
import os
import signal
import threading
import time

import pytest

from keras_seq.errors import ProcessEndedError
from keras_seq.processes import process_pool

_added = 0


def prepare(number):
    global _added
    _added = number


def slow_first(number):
    time.sleep(0.3 if number == 0 else 0)
    return number + _added


def end(number):
    os._exit(number)


def test_results_come_in_order_and_few_items_are_taken_ahead():
    taken = []

    def items():
        for number in range(40):
            taken.append(number)
            yield number

    with process_pool(2, prepare, 100) as pool:
        results = pool.in_order(slow_first, items())
        assert next(results) == (0, 100)
        assert len(taken) <= 6
        assert list(results) == [(number, number + 100) for number in range(1, 40)]


def test_an_ended_process_is_reported():
    with process_pool(1) as pool, pytest.raises(ProcessEndedError, match="a worker process was ended from outside"):
        list(pool.in_order(end, [3]))


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_after_an_error_the_processes_end_in_the_middle_of_their_work(error):
    before, children = time.monotonic(), []

    def fail():
        with process_pool(2) as pool:
            next(pool.in_order(time.sleep, [0.01, 60, 60, 60, 60, 60]))
            children.extend(multiprocessing.active_children())
            raise error

    with pytest.raises(error):
        fail()
    assert time.monotonic() - before < 20
    assert len(children) == 2
    assert not any(child.is_alive() for child in children)


def test_ctrl_c_while_the_processes_start_is_not_lost():
    timer = threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt), process_pool(1, time.sleep, 30):
        pytest.fail("the processes were ready")
    timer.join()


def test_the_number_of_processes_must_be_positive():
    with (
        pytest.raises(ValueError, match=r"`processes` must be a positive integer\. Received: processes=0"),
        process_pool(0),
    ):
        pass
