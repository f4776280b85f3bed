"""A vLLM engine over processes (tensor parallelism): each builds every merge and keeps its share of it.

Run by `make vllm`, in a process of its own: vLLM cannot start such an engine beside one that is in this process.
"""

from importlib.util import find_spec
from pathlib import Path

import pytest

from evomerge.engine.vllm import VllmOptions
from evomerge.recipe import ModelRef
from evomerge.run import CandidateScorer, Job, WorkerSetup
from tests.run.workers.vllm_models import linear, prepared, write_models, write_tasks

pytestmark = [pytest.mark.vllm, pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed")]


def test_every_process_builds_its_share(tmp_path: Path) -> None:
    models = write_models(tmp_path / "models")
    tasks = prepared(models[0], write_tasks(tmp_path / "tasks"), "chatting")
    refs = tuple(ModelRef.parse(str(model)) for model in models)
    workers = [
        CandidateScorer(
            WorkerSetup(parents=refs, root=None, prepared=tasks, batch_size=8, threads=1, device="cpu", vllm=vllm),
            "one",
        )
        for vllm in (VllmOptions(tensor_parallel=2), None)
    ]
    items = {"chatting": tasks.pools["chatting"]["report"]}
    for weight in (0.3, 0.9):
        job = Job(candidate=0, pool="report", document=linear(models, weight), items=items)
        spread, plain = [worker.score(job) for worker in workers]
        assert spread.items is not None, spread.failure
        assert spread.items == plain.items
    huge = linear(models, 0.5) | {"parameters": {"weight": 1e38, "normalize": False}}
    huge["models"] = [{"model": entry["model"]} for entry in huge["models"]]
    broken = workers[0].score(Job(candidate=1, pool="report", document=huge, items=items))
    assert broken.failure is not None
    assert broken.failure.kind == "degenerate", broken.failure
    workers[0].close()
