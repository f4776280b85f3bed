"""What a candidate's scoring leaves behind reaches no other candidate; parents' files must stay what they were."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from evomerge.api.merge import merge
from evomerge.checkpoint import CheckpointWriter
from evomerge.errors import ParentChanged
from evomerge.evaluation import PoolSizes, TaskRequest, prepare_tasks
from evomerge.recipe import ModelRef
from evomerge.run import CandidateScorer, Job, Run, WorkerSetup, search
from evomerge.testing.pico import VOCABULARY, write_pico
from tests.run.pico_search import write_search

Scorer = Callable[[Any, Any, list[dict[str, Any]]], list[float]]
WEIGHT = "model.layers.0.mlp.down_proj.weight"
ITEMS = [{"text": "abc"}, {"text": "cab"}]


def reading(model: Any, tokenizer: Any, items: list[dict[str, Any]]) -> list[float]:
    """Score texts by a number that every weight, mode and token has a part in."""
    if model.training or model.config.hidden_size != 32 or model.generation_config.max_new_tokens is not None:
        return [-1.0] * len(items)
    ids = [torch.tensor([tokenizer.encode(item["text"])]) for item in items]
    return [float(model(text).logits.float().abs().sum()) for text in ids]


def worker(scorers: list[Scorer], *parents: Path, digests: bool = False) -> CandidateScorer:
    requests = [TaskRequest(scorer=scorer, items=ITEMS, name=scorer.__name__) for scorer in scorers]
    refs = tuple(ModelRef(str(parent)) for parent in parents)
    setup = WorkerSetup(
        parents=refs,
        root=None,
        prepared=prepare_tasks(requests, pools=PoolSizes(search=0, select=0, report=2), seed=0),
        batch_size=2,
        threads=1,
        device="cpu",
    )
    return CandidateScorer(setup, "test")


def job(document: dict[str, Any], *names: str) -> Job:
    return Job(candidate=1, pool="report", document=document, items=dict.fromkeys(names, (0, 1)))


def alone(parent: Path) -> dict[str, Any]:
    return {"merge_method": "passthrough", "models": [{"model": str(parent)}]}


def average(*parents: Path) -> dict[str, Any]:
    return {"merge_method": "linear", "models": [{"model": str(p), "parameters": {"weight": 1}} for p in parents]}


def values(scorer: CandidateScorer, document: dict[str, Any]) -> tuple[float, ...]:
    outcome = scorer.score(job(document, "reading"))
    assert outcome.items is not None, outcome.failure
    return outcome.items["reading"].values


def test_a_score_does_not_depend_on_the_tokenizer_before(tmp_path: Path) -> None:
    one = write_pico(tmp_path / "one", 0)
    two = write_pico(tmp_path / "two", 1, near=one)
    content = json.loads((two / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    content["model"]["vocab"] = {token: (number + 20) % VOCABULARY for token, number in vocabulary.items()}
    (two / "tokenizer.json").write_text(json.dumps(content))
    used = worker([reading], one, two)
    after = [values(used, alone(parent)) for parent in (one, two, one, two)]
    fresh = [values(worker([reading], one, two), alone(parent)) for parent in (one, two)]
    assert after == [*fresh, *fresh]


def zeroes_a_weight(model: Any, tokenizer: Any, items: list[dict[str, Any]]) -> list[float]:
    dict(model.named_parameters())[WEIGHT].data.zero_()
    return [1.0] * len(items)


def writes_by_numpy(model: Any, tokenizer: Any, items: list[dict[str, Any]]) -> list[float]:
    dict(model.named_parameters())[WEIGHT].detach().numpy()[1, 1] += 1
    return [1.0] * len(items)


def swaps_rows(model: Any, tokenizer: Any, items: list[dict[str, Any]]) -> list[float]:
    weight = dict(model.named_parameters())[WEIGHT].data
    weight[[0, 1]] = weight[[1, 0]]
    return [1.0] * len(items)


def halves_it(model: Any, tokenizer: Any, items: list[dict[str, Any]]) -> list[float]:
    model.half()
    return [1.0] * len(items)


def replaces_a_module(model: Any, tokenizer: Any, items: list[dict[str, Any]]) -> list[float]:
    model.model.layers[1] = model.model.layers[0]
    return [1.0] * len(items)


def fails_half_way(model: Any, tokenizer: Any, items: list[dict[str, Any]]) -> list[float]:
    zeroes_a_weight(model, tokenizer, items)
    raise RuntimeError("half-way")


@pytest.mark.parametrize("kind", [alone, average])
@pytest.mark.parametrize(
    "harmful", [zeroes_a_weight, writes_by_numpy, swaps_rows, halves_it, replaces_a_module, fails_half_way]
)
def test_a_scorer_that_changes_the_model_harms_no_other(harmful: Scorer, kind: Any, tmp_path: Path) -> None:
    one = write_pico(tmp_path / "one", 0)
    two = write_pico(tmp_path / "two", 1, near=one)
    models = (one, two) if kind is average else (one,)
    used = worker([reading, harmful], one, two)
    before = values(used, kind(*models))
    spoiled = used.score(job(kind(*models), harmful.__name__))
    assert spoiled.items is None and spoiled.failure is not None
    assert spoiled.failure.kind == "failed"
    assert "changed the model that it scores" in spoiled.failure.reason
    assert values(used, kind(*models)) == before
    assert values(used, alone(one)) == values(worker([reading], one, two), alone(one))


def forgets_its_settings(model: Any, tokenizer: Any, items: list[dict[str, Any]]) -> list[float]:
    model.train()
    model.config.hidden_size = 1
    model.config.rope_parameters["rope_theta"] = 3.0
    model.generation_config.max_new_tokens = 1
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    model.model.layers[0].register_forward_hook(lambda *given: None)
    model.model.register_forward_pre_hook(lambda *given: 1 / 0)
    return [2.0] * len(items)


def test_settings_are_put_back(tmp_path: Path) -> None:
    one = write_pico(tmp_path / "one", 0)
    used = worker([forgets_its_settings, reading], one)
    before = values(worker([reading], one), alone(one))
    outcome = used.score(job(alone(one), "forgets_its_settings", "reading"))
    assert outcome.items is not None, outcome.failure
    assert outcome.items["forgets_its_settings"].values == (2.0, 2.0)
    assert outcome.items["reading"].values == before == values(used, alone(one))


# -- parents' files


def overwrite(file: Path) -> None:
    """Change a weight in place, as rsync --inplace does."""
    with file.open("r+b") as stream:
        stream.seek(-8, os.SEEK_END)
        stream.write(b"\x3f" * 8)


def shrink(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def vanish(file: Path) -> None:
    file.unlink()


def replace(file: Path) -> None:
    """Put another file in its place, as a download does."""
    other = file.with_suffix(".new")
    shutil.copyfile(file, other)
    overwrite(other)
    os.replace(other, file)


FAULTS = {overwrite: "changed while it was in use", shrink: "bytes", vanish: "is not any more", replace: "changed"}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_parent_that_changes_ends_the_scoring_in_words(fault: Callable[[Path], None], tmp_path: Path) -> None:
    one = write_pico(tmp_path / "one", 0)
    two = write_pico(tmp_path / "two", 1, near=one)
    used = worker([reading], one, two)
    values(used, average(one, two))
    fault(two / "model.safetensors")
    with pytest.raises(ParentChanged) as caught:
        used.score(job(average(one, two), "reading"))
    assert str(two / "model.safetensors") in str(caught.value)
    assert FAULTS[fault] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_parent_that_changes_while_it_is_scored_gives_no_score(tmp_path: Path) -> None:
    one = write_pico(tmp_path / "one", 0)

    def meddling(model: Any, tokenizer: Any, items: list[dict[str, Any]]) -> list[float]:
        replace(one / "model.safetensors")
        return [1.0] * len(items)

    with pytest.raises(ParentChanged):
        worker([meddling], one).score(job(alone(one), "meddling"))


def test_a_merge_leaves_nothing_of_a_parent_that_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = write_pico(tmp_path / "one", 0)
    two = write_pico(tmp_path / "two", 1, near=one)
    write = CheckpointWriter.write

    def meddled(self: CheckpointWriter, name: str, tensor: torch.Tensor) -> None:
        write(self, name, tensor)
        if name.startswith("model.layers.1."):
            shrink(two / "model.safetensors") if (two / "model.safetensors").stat().st_size > 60_000 else None

    monkeypatch.setattr(CheckpointWriter, "write", meddled)
    with pytest.raises(ParentChanged, match="bytes"):
        merge(average(one, two), tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two"}


def test_a_run_whose_parent_was_written_again_goes_on(pico: dict[str, Path], tmp_path: Path) -> None:
    """The date alone changed: the digest, which a run knows, says that nothing did."""
    copies = {name: Path(shutil.copytree(path, tmp_path / "models" / name)) for name, path in pico.items()}
    file = write_search(tmp_path, copies, budget={"candidates": 6})
    touched: list[int] = []

    class Toucher:
        def say(self, line: str) -> None: ...

        def update(self, progress: Any) -> None:
            if progress.phase == "searching" and not touched:
                touched.append(1)
                os.utime(copies["one"] / "model.safetensors")

    run = search(file, tmp_path / "run", observer=Toucher())
    assert touched and run.state == "done"


def test_a_run_whose_parent_changed_ends_and_is_refused_after(pico: dict[str, Path], tmp_path: Path) -> None:
    copies = {name: Path(shutil.copytree(path, tmp_path / "models" / name)) for name, path in pico.items()}
    file = write_search(tmp_path, copies, budget={"candidates": 6})
    changed: list[int] = []

    class Meddler:
        def say(self, line: str) -> None: ...

        def update(self, progress: Any) -> None:
            if progress.phase == "searching" and not changed:
                changed.append(1)
                overwrite(copies["one"] / "model.safetensors")

    with pytest.raises(ParentChanged, match=r"one/model\.safetensors: changed while it was in use"):
        search(file, tmp_path / "run", observer=Meddler())
    assert Run(tmp_path / "run").state == "searching"
