"""Without a network, a task that needs one is refused at once and in one sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys, time
from evomerge.errors import InvalidFile
from evomerge.evaluation import PoolSizes, TaskRequest, prepare_tasks
import datasets, lm_eval.api.task
started = time.monotonic()
try:
    requests = [TaskRequest(task=name) for name in ("arc_easy", "boolq")]
    prepare_tasks(requests, pools=PoolSizes(search=1, select=1, report=1), seed=0)
except InvalidFile as error:
    print(error)
print(time.monotonic() - started < 15)
"""


@pytest.mark.parametrize("offline", [{}, {"HF_HUB_OFFLINE": "1"}])
def test_a_task_of_the_hub_without_a_network(offline: dict[str, str], tmp_path: Path) -> None:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_") and "proxy" not in key.lower()}
    # Nothing listens on port 9: the connection is refused wherever this runs.
    environment = {**kept, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), **offline}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, check=True)
    *sentences, quick = done.stdout.splitlines()
    assert quick == "True" and len(sentences) == 2, done.stdout
    for sentence, dataset in zip(sentences, ("allenai/ai2_arc", "super_glue"), strict=True):
        assert dataset in sentence and "lm-eval could not load it: ConnectionError" in sentence
        assert offline or "http://127.0.0.1:9 cannot be reached" in sentence
    assert "Retrying" not in done.stderr and "Traceback" not in done.stderr
