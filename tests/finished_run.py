"""A finished inline run over pico parents, made once a session for the tests that only read one."""

import json
from pathlib import Path

import yaml

SCORER = '''
def share(model, tokenizer, items):
    """1 for items whose threshold two tensors' weights reach: quick, exact, best where the layers differ."""
    weights = dict(model.named_parameters())
    first, second = (weights[f"model.layers.{i}.mlp.up_proj.weight"].float().flatten()[::7].sum() for i in (0, 1))
    level = float(first - 4 * second)
    return [1.0 if level > item["threshold"] else 0.0 for item in items]
'''


def make_run(pico: dict[str, Path], folder: Path) -> Path:
    """Run a small search in `folder` and return the run folder."""
    from evomerge.run import search

    (folder / "share.py").write_text(SCORER)
    lines = [json.dumps({"threshold": i / 100 - 3.4, "number": i}) for i in range(120)]
    (folder / "items.jsonl").write_text("\n".join(lines))
    data = {
        "parents": {"base": str(pico["base"]), "models": [str(pico["one"]), str(pico["two"])]},
        "space": "layerwise_task_arithmetic",
        "tasks": [{"scorer": "share.py:share", "items": "items.jsonl"}],
        "pools": {"search": 40, "select": 40, "report": 40},
        "subset": {"size": 20},
        "budget": {"candidates": 24},
        "workers": {"count": 0},
        "proof": {"finalists": 3},
    }
    (folder / "search.yaml").write_text(yaml.safe_dump(data))
    return search(folder / "search.yaml", folder / "run").path
