"""The quickstart's own tasks load from any folder."""

from pathlib import Path

import pytest

from evomerge.evaluation import PoolSizes, TaskRequest, prepare_tasks

TASKS = Path(__file__).resolve().parents[3] / "experiments" / "quickstart" / "tasks"


@pytest.mark.skipif(not list(TASKS.glob("*.yaml")), reason="the quickstart's tasks are not in this checkout")
def test_the_quickstart_tasks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    requests = [TaskRequest(task=path.stem, metric="acc") for path in sorted(TASKS.glob("*.yaml"))]
    prepared = prepare_tasks(requests, task_path=TASKS, pools=PoolSizes(search=256, select=256, report=512), seed=0)
    for name, pools in prepared.pools.items():
        assert prepared.facts[name]["splits"] == {"search": "validation", "select": "validation", "report": "test"}
        assert len({i for ids in pools.values() for i in ids}) == 1024
    assert prepared.notes == ()
