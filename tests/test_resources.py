"""How many images a batch gets and how many threads an attack, and that imports of torch wait for no collector."""

import gc
import subprocess
import sys

import psutil
import pytest
import torch
from torch import nn

from c2f_lrp import cli
from c2f_lrp.loading import load_classifier
from c2f_lrp.resources import LIGHT, fitting_batch, fitting_threads, multiply_adds, one_thread


def test_the_batch_size_follows_the_free_memory(clf, images, monkeypatch):
    pixels = images.pixels.repeat(4, 1, 1, 1)

    def size(free: float) -> int:
        monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": int(free)}))
        return fitting_batch(clf.coarse, pixels)

    before = len(clf.coarse.layers[0]._forward_hooks)
    assert size(1e12) == 64 and size(1) == 1
    sizes = [size(free) for free in (2e5, 4e5, 8e5)]
    assert sizes[0] * 4 == sizes[1] * 2 == sizes[2]
    # A power of two, so that a little less memory changes nothing; and the outputs of so many images do fit.
    assert size(0.99 * 4e5) in (sizes[0], sizes[1]) and all(value & (value - 1) == 0 for value in sizes)
    assert sizes[0] * 144 * 4 * 8 < 2e5  # the first convolution's outputs alone, 4 x 6 x 6 doubles
    assert len(clf.coarse.layers[0]._forward_hooks) == before


@pytest.fixture
def three_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_multiply_adds_are_counted_as_by_hand():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),  # 8 x 4 x 4 outputs of 3 x 3 x 3
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),  # 8 x 4 x 4 outputs of 3 x 3
        nn.Flatten(),
        nn.Linear(128, 10),
    )
    assert multiply_adds(network, torch.zeros(1, 3, 8, 8)) == 128 * 27 + 128 * 9 + 128 * 10
    assert not any(module._forward_hooks for module in network.modules())


def test_a_layer_that_puts_out_no_tensor_is_in_nobodys_way():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair, self.linear = Pair(), nn.Linear(12, 2)

        def forward(self, x):
            return self.linear(self.pair(x)[0].flatten(1))

    assert multiply_adds(Network(), torch.zeros(1, 3, 2, 2)) == 24


def test_a_light_network_gets_one_thread_and_a_heavy_one_all(three_threads):
    lite0 = load_classifier("imagenet-lite").coarse
    image = torch.zeros(1, 3, 224, 224)
    assert multiply_adds(lite0, image) == pytest.approx(0.39e9, rel=0.02)  # Tan and Le's 0.39 billion for B0's plan
    with fitting_threads(lite0, image):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
    heavy = nn.Sequential(nn.Conv2d(3, 64, 9, padding=4), nn.Conv2d(64, 64, 9, padding=4))
    assert multiply_adds(heavy, image) >= LIGHT
    with fitting_threads(heavy, image):
        assert torch.get_num_threads() == 3


def test_who_has_chosen_the_threads_keeps_them(three_threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with fitting_threads(nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8)):
        assert torch.get_num_threads() == 3


def test_the_threads_come_back_after_a_failure(three_threads):
    with pytest.raises(KeyError), one_thread():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == 3


def test_the_collector_rests_while_torch_is_imported_and_not_longer():
    code = """if True:
        import gc
        from c2f_lrp.cli import large_imports
        with large_imports():
            assert not gc.isenabled()
            import torch
        assert gc.isenabled() and gc.get_freeze_count() > 100_000
        gc.unfreeze()
        try:
            with large_imports():  # torch is there
                assert gc.isenabled()
                raise KeyError
        except KeyError:
            assert gc.isenabled() and gc.get_freeze_count() == 0
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_where_torch_is_loaded_nothing_is_frozen():
    before = gc.get_freeze_count()
    with cli.large_imports():
        assert gc.isenabled()
    assert gc.get_freeze_count() == before
