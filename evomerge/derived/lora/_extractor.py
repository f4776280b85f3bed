"""One module after another from two models into the tensors and the config of a PEFT adapter."""

import re
from typing import Any

import torch

from evomerge.checkpoint import Model, SafetensorsWriter
from evomerge.derived.lora._modules import Module, ModuleMap
from evomerge.derived.lora._records import LoraModule, LoraOptions, LoraReport
from evomerge.derived.lora._svd import Factors, factorize, squared_norm
from evomerge.errors import DegenerateModel, InvalidInput, first_few

_PREFIX = "base_model.model."  # of every name in a PEFT file


class Extractor:
    """Goes through the modules one at a time and collects what config and report need.

    Attributes:
        model: the fine-tune.
        base: its base.
        known: which tensors belong to which modules.
        options: what to extract.
        device: where matrices are decomposed.
    """

    def __init__(self, model: Model, base: Model, known: ModuleMap, options: LoraOptions, device: str):
        """Check the tensors of both models and account for those that no module has.

        Raises:
            InvalidInput: the models do not fit.
            DegenerateModel: a weight is not finite.
        """
        self.model, self.base, self.known, self.options, self.device = model, base, known, options, device
        self._decomposed: dict[str, LoraModule] = {}
        self._saved: list[str] = []
        self._left_out: list[str] = []
        self._has_biases = False  # in the adapter
        self._has_transposed = False  # weights that are stored as (in, out)
        self._lost_square = self._delta_square = 0.0  # squared norms of what is lost, and of all deltas
        self._resized = self._excluded_tensors()
        self._check_tensors()
        for name in known.unmatched:
            self._account_unmatched(name)

    def _excluded_tensors(self) -> frozenset[str]:
        """Return the tensors of excluded modules: they may have another number of rows, as added tokens give them."""
        names = (
            name for m in self.known.modules if self.options.excludes(m.name, m.tied) for name in m.tensors.values()
        )
        return frozenset(name for name in names if self._rows_differ(name))

    def _rows_differ(self, name: str) -> bool:
        """Tell whether a tensor differs from the base's in the number of its rows alone."""
        stored = self.base.stored_name(name)
        mine, theirs = self.model.tensors[name].shape, self.base.tensors[stored].shape if stored else ()
        return len(mine) == len(theirs) > 0 and mine[0] != theirs[0] and mine[1:] == theirs[1:]

    def _check_tensors(self) -> None:
        problems = []
        of_modules = [tensor for module in self.known.modules for tensor in module.tensors.values()]
        for name in [*of_modules, *self.known.unmatched]:
            mine, stored = self.model.tensors[name], self.base.stored_name(name)
            theirs = self.base.tensors[stored] if stored else None
            if theirs is None:
                problems.append(f"{self.base.name} has no tensor {name}, which {self.model.name} has")
            elif theirs.shape != mine.shape and name not in self._resized:
                way = "so the base must have the fine-tune's vocabulary and size"
                if self._rows_differ(name):
                    module = name.removesuffix(".weight").rpartition(".")[2]
                    way = f"so leave its rows to the base with --exclude {module}, or give the base the same tokens"
                problems.append(
                    f"{name} is {list(mine.shape)} in {self.model.name} but {list(theirs.shape)} in {self.base.name}; "
                    f"an adapter cannot change a shape, {way}"
                )
        if problems:
            raise InvalidInput(first_few(problems))

    def possible_names(self) -> list[str]:
        """Return every tensor name that the adapter file may come to hold."""
        names = []
        for module in self.known.modules:
            for owner in (module.name, module.tied):
                kinds = ("lora_A.weight", "lora_B.weight", "base_layer.bias", *module.tensors)
                names += [f"{_PREFIX}{owner}.{kind}" for kind in kinds if owner]
        return names

    def size(self, module: Module) -> int:
        """Return the bytes of a module's tensors."""
        return sum(self.model.tensors[name].size_bytes for name in module.tensors.values())

    def take(self, module: Module, stream: SafetensorsWriter) -> None:
        """Decompose or save one module, or note that it is the base's or left out.

        Args:
            module: one of `known.modules`.
            stream: the adapter file.

        Raises:
            DegenerateModel: a weight is not finite.
        """
        deltas = {parameter: self._delta(name) for parameter, name in module.tensors.items()}
        changed = {parameter for parameter, delta in deltas.items() if bool(delta.any())}
        self._delta_square += sum(squared_norm(deltas[parameter]) for parameter in changed)
        if not changed:
            return
        if "weight" in changed and module.linear and self.options.wants(module.name):
            self._decompose(module, deltas["weight"], stream)
            changed.remove("weight")
            if changed and self.options.save_rest:
                bias = self.model.tensor(module.tensors["bias"])
                stream.write(f"{_PREFIX}{module.name}.base_layer.bias", bias)
                self._has_biases, changed = True, set()
        elif self.options.save_rest and self._resized.isdisjoint(module.tensors.values()):
            self._save(module, stream)
            changed = set()
        self._lost_square += sum(squared_norm(deltas[parameter]) for parameter in changed)
        self._left_out += [module.tensors[parameter] for parameter in sorted(changed)]

    def _delta(self, name: str) -> torch.Tensor:
        """Return a tensor's difference from the base in float32; of added tokens' rows there is none."""
        mine, theirs = self.model.tensor(name), self.base.tensor(self.base.stored_name(name) or name)
        rows = min(len(mine), len(theirs)) if name in self._resized else None
        delta = mine[:rows].to(self.device, torch.float32, copy=True)
        delta -= theirs[:rows].to(self.device)
        if not bool(torch.isfinite(delta).all()):
            raise DegenerateModel(f"{name} holds NaN or infinity in {self.model.name} or {self.base.name}")
        return delta

    def _decompose(self, module: Module, delta: torch.Tensor, stream: SafetensorsWriter) -> None:
        delta = delta.T if module.transposed else delta
        factors = _cast(factorize(delta, self.options.rank, self.options.energy), self.options.dtype)
        lost = squared_norm(delta - factors.b.float() @ factors.a.float())
        stream.write(f"{_PREFIX}{module.name}.lora_A.weight", factors.a)
        stream.write(f"{_PREFIX}{module.name}.lora_B.weight", factors.b)
        self._lost_square += lost
        self._has_transposed |= module.transposed
        self._decomposed[module.name] = LoraModule(
            name=module.name,
            shape=(int(delta.shape[0]), int(delta.shape[1])),
            rank=factors.rank,
            error=(lost / squared_norm(delta)) ** 0.5,
            exact=factors.exact,
        )

    def _save(self, module: Module, stream: SafetensorsWriter) -> None:
        # PEFT wraps embeddings and a head tied to them apart, so each needs the weight.
        for owner in (module.name, module.tied):
            if owner:
                self._saved.append(owner)
                for parameter, name in module.tensors.items():
                    stream.write(f"{_PREFIX}{owner}.{parameter}", self.model.tensor(name))

    def _account_unmatched(self, name: str) -> None:
        """Note the loss of a tensor that the model's object holds under another name, such as fused experts."""
        square = squared_norm(self._delta(name))
        self._delta_square += square
        if square == 0:
            return
        if self.options.save_rest:
            raise InvalidInput(
                f"{name} differs from the base, and transformers holds it under another name (fused experts?), where "
                "an adapter cannot store it; leave out --save-rest to extract without it"
            )
        self._lost_square += square
        self._left_out.append(name)

    def report(self, size_bytes: int) -> LoraReport:
        """Return what the adapter holds and what it lost.

        Raises:
            InvalidInput: there is nothing in the adapter.
        """
        if not self._decomposed and not self._saved:
            if not self._delta_square:
                raise InvalidInput(f"{self.model.name} and {self.base.name} have the same weights; nothing to extract")
            raise InvalidInput("no linear weight that differs matches --include and --exclude; nothing to extract")
        if not self._decomposed:
            raise InvalidInput("no linear weight that differs was decomposed, so this would be no LoRA; see --exclude")
        return LoraReport(
            modules=tuple(self._decomposed.values()),
            saved=tuple(self._saved),
            left_out=tuple(self._left_out),
            error=(self._lost_square / self._delta_square) ** 0.5,
            size_bytes=size_bytes,
        )

    def config(self, base_name: tuple[str, str | None]) -> dict[str, Any]:
        """Return adapter_config.json as PEFT reads it.

        Args:
            base_name: path or hub id, and revision, of the base.
        """
        rank = max(module.rank for module in self._decomposed.values())
        fewer = {module.name: module.rank for module in self._decomposed.values() if module.rank != rank}
        causal = re.search("CausalLM|LMHead", str(self.model.config.get("architectures", "")))
        return {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM" if causal else None,
            "base_model_name_or_path": base_name[0],
            "revision": base_name[1],
            "r": rank,
            "lora_alpha": rank,  # the scale alpha / r is 1
            "rank_pattern": fewer,
            "alpha_pattern": fewer,
            "target_modules": _targets(set(self._decomposed), self.known.names),
            "modules_to_save": self._saved or None,
            "bias": "lora_only" if self._has_biases else "none",
            "fan_in_fan_out": self._has_transposed,
            "lora_dropout": 0.0,
            "inference_mode": True,
        }


def _targets(decomposed: set[str], names: frozenset[str]) -> list[str]:
    """Return PEFT's target_modules: the modules' last words where these mean no other module, else their full names.

    Args:
        decomposed: names of the modules that are in the adapter.
        names: of all modules.
    """
    targets = set()
    for name in decomposed:
        leaf = name.rpartition(".")[2]
        alone = all(other in decomposed for other in names if other.rpartition(".")[2] == leaf)
        targets.add(leaf if alone else name)
    return sorted(targets)


def _cast(factors: Factors, dtype: str) -> Factors:
    wanted = getattr(torch, dtype)
    return factors._replace(b=factors.b.to(wanted), a=factors.a.to(wanted))
