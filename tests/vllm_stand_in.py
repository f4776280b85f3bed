"""A stand-in for vLLM's engine: transformers, with exactly the weights that it was given."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch


class FakeEngine:
    """Continues prompts by transformers.

    Attributes:
        loads: how often it was given weights.
        off: what is added to each token of an answer, for a test of wrong ones.
        closed: whether it was ended.
    """

    def __init__(self, folder: Path, shape: Any):
        from transformers import AutoConfig, AutoModelForCausalLM

        self.model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=shape.dtype).eval()
        self.loads, self.off, self.closed = 0, 0, False

    def load(self, tensors: Iterator[tuple[str, torch.Tensor]]) -> None:
        self.model.load_state_dict({name: tensor.clone() for name, tensor in tensors}, strict=True)
        self.loads += 1

    def answers(self, requests: Any, deadline: float) -> Iterator[tuple[int, tuple[int, ...], bool]]:
        for number, request in enumerate(requests):
            ids = torch.tensor([request.tokens])
            known = {name: value for name, value in request.settings.items() if name in ("eos_token_id",)}
            penalty = request.settings.get("repetition_penalty")
            tokens = self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=request.max_tokens,
                do_sample=False,
                repetition_penalty=penalty,
                **known,
            )[0, ids.shape[1] :]
            yield number, tuple((int(token) + self.off) % 64 for token in tokens), False

    def check_logits(self, tokens: Any) -> None:
        assert torch.isfinite(self.model(torch.tensor([list(tokens)])).logits).all()

    def close(self) -> None:
        self.closed = True


def install(monkeypatch: pytest.MonkeyPatch, *, device: str = "cpu") -> list[FakeEngine]:
    """Put the stand-in where vLLM's engine is imported from.

    Args:
        monkeypatch: of the test, at whose end it goes away again.
        device: that vLLM claims to run on.

    Returns:
        The engines that are started, growing.
    """
    started: list[FakeEngine] = []

    def start(folder: Path, shape: Any) -> FakeEngine:
        started.append(FakeEngine(folder, shape))
        return started[-1]

    module = ModuleType("evomerge.engine.vllm._engine")
    module.__dict__.update(
        Engine=start,
        EngineShape=SimpleNamespace,
        device_type=lambda: device,
        supported_architectures=lambda: frozenset({"LlamaForCausalLM"}),
    )
    monkeypatch.setitem(sys.modules, "evomerge.engine.vllm._engine", module)
    for place in ("evomerge.engine.vllm._engines", "evomerge.run.config._engine"):
        monkeypatch.setattr(f"{place}.missing_sentence", lambda: None)
    return started
