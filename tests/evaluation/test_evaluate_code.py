"""The user's own Python travels as text: a worker needs no file, and an edit in the middle of a run changes nothing."""

import pickle
from pathlib import Path

from evomerge.evaluation._python_scorer import BoundScorer, prepare_scorer
from evomerge.evaluation.prepare._request import PoolSizes
from evomerge.evaluation.prepare._task_config import functions_of, read_config

SCORER = """
from dataclasses import dataclass

@dataclass
class Answer:
    value: float

def half(model, tokenizer, items):
    return [Answer(0.5).value for item in items]
"""


def test_a_scorer_needs_its_file_on_the_driver_alone(tmp_path: Path) -> None:
    (tmp_path / "scorer.py").write_text(SCORER)
    (tmp_path / "items.jsonl").write_text("\n".join(f'{{"number": {i}}}' for i in range(9)))
    scorer = f"{tmp_path / 'scorer.py'}:half"
    sizes = PoolSizes(search=3, select=3, report=3)
    packed, pools, _ = prepare_scorer(scorer, tmp_path / "items.jsonl", "max", sizes, 0)
    (tmp_path / "scorer.py").write_text(SCORER.replace("0.5", "0.9"))
    sent = pickle.loads(pickle.dumps(packed))
    assert set(BoundScorer(sent, None, None).values(pools["search"]).values()) == {0.5}
    (tmp_path / "scorer.py").unlink()
    assert set(BoundScorer(sent, None, None).values(pools["search"]).values()) == {0.5}


def test_a_tasks_functions_need_their_file_on_the_driver_alone(tmp_path: Path) -> None:
    functions = "process_results: !function utils.double\nother: !function math.sqrt\n"
    (tmp_path / "task.yaml").write_text(f"task: mine\n{functions}")
    (tmp_path / "utils.py").write_text("def double(x):\n    return 2 * x\n")
    mine, other = functions_of(read_config(tmp_path / "task.yaml", built_in=False))
    digest = mine.digest()
    (tmp_path / "utils.py").unlink()
    sent = pickle.loads(pickle.dumps(mine))
    assert sent.load()(4) == 8
    assert (sent.digest(), other.load()(9.0)) == (digest, 3.0)
