"""The contract of an evaluator as tests. Subclass, say what an entry looks like, and pytest runs them:

class TestMine(EvaluatorContract):
    def request(self) -> TaskRequest:
        return TaskRequest(evaluator=Mine(), options={"file": "lines.txt"})
"""

import json
import pickle
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evomerge.errors import DegenerateModel, InvalidFile
from evomerge.evaluation import PoolSizes, Prepared, TaskRequest, prepare_tasks
from evomerge.records import POOLS, ItemScores
from evomerge.testing.pico import write_pico


class EvaluatorContract(ABC):
    """What evomerge relies on in every evaluator.

    Attributes:
        pools: items that the tests ask for, in each pool.
        tolerance: by how much a value may differ where other items or another batch size change the rounding.
    """

    pools: PoolSizes = PoolSizes(search=4, select=3, report=3)
    tolerance: float = 1e-4

    @abstractmethod
    def request(self) -> TaskRequest:
        """Return an entry that the evaluator prepares; the same one at every call."""

    def prepare(self, request: TaskRequest, *, seed: int = 0) -> Prepared:
        """Prepare an entry; override it for lm-eval's settings."""
        return prepare_tasks([request], pools=self.pools, seed=seed)

    def load(self, folder: Path) -> tuple[Any, Any]:
        """Return a model and its tokenizer; without, a random Llama of two layers that knows 60 characters."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        place = write_pico(folder / "pico", 0, num_hidden_layers=2)
        return AutoModelForCausalLM.from_pretrained(place).eval(), AutoTokenizer.from_pretrained(place)

    # -- what the tests share

    @pytest.fixture
    def prepared(self) -> Prepared:
        """The entry, prepared."""
        return self.prepare(self.request())

    @pytest.fixture
    def loaded(self, tmp_path: Path) -> tuple[Any, Any]:
        """The model and its tokenizer."""
        return self.load(tmp_path)

    def numbers(self, prepared: Prepared) -> tuple[int, ...]:
        """Return the item numbers of all pools."""
        (pools,) = prepared.pools.values()
        return tuple(number for pool in POOLS for number in pools[pool])

    def scores(
        self, prepared: Prepared, loaded: tuple[Any, Any], ids: Sequence[int], *, batch_size: int = 4
    ) -> ItemScores:
        """Score items on a scorer of their own."""
        model, tokenizer = loaded
        (name,) = prepared.tasks
        return prepared.scorer(model, tokenizer, batch_size=batch_size).score({name: ids})[name]

    def assert_close(self, found: ItemScores, expected: ItemScores) -> None:
        """Compare the items of `found` with the same ones of `expected`."""
        values = dict(zip(expected.ids, expected.values, strict=True))
        assert found.values == pytest.approx([values[i] for i in found.ids], abs=self.tolerance)

    # -- preparing

    def test_pools_are_disjoint_and_as_large_as_wanted(self, prepared: Prepared) -> None:
        numbers = self.numbers(prepared)
        assert len(set(numbers)) == len(numbers)
        (pools,) = prepared.pools.values()
        assert {pool: len(pools[pool]) for pool in POOLS} == {pool: self.pools.of(pool) for pool in POOLS}

    def test_preparing_again_gives_the_same(self, prepared: Prepared) -> None:
        again = self.prepare(self.request())
        assert (again.objectives, again.pools) == (prepared.objectives, prepared.pools)
        assert (again.facts, again.notes) == (prepared.facts, prepared.notes)

    def test_facts_are_plain_data(self, prepared: Prepared) -> None:
        (facts,) = prepared.facts.values()
        assert facts and json.loads(json.dumps(facts, allow_nan=False)) == facts

    def test_name_weight_floor_and_scale_are_the_users(self) -> None:
        request = replace(self.request(), name="mine", weight=2.0, floor=0.25, scale=(0.0, 2.0))
        (objective,) = self.prepare(request).objectives
        assert (objective.name, objective.weight) == ("mine", 2.0)
        assert (objective.floor, objective.scale) == (0.25, (0.0, 2.0))

    def test_unknown_options_are_refused(self) -> None:
        request = self.request()
        with pytest.raises(InvalidFile, match="no_such_option"):
            self.prepare(replace(request, options={**request.options, "no_such_option": 1}))

    # -- scoring

    def test_a_copy_that_travelled_gives_the_same_scores(self, prepared: Prepared, loaded: Any) -> None:
        ids = self.numbers(prepared)
        copy = pickle.loads(pickle.dumps(prepared))
        assert self.scores(copy, loaded, ids) == self.scores(prepared, loaded, ids)

    def test_the_same_items_give_the_same_bits_in_any_order(self, prepared: Prepared, loaded: Any) -> None:
        (name,) = prepared.tasks
        scorer = prepared.scorer(*loaded, batch_size=4)
        ids = self.numbers(prepared)
        first = scorer.score({name: ids})[name]
        assert first.ids == ids and scorer.score({name: ids})[name] == first
        backwards = scorer.score({name: ids[::-1]})[name]
        assert (backwards.ids, backwards.values) == (ids[::-1], first.values[::-1])

    def test_other_items_and_batch_sizes_change_no_more_than_rounding(self, prepared: Prepared, loaded: Any) -> None:
        ids = self.numbers(prepared)
        whole = self.scores(prepared, loaded, ids)
        self.assert_close(self.scores(prepared, loaded, ids[: len(ids) // 2]), whole)
        self.assert_close(self.scores(prepared, loaded, ids[-1:]), whole)
        self.assert_close(self.scores(prepared, loaded, ids, batch_size=1), whole)

    def test_nothing_is_kept_of_other_weights(self, prepared: Prepared, loaded: Any) -> None:
        import torch

        (name,) = prepared.tasks
        model, tokenizer = loaded
        scorer, ids = prepared.scorer(model, tokenizer, batch_size=4), self.numbers(prepared)
        first = scorer.score({name: ids})[name]
        weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.25)
        scorer.score({name: ids})
        model.load_state_dict(weights)
        assert scorer.score({name: ids})[name] == first

    def test_the_model_is_left_as_it_was(self, prepared: Prepared, loaded: Any) -> None:
        import torch

        model, _ = loaded
        weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        self.scores(prepared, loaded, self.numbers(prepared))
        assert not any(module.training for module in model.modules())
        assert all(torch.equal(tensor, weights[key]) for key, tensor in model.state_dict().items())

    def test_global_random_states_are_neither_used_nor_changed(self, loaded: Any) -> None:
        import torch

        def states() -> tuple[str, ...]:
            return str(random.getstate()), str(np.random.get_state(legacy=False)), str(torch.get_rng_state().tolist())

        before = states()
        prepared = self.prepare(self.request())
        ids = self.numbers(prepared)
        first = self.scores(prepared, loaded, ids)
        assert states() == before
        saved = random.getstate(), np.random.get_state(), torch.get_rng_state()
        try:
            random.seed(99), np.random.seed(99), torch.default_generator.manual_seed(99)
            assert self.prepare(self.request()).facts == prepared.facts
            assert self.scores(prepared, loaded, ids) == first
        finally:
            random.setstate(saved[0]), np.random.set_state(saved[1]), torch.set_rng_state(saved[2])

    def test_scoring_a_task_alone_is_scoring_it_bound(self, prepared: Prepared, loaded: Any) -> None:
        import torch

        ((name, task),) = prepared.tasks.items()
        ids = tuple(sorted(self.numbers(prepared)))
        with torch.no_grad():
            alone = prepared.evaluators[name].score(task, ids, *loaded, batch_size=4)
        assert alone == self.scores(prepared, loaded, ids)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
    def test_a_broken_model_gets_no_score(self, value: float, prepared: Prepared, loaded: Any) -> None:
        import torch

        with torch.no_grad():
            loaded[0].get_output_embeddings().weight.fill_(value)
        with pytest.raises(DegenerateModel):
            self.scores(prepared, loaded, self.numbers(prepared))
