"""The contract of a merge method as tests. Subclass, name the method, and pytest runs them:

class TestMine(MethodContract):
    method = MyMethod()
"""

import itertools
import math
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch

from evomerge.errors import MergeFailed
from evomerge.methods import (
    BASE,
    Inputs,
    Method,
    Parameter,
    Scratch,
    Settings,
    Statistics,
    Value,
    merge_into,
    use_kernels,
    working_dtype,
)

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
SHAPES = ((), (1,), (7,), (1, 9), (9, 1), (3, 5), (16, 33), (4, 6, 5))
_TENSOR = "layer.weight"


@dataclass(frozen=True, kw_only=True)
class MergeCase:
    """One merge of small tensors.

    Attributes:
        method: the method.
        models: without the base of a method that requires one.
        base: the base, or None.
        merge: values of the parameters of the whole merge.
        parents: values of the parameters of each model.
        variants: chosen variants.
        names: how the recipe calls each model, which addresses random masks.
    """

    method: Method
    models: Sequence[torch.Tensor]
    base: torch.Tensor | None
    merge: Mapping[str, Value]
    parents: Sequence[Mapping[str, Value]]
    variants: Mapping[str, str] = field(default_factory=dict)
    names: Sequence[str] = ()

    def inputs(self, seed: int = 0) -> Inputs:
        """Return the tensors."""
        names = self.names or [f"parent{i}" for i in range(len(self.models))]
        return Inputs(models=self.models, base=self.base, tensor=_TENSOR, parents=names, seed=seed)

    def settings(self) -> Settings:
        """Return the parameters."""
        return Settings.of(self.merge, self.parents, self.variants)

    def attempt(self, seed: int = 0, **options: Any) -> tuple[torch.Tensor, bool]:
        """Return the result and whether it is said to be finite; options go to `merge_into`."""
        out = torch.full_like(self.models[0], math.nan)
        return out, bool(merge_into(out, self.method, self.inputs(seed), self.settings(), **options))

    def run(self, seed: int = 0, **options: Any) -> torch.Tensor:
        """Return the result, which must be finite."""
        out, finite = self.attempt(seed, **options)
        assert finite, "the result is not finite"
        return out


