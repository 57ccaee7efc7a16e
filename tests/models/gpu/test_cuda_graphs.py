"""What is recorded when, and what recordings are given; the GPU's part is played by a stand-in here."""

import pytest
import torch

from forgetfilter.models.gpu import cuda_graphs
from forgetfilter.models.gpu.cuda_graphs import Replayed


class StandIn:
    """A recording that works anew when it is replayed, on inputs that lie where they lay."""

    def __init__(self, work, inputs, *_):
        self.work, self.own = work, [one.clone() if isinstance(one, torch.Tensor) else one for one in inputs]

    def replay(self, inputs):
        for own, given in zip(self.own, inputs, strict=True):
            if isinstance(own, torch.Tensor):
                own.copy_(given)
        return self.work(*self.own)


@pytest.fixture
def events(monkeypatch) -> list[str]:
    happened = []

    class Told(StandIn):
        def __init__(self, *args):
            happened.append("recorded")
            super().__init__(*args)

        def replay(self, inputs):
            happened.append("replayed")
            return super().replay(inputs)

    monkeypatch.setattr(cuda_graphs, "_Recording", Told)
    return happened


def test_a_size_is_recorded_when_it_comes_up_again(events):
    work = Replayed(lambda x, times: x * times, torch.device("cpu"), lambda: events.append("between"))
    work._pool = "a pool"
    assert work(torch.ones(2), 3).tolist() == [3, 3]
    assert events == []
    assert work(torch.full((2,), 2.0), 3).tolist() == [6, 6]
    assert events == ["between", "recorded", "between", "replayed"]
    assert work(torch.zeros(2), 3).tolist() == [0, 0]
    assert events[4:] == ["replayed"]
    # Other shapes, and other numbers, are other sizes.
    assert work(torch.ones(3), 3).tolist() == [3, 3, 3]
    assert work(torch.ones(2), 4).tolist() == [4, 4]
    assert events[5:] == []


def test_what_cannot_be_recorded_is_done_all_the_same(monkeypatch):
    def fails(*_):
        raise torch.OutOfMemoryError

    work = Replayed(lambda x: x * 2, torch.device("cpu"))
    work._pool = "a pool"
    monkeypatch.setattr(cuda_graphs, "_Recording", fails)
    assert [work(torch.ones(1)).item() for _ in range(3)] == [2, 2, 2]
    assert work._pool is None


def test_nothing_is_recorded_but_on_a_gpu(events):
    work = Replayed(lambda x, y: x if y is None else x + y, torch.device("cpu"))
    for _ in range(3):
        assert work(torch.ones(1), None).tolist() == [1]
    assert events == []
