"""The live sink: a plan overwrites a resident transformers model in place."""

import json
from typing import Any

import torch
from torch import nn

from evomerge.checkpoint import Parents
from evomerge.engine._build import Builder
from evomerge.engine._plan import Origin, Plan, TensorPlan
from evomerge.engine._tokenizer import tokenizer_donor
from evomerge.errors import MergeFailed


class LiveModel:
    """A model that becomes one candidate after another.

    Its parameters point either at memory of its own, which `apply` overwrites, or, for tensors that a plan takes from
    a parent unchanged, straight at the parent's mapped file: such a candidate, and every unscaled block of a layer
    stack, costs no copy at all. Tensors whose plan did not change since the last candidate are left alone.

    `model` may be another object after `apply` when the depth changes; `tokenizer` stays the same.
    """

    def __init__(self, parents: Parents, *, device: str = "cpu"):
        self.parents, self.device = parents, torch.device(device)
        self.model: Any = None
        self.tokenizer: Any = None
        self._builder = Builder(parents, keep_statistics=True, device=device)
        self._skeletons: dict[str, Any] = {}
        self._own: dict[tuple[str, torch.dtype], torch.Tensor] = {}
        self._made: dict[tuple[str, torch.dtype], TensorPlan] = {}
        self._sound: set[Origin] = set()  # parents' tensors that were looked at and are finite
        self._tokenizer_of = ""

    def apply(self, plan: Plan) -> None:
        """Turn the live model into the merge that `plan` describes.

        Raises:
            DegenerateModel: a tensor is not finite. MergeFailed: names do not fit the model's class.
        """
        model = self._skeleton(plan)
        slots = _slots(model)
        unknown = [tensor.name for tensor in plan.tensors if tensor.name not in slots]
        if unknown:
            raise MergeFailed(
                f"{plan.config.get('model_type')} names its tensors otherwise in memory than on disk ({unknown[0]}), "
                "which a search cannot handle yet; merging to a folder works"
            )
        with torch.inference_mode(False), torch.no_grad():
            for tensor in plan.tensors:
                slots[tensor.name].data = self._memory(tensor)
        _check_filled(slots, plan)
        self.model = model
        self._take_tokenizer(plan)

    def _memory(self, plan: TensorPlan) -> torch.Tensor:
        """Return memory that holds the planned tensor: a parent's own, or ours after writing it."""
        if plan.copied:
            return self._copied(plan)
        key = (plan.name, plan.dtype)
        memory = self._own.get(key)
        if memory is None or memory.shape != plan.shape:
            memory = self._own[key] = torch.empty(plan.shape, dtype=plan.dtype, device=self.device)
            self._made.pop(key, None)
        if self._made.get(key) != plan:
            self._made.pop(key, None)  # a failure half-way leaves nothing that could be taken for finished
            self._builder.build(plan, memory)
            self._made[key] = plan
        return memory

    def _copied(self, plan: TensorPlan) -> torch.Tensor:
        """Return a parent's own tensor; it is searched for NaN the first time it is used."""
        tensor = self._builder.source(plan.models[0])
        if plan.models[0] not in self._sound:
            self._builder.check(plan, tensor)
            self._sound.add(plan.models[0])
        return tensor

    def _skeleton(self, plan: Plan) -> Any:
        """Return a model object of the plan's config without weights, one for each config that was seen."""
        key = json.dumps([plan.config, str(plan.dtype)], sort_keys=True)
        if key not in self._skeletons:
            self._skeletons[key] = _empty_model(plan, self.device)
        return self._skeletons[key]

    def _take_tokenizer(self, plan: Plan) -> None:
        donor = tokenizer_donor(plan.recipe, self.parents)
        if self._tokenizer_of != donor.name:
            from transformers import AutoTokenizer

            self.tokenizer = AutoTokenizer.from_pretrained(donor.folder)
            self._tokenizer_of = donor.name


def _empty_model(plan: Plan, device: torch.device) -> Any:
    """Return a model of the plan's config whose parameters hold nothing yet; its buffers are real."""
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**plan.config)
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(config, dtype=plan.dtype)
    model.eval()
    model.tie_weights()
    hollow: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            if id(parameter) not in hollow:  # a tied parameter stays one object
                hollow[id(parameter)] = nn.Parameter(parameter.new_empty(0, device=device), requires_grad=False)
            module._parameters[name] = hollow[id(parameter)]
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = buffer.to(device)
    return model


def _slots(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return every parameter and persistent buffer by name; tied ones appear under each of their names."""
    named: dict[str, torch.Tensor] = dict(model.named_parameters(remove_duplicate=False))
    persistent = set(model.state_dict(keep_vars=True))
    named.update({name: buffer for name, buffer in model.named_buffers() if name in persistent})
    return named


def _check_filled(slots: dict[str, torch.Tensor], plan: Plan) -> None:
    """Raise MergeFailed if the model has a weight that the plan does not fill."""
    empty = [name for name, slot in slots.items() if slot.numel() == 0]
    if empty:
        raise MergeFailed(f"the parents hold no {empty[0]}, which a {plan.config.get('model_type')} model needs")
