"""Keeping other libraries' global random numbers as they were."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def isolated_randomness() -> Iterator[None]:
    """Seed the global generators of random, NumPy and torch inside the block, and restore them after it.

    Task code may draw from them (lm-eval's own entry point seeds all three; some tasks shuffle their choices while
    loading). The seeds are lm-eval's defaults, so documents and prompts are those of its command line, and the same
    in every process. torch is left alone if it was never imported.
    """
    torch = sys.modules.get("torch")
    states = random.getstate(), np.random.get_state()
    torch_state = torch.get_rng_state() if torch else None
    cuda = torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized()
    cuda_states = torch.cuda.get_rng_state_all() if torch and cuda else []
    random.seed(0)
    np.random.seed(1234)
    if torch:
        torch.default_generator.manual_seed(1234)  # torch.manual_seed prepares GPUs, too, which takes a millisecond
    if torch and cuda:
        torch.cuda.manual_seed_all(1234)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        if torch:
            torch.set_rng_state(torch_state)
            if cuda:
                torch.cuda.set_rng_state_all(cuda_states)
