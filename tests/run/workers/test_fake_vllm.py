"""A worker with a stand-in for vLLM's engine: which weights it is given, when, and what else is held."""

from pathlib import Path
from typing import Any

import pytest

from evomerge.engine.vllm import VllmOptions
from evomerge.errors import SelfCheckFailed
from evomerge.recipe import ModelRef
from evomerge.run import CandidateScorer, Job, WorkerSetup
from tests.run.workers.vllm_models import linear, prepared, stack, write_models, write_tasks
from tests.vllm_stand_in import FakeEngine, install


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[FakeEngine]:
    """Engines that were started in this test."""
    return install(monkeypatch)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("tasks") / "tasks")


def worker(models: list[Path], tasks: Path, *names: str, vllm: bool = True) -> CandidateScorer:
    refs = tuple(ModelRef.parse(str(model)) for model in models)
    found = prepared(models[0], tasks, *names)
    options = VllmOptions() if vllm else None
    return CandidateScorer(
        WorkerSetup(parents=refs, root=None, prepared=found, batch_size=8, threads=1, device="cpu", vllm=options), "one"
    )


def score(scorer: CandidateScorer, document: dict[str, Any]) -> Any:
    items = {name: pools["report"][:6] for name, pools in scorer.setup.prepared.pools.items()}
    outcome = scorer.score(Job(candidate=0, pool="report", document=document, items=items))
    assert outcome.items is not None, outcome.failure
    return outcome.items


def test_every_candidate_gets_all_its_weights_and_each_depth_an_engine(
    models: list[Path], tasks: Path, engines: list[FakeEngine]
) -> None:
    served, plain = worker(models, tasks, "chatting"), worker(models, tasks, "chatting", vllm=False)
    for document in (linear(models, 0.2), stack(models), linear(models, 0.7), stack(models)):
        assert score(served, document) == score(plain, document)
    parent = {"merge_method": "passthrough", "models": [{"model": str(models[1])}]}
    assert score(served, parent) == score(plain, parent)
    assert [engine.loads for engine in engines] == [3, 2], "parents with equal tokenizers share an engine"
    assert sum(parameter.numel() for parameter in served._live.model.parameters()) == 0
    served.close()
    assert all(engine.closed for engine in engines)


def test_both_engines_work_where_log_likelihoods_are_wanted(
    models: list[Path], tasks: Path, engines: list[FakeEngine]
) -> None:
    served = worker(models, tasks, "choosing", "chatting")
    plain = worker(models, tasks, "choosing", "chatting", vllm=False)
    assert score(served, linear(models, 0.2)) == score(plain, linear(models, 0.2))
    assert sum(parameter.numel() for parameter in served._live.model.parameters()) > 0
    only_choices = worker(models, tasks, "choosing")
    assert score(only_choices, linear(models, 0.2)) == score(
        worker(models, tasks, "choosing", vllm=False), linear(models, 0.2)
    )
    assert len(engines) == 1, "an engine without anything to write is not started"


def test_an_engine_that_answers_otherwise_ends_the_run(
    models: list[Path], tasks: Path, engines: list[FakeEngine]
) -> None:
    served = worker(models, tasks, "chatting")
    parent = {"merge_method": "passthrough", "models": [{"model": str(models[1])}]}
    score(served, parent)  # which is not checked: nothing is built
    engines[0].off = 1
    with pytest.raises(SelfCheckFailed, match="vLLM answers"):
        score(served, linear(models, 0.2))
