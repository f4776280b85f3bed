"""Working memory that is reused: fresh allocations would cost more than the arithmetic."""

import torch


class Scratch:
    """Named working buffers of one dtype, `size` elements each, or more where a method requested more."""

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device):
        self.size, self.dtype, self.device = size, dtype, device
        self._buffers: dict[tuple[str, torch.dtype], torch.Tensor] = {}

    def buffer(self, name: str, length: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return the first `length` elements of the buffer called `name`; contents are undefined."""
        key = (name, dtype or self.dtype)
        held = self._buffers.get(key)
        if held is None or held.numel() < length:
            held = torch.empty(max(self.size, length), dtype=key[1], device=self.device)
            self._buffers[key] = held
        return held[:length]

    def load(self, name: str, source: torch.Tensor) -> torch.Tensor:
        """Copy `source` into the buffer called `name`, converted to working precision."""
        return self.buffer(name, source.numel()).copy_(source)
