"""A finished inline run over pico parents, made once a session for the tests that only read one."""

import json
from pathlib import Path

import yaml

SCORER = '''
def share(model, tokenizer, items):
    """1 for items whose threshold the mean weight of one tensor reaches: quick, exact, different for each merge."""
    weight = dict(model.named_parameters())["model.layers.1.mlp.up_proj.weight"].float()
    level = float(weight.flatten()[::7].sum())
    return [1.0 if level > item["threshold"] else 0.0 for item in items]
'''


def make_run(pico: dict[str, Path], folder: Path) -> Path:
    """Run a small search in `folder` and return the run folder."""
    from evomerge.run import search

    (folder / "share.py").write_text(SCORER)
    lines = [json.dumps({"threshold": (i - 60) / 10, "number": i}) for i in range(120)]
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
