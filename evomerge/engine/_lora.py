"""A LoRA adapter out of a fine-tune: the task vector of each linear weight, cut to a low rank.

delta = W_model - W_base ~ B A  (Hu 2021, https://arxiv.org/abs/2106.09685, with alpha = rank, so B A counts once)
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from evomerge.checkpoint import Checkpoint, TensorStream, copy_tokenizer, new_folder, write_json
from evomerge.engine._modules import Module, ModuleMap, map_modules
from evomerge.engine._svd import Factors, factorise
from evomerge.errors import DegenerateModel, InvalidInput

ADAPTER = "adapter_model.safetensors"
SHOWN = 5  # problems that one message lists
_PREFIX = "base_model.model."  # of every name in a PEFT file


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraOptions:
    """What to extract.

    rank: at most so many directions for each linear weight. energy: keep only as many of them as hold this share of
    the squared norm, in (0, 1]; None = all `rank`. include, exclude: regular expressions searched for in a module's
    name; a module is decomposed if it matches one of `include` (or there is none) and none of `exclude`.
    save_rest: store whatever else differs from the base as it is, so that nothing is lost but what the rank cuts.
    dtype: of the factors on disk.
    """

    rank: int = 32
    energy: float | None = None
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    save_rest: bool = False
    dtype: str = "float32"

    def wants(self, name: str) -> bool:
        """Tell whether the patterns let a module be decomposed."""
        included = not self.include or any(re.search(pattern, name) for pattern in self.include)
        return included and not any(re.search(pattern, name) for pattern in self.exclude)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraModule:
    """One decomposed weight. shape: (out, in). error: what is lost of its delta, ||delta - B A|| / ||delta||.

    exact: a full decomposition was made, else a randomised one.
    """

    name: str
    shape: tuple[int, int]
    rank: int
    error: float
    exact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraReport:
    """What an adapter holds, and what it lost.

    saved: modules stored whole. left_out: tensors that differ from the base and are not in the adapter.
    error: what is lost of the whole task vector, left-out tensors included, relative to its Frobenius norm.
    size_bytes: of the adapter's tensors.
    """

    modules: tuple[LoraModule, ...]
    saved: tuple[str, ...]
    left_out: tuple[str, ...]
    error: float
    size_bytes: int


def extract_lora(
    model: Checkpoint,
    base: Checkpoint,
    out: Path,
    options: LoraOptions,
    *,
    base_name: tuple[str, str | None],
    card: Callable[[LoraReport], str],
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> LoraReport:
    """Write the adapter folder that turns `base` into `model`; memory: one weight and its decomposition.

    Args:
        base_name: path or hub id, and revision, under which PEFT will look for the base.
        card: renders README.md.
        progress: called with (bytes looked at, bytes in all).

    Raises:
        InvalidInput: the models or the options do not fit, they hold the same weights, or `out` exists.
        DegenerateModel: a weight is not finite. In every case nothing is left behind.
    """
    _check(options)
    known = map_modules(model, [name for name, info in model.tensors.items() if info.dtype.is_floating_point])
    extractor = _Extractor(model, base, known, options, device)
    with new_folder(out) as folder:
        with TensorStream(folder / ADAPTER, extractor.possible_names()) as stream:
            total, done = sum(extractor.size(module) for module in known.modules), 0
            for module in known.modules:
                extractor.take(module, stream)
                done += extractor.size(module)
                if progress:
                    progress(done, total)
        report = extractor.report(stream.size_bytes)
        write_json(folder / "adapter_config.json", extractor.config(base_name))
        copy_tokenizer(model, folder)
        (folder / "README.md").write_text(card(report), encoding="utf-8")
    return report


def _check(options: LoraOptions) -> None:
    if options.rank < 1:
        raise InvalidInput(f"rank is {options.rank}, expected at least 1")
    if options.energy is not None and not 0 < options.energy <= 1:
        raise InvalidInput(f"energy is {options.energy}, expected a share above 0 and up to 1, such as 0.95")
    for pattern in (*options.include, *options.exclude):
        try:
            re.compile(pattern)
        except re.error as error:
            raise InvalidInput(f'"{pattern}" is no regular expression ({error})') from None


class _Extractor:
    """Goes through the modules one at a time and remembers what the config and the report have to say."""

    def __init__(self, model: Checkpoint, base: Checkpoint, known: ModuleMap, options: LoraOptions, device: str):
        self.model, self.base, self.known, self.options, self.device = model, base, known, options, device
        self._made: dict[str, LoraModule] = {}
        self._saved: list[str] = []
        self._left_out: list[str] = []
        self._biases = False
        self._transposed = False
        self._lost = self._all = 0.0  # squared norms
        self._check_tensors()
        for name in known.loose:
            self._loose(name)

    def _check_tensors(self) -> None:
        problems = []
        ours = {tensor: module for module in self.known.modules for tensor in module.tensors.values()}
        for name in [*ours, *self.known.loose]:
            mine, theirs = self.model.tensors[name], self.base.tensors.get(name)
            if theirs is None:
                problems.append(f"{self.base.name} has no tensor {name}, which {self.model.name} has")
            elif theirs.shape != mine.shape:
                problems.append(
                    f"{name} is {list(mine.shape)} in {self.model.name} but {list(theirs.shape)} in {self.base.name}; "
                    "an adapter cannot change a shape, so the base must have the fine-tune's vocabulary and size"
                )
        if problems:
            more = len(problems) - SHOWN
            raise InvalidInput("\n".join(problems[:SHOWN] + ([f"and {more} more like these"] if more > 0 else [])))

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

    def take(self, module: Module, stream: TensorStream) -> None:
        """Decompose or save one module, or note that it is the base's or left out."""
        deltas = {parameter: self._delta(name) for parameter, name in module.tensors.items()}
        changed = {parameter for parameter, delta in deltas.items() if bool(delta.any())}
        self._all += sum(_square(deltas[parameter]) for parameter in changed)
        if not changed:
            return
        if "weight" in changed and module.linear and self.options.wants(module.name):
            self._decompose(module, deltas["weight"], stream)
            changed.remove("weight")
            if changed and self.options.save_rest:
                bias = self.model.tensor(module.tensors["bias"])
                stream.write(f"{_PREFIX}{module.name}.base_layer.bias", bias)
                self._biases, changed = True, set()
        elif self.options.save_rest:
            self._save(module, stream)
            changed = set()
        self._lost += sum(_square(deltas[parameter]) for parameter in changed)
        self._left_out += [module.tensors[parameter] for parameter in sorted(changed)]

    def _delta(self, name: str) -> torch.Tensor:
        delta = self.model.tensor(name).to(self.device, torch.float32, copy=True)
        delta -= self.base.tensor(name).to(self.device)
        if not bool(torch.isfinite(delta).all()):
            raise DegenerateModel(f"{name} holds NaN or infinity in {self.model.name} or {self.base.name}")
        return delta

    def _decompose(self, module: Module, delta: torch.Tensor, stream: TensorStream) -> None:
        delta = delta.T if module.transposed else delta
        factors = _cast(factorise(delta, self.options.rank, self.options.energy), self.options.dtype)
        lost = _square(delta - factors.b.float() @ factors.a.float())
        stream.write(f"{_PREFIX}{module.name}.lora_A.weight", factors.a)
        stream.write(f"{_PREFIX}{module.name}.lora_B.weight", factors.b)
        self._lost += lost
        self._transposed |= module.transposed
        self._made[module.name] = LoraModule(
            name=module.name,
            shape=(int(delta.shape[0]), int(delta.shape[1])),
            rank=factors.rank,
            error=(lost / _square(delta)) ** 0.5,
            exact=factors.exact,
        )

    def _save(self, module: Module, stream: TensorStream) -> None:
        # PEFT wraps embeddings and a head tied to them apart, so each needs the weight.
        for owner in (module.name, module.tied):
            if owner:
                self._saved.append(owner)
                for parameter, name in module.tensors.items():
                    stream.write(f"{_PREFIX}{owner}.{parameter}", self.model.tensor(name))

    def _loose(self, name: str) -> None:
        """Note a tensor that the model's object holds under another name, such as fused experts."""
        square = _square(self._delta(name))
        self._all += square
        if square == 0:
            return
        if self.options.save_rest:
            raise InvalidInput(
                f"{name} differs from the base, and transformers holds it under another name (fused experts?), where "
                "an adapter cannot store it; leave out --save-rest to extract without it"
            )
        self._lost += square
        self._left_out.append(name)

    def report(self, size_bytes: int) -> LoraReport:
        """Return what was made.

        Raises:
            InvalidInput: there is nothing in the adapter.
        """
        if not self._made and not self._saved:
            if not self._all:
                raise InvalidInput(f"{self.model.name} and {self.base.name} have the same weights; nothing to extract")
            raise InvalidInput("no linear weight that differs matches --include and --exclude; nothing to extract")
        if not self._made:
            raise InvalidInput("no linear weight that differs was decomposed, so this would be no LoRA; see --exclude")
        return LoraReport(
            modules=tuple(self._made.values()),
            saved=tuple(self._saved),
            left_out=tuple(self._left_out),
            error=(self._lost / self._all) ** 0.5,
            size_bytes=size_bytes,
        )

    def config(self, base_name: tuple[str, str | None]) -> dict[str, Any]:
        """Return adapter_config.json as PEFT reads it."""
        rank = max(module.rank for module in self._made.values())
        fewer = {module.name: module.rank for module in self._made.values() if module.rank != rank}
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
            "target_modules": _targets(set(self._made), self.known.names),
            "modules_to_save": self._saved or None,
            "bias": "lora_only" if self._biases else "none",
            "fan_in_fan_out": self._transposed,
            "lora_dropout": 0.0,
            "inference_mode": True,
        }


def _targets(made: set[str], names: frozenset[str]) -> list[str]:
    """Name the modules by their last words where these mean no other module, else in full."""
    targets = set()
    for name in made:
        leaf = name.rpartition(".")[2]
        alone = all(other in made for other in names if other.rpartition(".")[2] == leaf)
        targets.add(leaf if alone else name)
    return sorted(targets)


def _cast(factors: Factors, dtype: str) -> Factors:
    wanted = getattr(torch, dtype)
    return factors._replace(b=factors.b.to(wanted), a=factors.a.to(wanted))


def _square(tensor: torch.Tensor) -> float:
    """Return the squared Frobenius norm, summed in float64 by rows so that no float64 copy is made."""
    return float(torch.linalg.vector_norm(tensor.reshape(-1, tensor.shape[-1] if tensor.ndim else 1), dim=-1).double().square().sum())
