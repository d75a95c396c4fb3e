"""What differs between a CPU and a GPU: how images best lie in memory, and how convolutions round."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch
from torch import Tensor


def fast_layout(tensor: Tensor) -> Tensor:
    """Images, or weights of a convolution, in the order of `fast_format`; other tensors are given back as they are."""
    return tensor.contiguous(memory_format=fast_format(tensor)) if tensor.ndim == 4 else tensor


def fast_format(tensor: Tensor) -> torch.memory_format:
    """The order of memory in which the tensor's device convolves fastest.

    CPUs: channels last. GPUs: channels first: on an H200, LRPC in float32 on EfficientNet-Lite0, whose convolutions are
    mostly depthwise, took more than three times as long with channels last.
    """
    return torch.channels_last if tensor.is_cpu else torch.contiguous_format


@contextmanager
def whole_float32() -> Iterator[None]:
    """Convolutions on a GPU round as on a CPU while this holds; also a decorator.

    By default NVIDIA's GPUs round float32 inputs of convolutions to 10 bits ("TF32"), and a gradient of the difference
    of two nearly equal totals, which is what eqs. (7) and (9) ask for, suffers from that more than logits do
    (tests/test_gpu.py). What the caller has set is put back when the last of all threads is through. Autograd's
    backward pass must be inside too.
    """
    with _COUNTING:
        owner, name, whole = _setting()
        _INSIDE.append(_INSIDE[0] if _INSIDE else getattr(owner, name))
        setattr(owner, name, whole)
    try:
        yield
    finally:
        with _COUNTING:
            before = _INSIDE.pop()
            if not _INSIDE:
                setattr(owner, name, before)


_COUNTING = Lock()
_INSIDE: list = []  # for everyone inside, what the caller had set


def _setting() -> tuple[object, str, object]:
    """What holds the setting, its name, and its value for whole float32. Until torch 2.8 one was for all of cuDNN."""
    cudnn = torch.backends.cudnn
    return (cudnn.conv, "fp32_precision", "ieee") if hasattr(cudnn, "conv") else (cudnn, "allow_tf32", False)
