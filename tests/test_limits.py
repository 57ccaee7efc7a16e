"""Work that somebody else chose ends, and leaves the process as it was."""

import resource
import signal
import threading

import pytest

from forgetfilter.limits import ExceededError, bounded


def of_the_process():
    timer, handler = signal.getitimer(signal.ITIMER_VIRTUAL), signal.getsignal(signal.SIGVTALRM)
    return timer, handler, resource.getrlimit(resource.RLIMIT_AS)


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (lambda: [None for _ in iter(int, 1) if _], "0.2 s"),
        (lambda: 7 ** (10**9), "0.2 s"),
        (lambda: "x" * 10**10, "256 MB"),
        (lambda: [0] * 10**9, "256 MB"),
    ],
    ids=["loop", "power", "text", "list"],
)
def test_what_takes_too_much_ends(work, said):
    before = of_the_process()
    with pytest.raises(ExceededError, match=f"more than {said}"), bounded(1 << 28, 0.2):
        work()
    assert of_the_process() == before


def test_what_takes_little_is_left_alone():
    before = of_the_process()
    with bounded(1 << 28, 5.0), bounded(1 << 27, 1.0):
        assert len("x" * 10**6) == 10**6
    with pytest.raises(ZeroDivisionError), bounded(1 << 28, 5.0):
        1 / 0  # noqa: B018
    assert of_the_process() == before


def test_in_another_thread_memory_is_bounded():
    said = []

    def work():
        try:
            with bounded(1 << 28, 0.2):
                "x" * 10**10
        except ExceededError as error:
            said.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert said == ["more than 256 MB of memory"]
