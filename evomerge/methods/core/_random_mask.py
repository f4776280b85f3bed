"""Random numbers with an address: u(seed, parent, tensor, index), the same for any block size, order or device."""

import hashlib

import torch

_MASK = 0xFFFFFFFF
BITS = 24  # a float32 holds every multiple of 2^-24 in [0, 1)


def keys(seed: int, parent: str, tensor: str) -> tuple[int, int]:
    """Return the two 32-bit keys of one (seed, parent, tensor) address."""
    digest = hashlib.blake2b(f"{seed}\n{parent}\n{tensor}".encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


def _mix(x: torch.Tensor) -> torch.Tensor:
    """Scramble 32-bit integers held in int64, in place (the "lowbias32" constants found by Wellons 2018)."""
    x ^= x >> 16
    x *= 0x7FEB352D
    x &= _MASK
    x ^= x >> 15
    x *= 0x846CA68B
    x &= _MASK
    x ^= x >> 16
    return x


def uniform_bits(address: tuple[int, int], start: int, length: int, device: torch.device) -> torch.Tensor:
    """Return `length` integers uniform on [0, 2^24), those of flat positions start, start + 1, ... as int64."""
    index = torch.arange(start, start + length, dtype=torch.int64, device=device)
    high = index >> 32
    x = _mix((index & _MASK) ^ address[0])
    x += high * 0x9E3779B9 + address[1]
    x &= _MASK
    return _mix(x) >> (32 - BITS)


def cut(density: float) -> int:
    """Return the number that `uniform_bits` must stay below to keep a fraction `density`; masks nest in density."""
    return round(density * (1 << BITS))
