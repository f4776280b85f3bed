"""The memory of a backward pass: how much its activations may take, and how to keep fewer of them.

What a forward pass leaves for the backward pass is counted while it runs. On a CPU, where a process that takes too much
is killed, a pass that would take more than its share ends with a MemoryError; a GPU says so by itself.

With checkpoints (Chen et al. 2016, https://arxiv.org/abs/1604.06174) only the input of each block is kept, and the
block runs once more on the way back, for about a third more time: the same numbers, up to rounding behind tree masks.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from evomerge.checkpoint import Layout


@contextmanager
def bounded_activations(model: nn.Module, limit_bytes: int | None) -> Iterator[None]:
    """Let no forward pass within the context keep more for its backward pass than a limit.

    Args:
        model: whose own parameters do not count.
        limit_bytes: None = any number.

    Raises:
        MemoryError: from within the forward pass that would keep more.
    """
    if limit_bytes is None:
        yield
        return
    counter = _Counter(model, limit_bytes)
    with saved_tensors_hooks(counter.keep, _Kept.given_back):
        yield


class _Counter:
    """Counts the memory of what is kept, each tensor's once, parameters' never."""

    def __init__(self, model: nn.Module, limit_bytes: int) -> None:
        self._limit_bytes, self._bytes = limit_bytes, 0
        self._parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        self._holders: dict[int, int] = {}  # address of a kept memory -> in how many kept tensors

    def keep(self, tensor: torch.Tensor) -> "_Kept":
        """Count a tensor that a backward pass will need."""
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        if address in self._parameters or not address:
            return _Kept(tensor, lambda: None)
        if address not in self._holders:
            self._bytes += size
            if self._bytes > self._limit_bytes:
                self._bytes -= size
                raise MemoryError(f"the activations of a backward pass take more than {self._limit_bytes:,} bytes")
        self._holders[address] = self._holders.get(address, 0) + 1
        return _Kept(tensor, partial(self._release, address, size))

    def _release(self, address: int, size: int) -> None:
        self._holders[address] -= 1
        if not self._holders[address]:
            del self._holders[address]
            self._bytes -= size


class _Kept:
    """A tensor that a graph holds on to, and what to do when the graph is gone."""

    __slots__ = ("_release", "_tensor")

    def __init__(self, tensor: torch.Tensor, release: Callable[[], None]) -> None:
        self._tensor, self._release = tensor, release

    def given_back(self) -> torch.Tensor:
        """Return the tensor."""
        return self._tensor

    def __del__(self) -> None:
        self._release()


def _without_modes(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run a block as it will run on the way back, where modes such as attention in blocks are off."""
    with torch._C.DisableTorchFunction():
        return forward(*args, **kwargs)


@contextmanager
def checkpointed_blocks(model: nn.Module) -> Iterator[None]:
    """Keep only the inputs of the model's blocks for backward passes within the context.

    Args:
        model: a transformers model in evaluation mode: a block that runs again draws no random numbers.
    """
    layout = Layout.of(name for name, _ in model.named_parameters())
    blocks = [model.get_submodule(f"{layout.block_prefix}{number}") for number in range(layout.num_layers)]
    own: list[dict[str, Any]] = [{"forward": vars(b)["forward"]} if "forward" in vars(b) else {} for b in blocks]
    try:
        for block in blocks:
            run = partial(_without_modes, block.forward)
            block.forward = partial(checkpoint, run, use_reentrant=False, preserve_rng_state=False)
        yield
    finally:
        for block, before in zip(blocks, own, strict=True):
            vars(block).pop("forward", None)
            vars(block).update(before)
