"""What was scored is what is exported: plain transformers gives the item answers that the ledger holds."""

from pathlib import Path
from typing import Any

import pytest

from evomerge.checkpoint import Parents
from evomerge.engine import make_plan, write_folder
from evomerge.run import check_search, search
from tests.run.config.test_search_file import write_task
from tests.run.pico_search import write_search

WEIGHT = {"per": ["model", "layer"], "range": [0.05, 1.2]}
DENSITY = {"per": ["model"], "range": [0.1, 1]}
SPACES: dict[str, dict[str, Any]] = {
    "linear": {"method": "linear", "genes": {"weight": WEIGHT}},
    "task_arithmetic": {"method": "task_arithmetic", "genes": {"weight": WEIGHT}},
    "slerp": {"method": "slerp", "genes": {"t": {"per": ["layer", "module"], "range": [0, 1]}}},
    "ties": {"method": "ties", "genes": {"weight": WEIGHT, "density": DENSITY}},
    "dare_ties": {"method": "dare_ties", "genes": {"weight": WEIGHT, "density": DENSITY}},
    "dare_linear": {"method": "dare_linear", "genes": {"weight": WEIGHT, "density": DENSITY}},
    "stack": {
        "method": "passthrough",
        "genes": {"source": {"per": "layer"}, "gain": {"per": "layer", "range": [0.5, 1.5]}},
    },
}


@pytest.mark.parametrize("method", SPACES)
def test_the_exported_pick_answers_as_the_ledger_says(method: str, pico: dict[str, Path], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    write_task(tmp_path / "tasks", "letters", 40)
    models = ["one"] if method == "slerp" else ["one", "two"]
    file = write_search(
        tmp_path,
        pico,
        parents={"base": str(pico["base"]), "models": [str(pico[name]) for name in models]},
        space=SPACES[method],
        tasks=[{"task": "letters"}],
        task_path="tasks",
        pools={"search": 12, "select": 12, "report": 16},
        subset={"size": 8},
        budget={"candidates": 4},
        proof={"finalists": 2, "race": "off", "report": "chosen"},
        workers={"count": 0, "batch_size": 5},
    )
    run = search(file, tmp_path / "run")
    recipe = run.recipe(run.pick)
    parents = Parents(recipe.models, recipe.root)
    write_folder(make_plan(recipe, parents), parents, tmp_path / "export")

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "export")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "export")
    prepared = check_search(file).prepared
    for pool in ("select", "report"):
        kept = run.items(pool)[run.pick.id]
        again = prepared.scorer(model, tokenizer, batch_size=5).score({"letters": kept["letters"].ids})
        assert again["letters"].values == kept["letters"].values
        assert again["letters"].soft == pytest.approx(kept["letters"].soft, abs=1e-4)
        assert len(set(kept["letters"].soft)) > 5
    assert run.verdict is not None
