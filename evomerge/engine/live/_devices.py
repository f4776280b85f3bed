"""Whether a device that a user names is there."""

import torch

from evomerge.errors import InvalidInput


def device_of(name: str) -> torch.device:
    """Return a device by torch's name ("cpu", "cuda", "cuda:1", "mps").

    Raises:
        InvalidInput: there is no device of this name here.
    """
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError, ValueError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InvalidInput(
            f'device "{name}": there is none here ({reason}); give cpu, or a device that this torch can use'
        ) from None
