"""How images lie in memory, and what convolutions round to, by device. What a GPU computes: test_gpu.py."""

from threading import Barrier, Thread

import pytest
import torch

from c2f_lrp.attacks import LRPC
from c2f_lrp.devices import fast_layout, whole_float32

CONVOLUTIONS = torch.backends.cudnn.conv  # the setting can be read without a GPU, too


@pytest.fixture(params=["tf32", "ieee"])
def chosen(request):
    before = CONVOLUTIONS.fp32_precision
    CONVOLUTIONS.fp32_precision = request.param
    yield request.param
    CONVOLUTIONS.fp32_precision = before


def test_the_callers_precision_is_put_back(chosen):
    with pytest.raises(KeyError), whole_float32():
        assert CONVOLUTIONS.fp32_precision == "ieee"
        with whole_float32():
            pass
        assert CONVOLUTIONS.fp32_precision == "ieee"
        raise KeyError
    assert CONVOLUTIONS.fp32_precision == chosen


def test_threads_do_not_take_it_from_each_other(chosen):
    """The first to come in is the first to leave, while the second is still inside."""
    seen, here = [], Barrier(2, timeout=30)

    def first():
        with whole_float32():
            here.wait()  # both are inside
            here.wait()
        here.wait()  # this one has left

    def second():
        with whole_float32():
            here.wait()
            here.wait()
            here.wait()
            seen.append(CONVOLUTIONS.fp32_precision)

    threads = [Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == ["ieee"] and CONVOLUTIONS.fp32_precision == chosen


def test_attacks_are_inside(clf, images, chosen):
    seen = []
    attack = LRPC(iterations=1)
    attack(clf, images.pixels, images.coarse, images.fine, watch=lambda at: seen.append(CONVOLUTIONS.fp32_precision))
    assert set(seen) == {"ieee"} and CONVOLUTIONS.fp32_precision == chosen


def test_images_on_a_cpu_lie_channels_last():
    images = torch.rand(2, 3, 4, 5)
    assert fast_layout(images).is_contiguous(memory_format=torch.channels_last)
    assert fast_layout(images).equal(images)
    assert fast_layout(labels := torch.arange(3)) is labels