class MethodContract:
    """What evomerge relies on in every merge method.

    Attributes:
        method: the method under test; an object, so that it is created before the tests run.
        keeps_equal: whether models that equal the base (or each other, without a base) give that tensor, with default
            settings.
        shows_infinity: whether an infinite element of a model makes the result infinite (NaN must always show).
        cases: random cases of each test.
    """

    method: Method
    keeps_equal: bool = True
    shows_infinity: bool = True
    cases: int = 6

    # -- what the tests share; override what does not suit a method

    def value(self, parameter: Parameter, draw: random.Random) -> Value:
        """Return a random value that a recipe may give to a parameter."""
        if parameter.kind == "flag":
            return draw.random() < 0.5
        low, high = _span(parameter)
        if parameter.kind == "integer":
            return draw.randint(math.ceil(low), math.floor(high))
        return low + (high - low) * draw.uniform(0.05, 0.95)

    def usual(self, parameter: Parameter, count: int) -> Value:
        """Return a parameter's default, or where a search would start."""
        if parameter.default is not None:
            return parameter.default
        low, high = _span(parameter)
        return min(high, max(low, 1 / count)) if parameter.start == "equal" else (low + high) / 2

    def tensors(
        self, number: int, dtype: torch.dtype = torch.float32, shape: tuple[int, ...] | None = None
    ) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        """Return models and base of case `number`."""
        shape = SHAPES[number % len(SHAPES)] if shape is None else shape
        generator = torch.Generator().manual_seed(number)
        low, high = self.method.inputs
        count = min(high or low + 2, low + number % 3)
        origin = torch.randn(shape, generator=generator)
        spread = (0.05, 1.0, 0.001)[number % 3]
        models = [(origin + spread * torch.randn(shape, generator=generator)).to(dtype) for _ in range(count)]
        based = self.method.base == "required" or (self.method.base == "optional" and number % 2 == 0)
        return models, origin.to(dtype) if based else None

    def case(
        self,
        number: int,
        dtype: torch.dtype = torch.float32,
        shape: tuple[int, ...] | None = None,
        *,
        usual: bool = False,
    ) -> MergeCase:
        """Return a merge, with random settings or the usual ones."""
        models, base = self.tensors(number, dtype, shape)
        draw = random.Random(number)

        def choose(parameter: Parameter) -> Value:
            return self.usual(parameter, len(models)) if usual else self.value(parameter, draw)

        return MergeCase(
            method=self.method,
            models=models,
            base=base,
            merge={p.name: choose(p) for p in self.method.parameters if p.per == "merge"},
            parents=[{p.name: choose(p) for p in self.method.parameters if p.per != "merge"} for _ in models],
        )

    def feasible(self, dtype: torch.dtype = torch.float32, shape: tuple[int, ...] | None = None) -> Iterator[MergeCase]:
        """Yield random cases that the method has a finite result for."""
        found = 0
        for number in range(4 * self.cases):
            case = self.case(number, dtype, shape)
            try:
                found += case.attempt()[1]
            except MergeFailed:
                continue
            yield case
            if found >= self.cases:
                return
        assert found, "no random settings gave a result; override `value`"

    @pytest.fixture(autouse=True)
    def _in_torch(self) -> Iterator[None]:
        """Keep compiled kernels out: they have tests of their own, and compiling takes seconds."""
        with use_kernels("never"):
            yield

    # -- facts

    def test_facts_are_stated(self) -> None:
        method = self.method
        assert all(fact.strip() for fact in (method.name, method.title, method.formula, method.paper))
        for parameter in method.parameters:
            assert parameter.doc, f"{parameter.name} has no doc"
            assert parameter.low <= parameter.high
            if parameter.default is not None:
                assert parameter.low <= float(parameter.default) <= parameter.high
            if parameter.gene is not None:
                low, high = parameter.gene
                assert parameter.low <= low < high <= parameter.high
        for variant in method.variants:
            assert variant.doc and len(variant.options) >= 2

    def test_absent_tensors_have_a_rule(self) -> None:
        low, high = self.method.inputs
        for count in range(low, min(high or low + 2, low + 2) + 1):
            bases: list[bool | None] = [None] if self.method.base == "input" else [True, False]
            bases += [None] if self.method.base == "optional" else []
            for base, models in itertools.product(bases, itertools.product([True, False], repeat=count)):
                if base is not False and all(models):
                    continue
                rule = self.method.when_absent(base, models)
                if rule.action == "merge":
                    assert sum(models) >= low and base is not False
                elif rule.action == "copy":
                    assert base if rule.position == BASE else models[rule.position]
                else:
                    assert rule.action in ("drop", "refuse")

    def test_contributions_are_stated_for_each_model(self) -> None:
        for number in range(self.cases):
            case = self.case(number)
            said = self.method.contributions(case.settings())
            assert len(said.models) == len(case.models)
            assert all(math.isfinite(factor) for factor in said.models)

    # -- results

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_results_are_whole_and_inputs_stay_as_they_are(self, dtype: torch.dtype) -> None:
        for number in range(2 * len(SHAPES)):
            case = self.case(number, dtype)
            tensors = [*case.models, *([] if case.base is None else [case.base])]
            before = [tensor.clone() for tensor in tensors]
            try:
                out, finite = case.attempt()
            except MergeFailed as refused:
                assert _TENSOR in str(refused), "a refusal must name the tensor"
            else:
                assert finite == bool(out.isfinite().all())
            assert all(torch.equal(tensor, old) for tensor, old in zip(tensors, before, strict=True))

    def test_usual_settings_give_a_result(self) -> None:
        for number in range(len(SHAPES)):
            self.case(number, usual=True).run()

    def test_bounds_of_parameters_are_safe(self) -> None:
        usual = self.case(6, usual=True)
        for parameter in self.method.parameters:
            for bound in _bounds(parameter):
                said = {parameter.name: bound}
                parents = [{**own, **said} if parameter.name in own else own for own in usual.parents]
                merge = {**usual.merge, **said} if parameter.name in usual.merge else usual.merge
                try:
                    out, finite = replace(usual, merge=merge, parents=parents).attempt()
                except MergeFailed:
                    continue
                assert finite == bool(out.isfinite().all()), f"{parameter.name} = {bound}"

    def test_every_variant_gives_a_result(self) -> None:
        for variant in self.method.variants:
            for option in variant.options:
                replace(self.case(6, usual=True), variants={variant.name: option}).run()

    def test_models_that_change_nothing_change_nothing(self) -> None:
        if not self.keeps_equal:
            pytest.skip("the method says so")
        usual = self.case(6, usual=True)
        origin = usual.models[0] if usual.base is None else usual.base
        result = replace(usual, models=[origin.clone() for _ in usual.models]).run()
        torch.testing.assert_close(result, origin, atol=1e-6, rtol=1e-6)

    def test_order_of_models_does_not_matter(self) -> None:
        if not self.method.symmetric or self.method.inputs[1] == 1:
            pytest.skip("the order matters, or there is none")
        for case in self.feasible():
            names = case.inputs().parents
            turned = replace(case, models=case.models[::-1], parents=case.parents[::-1], names=[*reversed(names)])
            torch.testing.assert_close(turned.run(), case.run(), atol=2e-6, rtol=1e-5)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
    def test_block_sizes_change_no_byte(self, dtype: torch.dtype) -> None:
        for case in itertools.islice(self.feasible(dtype, (37, 29)), 3):
            results = [case.attempt(block=block)[0] for block in (100, 101, 1 << 16)]
            assert all(torch.equal(results[0], result) for result in results[1:])

    def test_statistics_and_buffers_can_be_used_again(self) -> None:
        for case in self.feasible():
            inputs = case.inputs()
            statistics = Statistics(inputs.models, inputs.base)
            scratch = Scratch(1 << 10, working_dtype(inputs), torch.device("cpu"))
            expected = case.run()
            for _ in range(2):
                statistics.bind(inputs.models, inputs.base)
                assert torch.equal(case.run(statistics=statistics, scratch=scratch, block=1 << 10), expected)
                statistics.release()
            known = {key: tensor.clone() for key, tensor in statistics.known.items()}
            assert all(tensor.dtype == torch.float64 and tensor.is_cpu for tensor in known.values())
            later = Statistics(inputs.models, inputs.base, known=known)
            assert torch.equal(case.run(statistics=later), expected)

    def test_the_gain_is_a_factor(self) -> None:
        for case in itertools.islice(self.feasible(), 2):
            torch.testing.assert_close(case.run(gain=0.25), case.run() * 0.25)

    def test_the_seed_matters_only_to_random_methods(self) -> None:
        differs = False
        for case in self.feasible(shape=(16, 33)):
            differs |= not torch.equal(case.run(seed=0), case.run(seed=1))
            assert torch.equal(case.run(seed=0), case.run(seed=0))
        assert differs == self.method.random

    def test_copied_models_are_copied(self) -> None:
        for number in range(len(SHAPES)):
            case = self.case(number, usual=True)
            copied = self.method.copied_model(case.settings())
            if copied is not None:
                assert torch.equal(case.run(), case.models[copied])

    # -- damaged inputs

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_damage_of_a_model_shows(self, bad: float) -> None:
        if math.isinf(bad) and not self.shows_infinity:
            pytest.skip("the method says so")
        for number in range(len(SHAPES)):
            case = self.case(number, usual=True)
            case.models[0].view(-1)[-1] = bad
            assert not _attempt_without_warnings(case), "a model that is not finite must not vanish"

    @pytest.mark.parametrize("bad", [(math.inf, math.inf), (math.inf, -math.inf), (math.nan, math.inf)])
    @pytest.mark.parametrize("whole", [True, False])
    def test_damage_of_all_inputs_raises_nothing(self, bad: tuple[float, float], whole: bool) -> None:
        for number in range(2 * len(SHAPES)):
            case = self.case(number)
            opposite = [
                {name: -value if name == "weight" and i % 2 else value for name, value in own.items()}
                for i, own in enumerate(case.parents)
            ]
            for parents in (case.parents, opposite):
                for i, tensor in enumerate([*case.models, *([] if case.base is None else [case.base])]):
                    tensor.view(-1)[slice(None) if whole else slice(-1, None)] = bad[i % 2]
                _attempt_without_warnings(replace(case, parents=parents))


def _attempt_without_warnings(case: MergeCase) -> bool:
    """Merge with warnings as errors; return whether the result is finite (a refused merge counts as not finite)."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            out, finite = case.attempt()
        except MergeFailed:
            return False
    assert finite == bool(out.isfinite().all())
    return finite


def _span(parameter: Parameter) -> tuple[float, float]:
    """Return a finite range of a parameter: its gene's, else within its bounds."""
    if parameter.gene is not None:
        return parameter.gene
    middle = float(parameter.default or 0)
    low = parameter.low if math.isfinite(parameter.low) else min(middle, 0.0) - 1
    high = parameter.high if math.isfinite(parameter.high) else max(2 * middle, low) + (0 if middle else 1)
    return low, high


def _bounds(parameter: Parameter) -> list[Value]:
    if parameter.kind == "flag":
        return [True, False]
    bounds = [bound for bound in (parameter.low, parameter.high) if math.isfinite(bound)]
    bounds += [*(parameter.gene or ())]
    return [int(bound) for bound in bounds] if parameter.kind == "integer" else [*bounds]
