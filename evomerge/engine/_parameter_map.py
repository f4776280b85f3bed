"""Which tensors a transformers model has, and where a tensor of a checkpoint file goes: mostly under its own name.

Some families are held in memory in another form than they are stored: heads are renamed, and a block's experts are
fused into two parameters, of which each stored tensor is a contiguous part.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from evomerge.checkpoint import config_object
from evomerge.errors import MergeFailed

_EXPERT = re.compile(r"^(.*\.experts)\.(\d+)\.(w1|w2|w3|gate_proj|up_proj|down_proj)\.weight$")
_HALF = {"w1": 0, "gate_proj": 0, "w3": 1, "up_proj": 1}  # of gate_up_proj (experts, 2 x inner, hidden)
_RENAMED = (
    (".block_sparse_moe.", ".mlp."),
    ("embed_out.", "lm_head."),
    (".block_sparse_moe.gate.", ".mlp.router."),  # Phi-3.5-MoE
    (".input_linear.weight", ".experts.gate_up_proj"),  # Granite's mixtures
    (".output_linear.weight", ".experts.down_proj"),
    (".router.layer.", ".router."),
)


class ParameterPart(NamedTuple):
    """A parameter in memory, or a part of a fused one.

    Attributes:
        parameter: its name in the model's object.
        expert: which expert's rows; None = the whole parameter.
        half: which half of that expert's rows (0 or 1); None = all of them.
    """

    parameter: str
    expert: int | None = None
    half: int | None = None

    def view(self, fused: torch.Tensor) -> torch.Tensor:
        """Return this part of a fused parameter.

        Args:
            fused: (experts, rows, columns).

        Returns:
            (rows, columns), or (rows / 2, columns) of a half; a contiguous view.
        """
        assert self.expert is not None
        rows = fused[self.expert]
        if self.half is None:
            return rows
        middle = rows.shape[0] // 2
        return rows[:middle] if self.half == 0 else rows[middle:]


class ParameterMap:
    """The parameters and persistent buffers of a model, and which stored tensor fills which of them.

    Attributes:
        shapes: name -> shape; a tied tensor appears under each of its names.
        tied: name -> the first name of the same tensor.
    """

    def __init__(self, model: nn.Module):
        tensors = named_tensors(model)
        first: dict[int, str] = {}
        self.shapes: dict[str, torch.Size] = {name: tensor.shape for name, tensor in tensors.items()}
        self.tied: dict[str, str] = {name: first.setdefault(id(tensor), name) for name, tensor in tensors.items()}
        self._prefix = str(getattr(model, "base_model_prefix", ""))  # which files of base models lack
        self._located: dict[str, ParameterPart | None] = {}

    def locate(self, name: str) -> ParameterPart | None:
        """Return where a stored tensor goes, or None if the model has no place for it."""
        if name not in self._located:
            self._located[name] = self._locate(name)
        return self._located[name]

    def _locate(self, name: str) -> ParameterPart | None:
        for guess in (name, f"{self._prefix}.{name}", *(name.replace(old, new) for old, new in _RENAMED)):
            if guess in self.shapes:
                return ParameterPart(guess)
        match = _EXPERT.match(name.replace(*_RENAMED[0]))
        if match is None:
            return None
        half = _HALF.get(match[3])
        fused = f"{match[1]}.{'down_proj' if half is None else 'gate_up_proj'}"
        return ParameterPart(fused, int(match[2]), half) if len(self.shapes.get(fused, ())) == 3 else None

    def unfilled(self, parts: Iterable[ParameterPart]) -> str | None:
        """Return the name of a parameter that these parts leave wholly or partly empty, or None."""
        filled: dict[str, int] = {}
        for part in parts:
            owner = self.tied.get(part.parameter, part.parameter)
            filled[owner] = filled.get(owner, 0) + self._elements(part)
        for name, shape in self.shapes.items():
            if filled.get(self.tied.get(name, name), 0) < shape.numel():
                return name
        return None

    def _elements(self, part: ParameterPart) -> int:
        shape = self.shapes[part.parameter]
        if part.expert is None:
            return shape.numel()
        return shape.numel() // shape[0] // (1 if part.half is None else 2)


def named_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return every parameter and persistent buffer by name; tied ones appear under each of their names."""
    named: dict[str, torch.Tensor] = dict(model.named_parameters(remove_duplicate=False))
    persistent = set(model.state_dict(keep_vars=True))
    buffers = model.named_buffers(remove_duplicate=False)
    named.update({name: buffer for name, buffer in buffers if name in persistent})
    return named


def meta_model(config: Mapping[str, Any]) -> nn.Module:
    """Return the model of a config and its `architectures` on the meta device: modules and shapes without memory.

    Args:
        config: the content of config.json.

    Raises:
        MergeFailed: transformers cannot build it.
    """
    import transformers

    architecture = next(iter(config.get("architectures") or []), "")
    described = config_object(config)
    known = getattr(transformers, architecture, None)
    try:
        with torch.device("meta"):
            return known(described) if known else transformers.AutoModelForCausalLM.from_config(described)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        family = str(config.get("model_type", "model"))
        raise MergeFailed(f"transformers cannot build a {architecture or family} ({error})") from None
