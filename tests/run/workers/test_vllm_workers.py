"""A worker with vLLM: the scores of the transformers engine, one candidate after another, of several depths.

Run by `make vllm`, in an environment that has vLLM.
"""

import gc
import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from evomerge.engine.vllm import VllmOptions
from evomerge.evaluation import Prepared
from evomerge.recipe import ModelRef
from evomerge.records import ItemScores
from evomerge.run import CandidateScorer, Job, WorkerSetup
from tests.chat_task import SETTINGS
from tests.run.workers.vllm_models import linear, prepared, stack, write_models, write_tasks

pytestmark = [pytest.mark.vllm, pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed")]

MASKED = SETTINGS | {"no_repeat_ngram_size": 3, "suppress_tokens": [30, 31]}


def setup(models: list[Path], tasks: Prepared, vllm: VllmOptions | None) -> WorkerSetup:
    """Return what a worker of these parents needs."""
    refs = tuple(ModelRef.parse(str(model)) for model in models)
    return WorkerSetup(parents=refs, root=None, prepared=tasks, batch_size=8, threads=1, device="cpu", vllm=vllm)


def scores(worker: CandidateScorer, document: dict[str, Any]) -> dict[str, ItemScores]:
    """Return the scores of all items."""
    items = {name: pools["report"] for name, pools in worker.setup.prepared.pools.items()}
    outcome = worker.score(Job(candidate=0, pool="report", document=document, items=items))
    assert outcome.items is not None, outcome.failure
    assert outcome.tokens > 0
    return dict(outcome.items)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_models(tmp_path_factory.mktemp("models"), MASKED)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("tasks") / "tasks")


@pytest.fixture(scope="module")
def chatting(models: list[Path], tasks: Path) -> Prepared:
    return prepared(models[0], tasks, "chatting")


@pytest.fixture(scope="module")
def worker(models: list[Path], chatting: Prepared) -> Iterator[CandidateScorer]:
    """A worker that has nothing but generated answers to score."""
    found = CandidateScorer(setup(models, chatting, VllmOptions()), "vllm")
    yield found
    found.close()


def test_scores_are_those_of_the_transformers_engine_for_merges_parents_and_stacks(
    models: list[Path], chatting: Prepared, worker: CandidateScorer
) -> None:
    plain = CandidateScorer(setup(models, chatting, None), "plain")
    parent = {"merge_method": "passthrough", "models": [{"model": str(models[1])}]}
    seen = set()
    for document in (linear(models, 0.3), stack(models), parent, linear(models, 0.8), stack(models)):
        found = scores(worker, document)
        assert found == scores(plain, document)
        seen.add(found["chatting"].values)
    assert len(seen) == 4, "answers that tell candidates apart"
    answers = list(found["chatting"].values)
    assert len(set(answers)) > len(answers) / 2


def test_a_worker_that_only_generates_holds_no_second_model(models: list[Path], worker: CandidateScorer) -> None:
    scores(worker, linear(models, 0.4))
    assert sum(parameter.numel() for parameter in worker._live.model.parameters()) == 0


def test_fifty_candidates_need_no_further_engine_and_no_further_memory(
    models: list[Path], worker: CandidateScorer
) -> None:
    for number in range(10):
        scores(worker, linear(models, number / 10))
    assert worker._vllm is not None
    before, started = psutil.Process().memory_info().rss, worker._vllm.started
    for number in range(50):
        scores(worker, linear(models, number / 50))
    gc.collect()
    assert worker._vllm.started == started
    assert psutil.Process().memory_info().rss - before < 16 << 20


def test_a_broken_candidate_fails_and_leaves_the_next_alone(
    models: list[Path], chatting: Prepared, worker: CandidateScorer
) -> None:
    items = {"chatting": chatting.pools["chatting"]["report"]}
    expected = scores(worker, linear(models, 0.6))
    huge = linear(models, 0.5) | {"parameters": {"weight": 1e38, "normalize": False}}
    huge["models"] = [{"model": entry["model"]} for entry in huge["models"]]
    broken = worker.score(Job(candidate=1, pool="report", document=huge, items=items))
    assert broken.failure is not None
    assert broken.failure.kind == "degenerate", broken.failure
    assert scores(worker, linear(models, 0.6)) == expected


def test_a_constant_model_is_degenerate(models: list[Path], chatting: Prepared, worker: CandidateScorer) -> None:
    items = {"chatting": chatting.pools["chatting"]["report"]}
    flat = linear(models, 0.5) | {"parameters": {"weight": 0.0, "normalize": False}}
    flat["models"] = [{"model": entry["model"]} for entry in flat["models"]]
    outcome = worker.score(Job(candidate=1, pool="report", document=flat, items=items))
    assert outcome.failure is not None
    assert "equally likely" in outcome.failure.reason, outcome.failure


def test_log_likelihoods_stay_with_transformers(models: list[Path], tasks: Path) -> None:
    both = prepared(models[0], tasks, "choosing", "chatting")
    plain = CandidateScorer(setup(models, both, None), "plain")
    mixed = CandidateScorer(setup(models, both, VllmOptions()), "mixed")
    for document in (linear(models, 0.3), stack(models), linear(models, 0.5)):
        assert scores(mixed, document) == scores(plain, document)
    mixed.close()


def test_a_fresh_vllm_on_the_exported_folder_gives_the_same_answers(tmp_path: Path, tasks: Path) -> None:
    from vllm import LLM

    from evomerge import merge
    from evomerge.recipe import parse_recipe

    models = write_models(tmp_path / "models")  # settings that vLLM itself reads from the folder
    chats = prepared(models[0], tasks, "chatting")
    live = CandidateScorer(setup(models, chats, VllmOptions()), "live")
    found = scores(live, linear(models, 0.35))["chatting"]
    live.close()
    merge(parse_recipe(linear(models, 0.35)), tmp_path / "out")
    fresh = LLM(
        str(tmp_path / "out"), dtype="float32", enforce_eager=True, max_model_len=128, kv_cache_memory_bytes=1 << 26
    )
    parameters = fresh.get_default_sampling_params()
    assert parameters.repetition_penalty == SETTINGS["repetition_penalty"]
    parameters.temperature, parameters.max_tokens, parameters.stop = 0.0, 24, ["?", "ba"]
    source = next(iter(chats.tasks["chatting"].items.sources.values()))
    texts = [source.items[number].requests[0].arguments[0] for number in found.ids]
    tokenizer = fresh.get_tokenizer()
    prompts = [{"prompt_token_ids": tokenizer.encode(text, add_special_tokens=False)} for text in texts]
    outputs = [output.outputs[0].token_ids for output in fresh.generate(prompts, parameters, use_tqdm=False)]
    answers = [tokenizer.decode(tokens, skip_special_tokens=True).partition("?")[0] for tokens in outputs]
    digests = [zlib.crc32(answer.encode()) / 2**32 for answer in answers]
    assert found.values == pytest.approx(digests)
    assert len(set(digests)) > len(digests) / 3
