"""A search over parents of different vocabularies: rows by their tokens, honest references, exports that are equal."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from evomerge.checkpoint import Parents
from evomerge.engine import LiveModel, gathered_bytes, make_plan, write_folder
from evomerge.errors import InvalidFile
from evomerge.results import contributions, export, shares_of
from evomerge.run import Run, check_search, resource_needs, search
from evomerge.testing.faults import DriverDied, faulty
from evomerge.testing.pico import write_pico
from tests.run.config.test_search_file import write_task
from tests.run.pico_search import differences

LETTERS = "0123456789:;abcdefghijklmnopqrstuvwxyz "
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
WEIGHT = {"per": ["model", "module"], "range": [0, 1.2]}
SPACES: dict[str, dict[str, Any]] = {
    "task_arithmetic": {"method": "task_arithmetic", "genes": {"weight": WEIGHT}},
    "ties": {"method": "ties", "genes": {"weight": WEIGHT, "density": {"per": ["model"], "range": [0.1, 1]}}},
    "stack": {"method": "passthrough", "genes": {"source": {"per": "layer"}}},
}


HYBRID = {
    "kind": "hybrid",
    "parameter_space": {"method": "task_arithmetic", "genes": {"weight": {"per": "model", "range": [0, 1]}}},
}


def write_parent(folder: Path, seed: int, words: str, near: Path | None = None, *, added: tuple[str, ...] = ()) -> Path:
    """Write a pico model with a token for each character, in this order."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    if added:
        fast.add_special_tokens({"additional_special_tokens": list(added)})
    write_pico(folder, seed, vocab_size=len(fast), near=near)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def parents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three parents: one lacks letters of the base and has its own order, one adds a token and lacks nothing."""
    root = tmp_path_factory.mktemp("vocabularies")
    return {
        "base": write_parent(root / "base", 0, LETTERS),
        "one": write_parent(root / "one", 1, LETTERS[:8:-1] + "ABCDE"),
        "two": write_parent(root / "two", 2, LETTERS, added=("<tool>",)),
    }


def write_file(folder: Path, parents: dict[str, Path], **changes: Any) -> Path:
    """Write a search file over all three parents."""
    write_task(folder / "tasks", "letters", 40)
    data = {
        "parents": {"base": str(parents["base"]), "models": [str(parents["one"]), str(parents["two"])]},
        "space": SPACES["task_arithmetic"],
        "tokenizer": "union",
        "tasks": [{"task": "letters"}],
        "task_path": "tasks",
        "pools": {"search": 12, "select": 12, "report": 16},
        "subset": {"size": 8},
        "budget": {"candidates": 4},
        "proof": {"finalists": 2},
        "workers": {"count": 0, "batch_size": 5},
        **changes,
    }
    stated = {key: value for key, value in data.items() if value is not None}
    (folder / "search.yaml").write_text(yaml.safe_dump(stated))
    return folder / "search.yaml"


@pytest.fixture(scope="module")
def found(parents: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Run]]:
    """A finished search on the union."""
    folder = tmp_path_factory.mktemp("union")
    file = write_file(folder, parents)
    yield file, search(file, folder / "run")


@pytest.mark.parametrize(("space", "tokenizer"), [("ties", "union"), ("task_arithmetic", "one"), ("stack", "base")])
def test_the_exported_pick_answers_as_the_ledger_says(
    space: str, tokenizer: str, parents: dict[str, Path], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = write_file(tmp_path, parents, space=SPACES[space], tokenizer=tokenizer)
    run = search(file, tmp_path / "run")
    assert [candidate.failure for candidate in run.candidates() if candidate.failure] == []
    best = max(c.id for c in run.candidates() if c.kind == "candidate" and "select" in c.scores)
    [folder, *_] = export(run, tmp_path / "export", candidate_id=best)
    model, tokens = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    kept = run.items("select")[best]
    prepared = check_search(file).prepared
    again = prepared.scorer(model, tokens, batch_size=5).score({"letters": kept["letters"].ids})
    assert again["letters"].values == kept["letters"].values
    assert again["letters"].soft == pytest.approx(kept["letters"].soft, abs=1e-4)
    assert len(set(kept["letters"].soft)) > 5


def test_live_and_export_are_equal_bit_for_bit_and_rows_are_gathered_once(
    found: tuple[Path, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    setup = check_search(found[0])
    start = make_plan(setup.recipe(setup.document(setup.space.start)), setup.parents)
    alignment = next(type(tensor.rows.alignment) for tensor in start.tensors if tensor.rows)
    gathered: list[str] = []
    gather = alignment.gather

    def counted(self: Any, model: Any, fetch: Any) -> torch.Tensor:
        gathered.append(str(model))
        return gather(self, model, fetch)

    monkeypatch.setattr(alignment, "gather", counted)
    live = LiveModel(setup.parents, row_bytes=setup.row_bytes)
    candidates = [c for c in found[1].candidates() if c.kind == "candidate"]
    for number, candidate in enumerate(candidates[:3]):
        plan = make_plan(setup.recipe(candidate.recipe), setup.parents)
        live.apply(plan)
        write_folder(plan, Parents(plan.recipe.models, plan.recipe.root), tmp_path / str(number))
        stored = load_file(tmp_path / str(number) / "model.safetensors")
        for name, tensor in stored.items():
            assert torch.equal(live.tensor(name), tensor), name
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / str(number))
        prompt = torch.tensor([live.tokenizer.encode("q7: c")])
        settings = {"max_new_tokens": 12, "do_sample": False}
        assert torch.equal(live.model.generate(prompt, **settings), loaded.generate(prompt, **settings))
    exported = 3 * 2 * len(candidates[:3])  # each export gathers embedding and head of three parents
    assert len(gathered) == exported + 3 * 2


def test_a_parent_is_scored_as_it_is_and_on_the_tokenizer(found: tuple[Path, Run], parents: dict[str, Path]) -> None:
    run = found[1]
    kinds = {candidate.name: candidate for candidate in run.candidates() if candidate.kind in ("parent", "simple")}
    for path in parents.values():
        name = str(path)
        assert "tokenizer" not in kinds[name].recipe
        assert kinds[f"{name} with the result's tokenizer"].recipe["tokenizer"] == {"source": "union"}
    assert kinds["uniform average"].recipe["tokenizer"] == {"source": "union"}
    setup = check_search(found[0])
    points = setup.reference_points
    assert str(parents["one"]) not in points and f"{parents['one']} with the result's tokenizer" in points
    for name, point in points.items():
        assert setup.document(point)["tokenizer"] == {"source": "union"}
        document = setup.document(point)
        assert setup.document(setup.encode(document)) == document, name
    assert "without gene gradients" not in (run.path / "logs" / "run.log").read_text()


def test_the_owner_of_the_tokenizer_needs_no_second_reference(parents: dict[str, Path], tmp_path: Path) -> None:
    setup = check_search(write_file(tmp_path, parents, tokenizer="base"))
    assert setup.vocabulary is not None and setup.vocabulary.unchanged == (str(parents["base"]),)
    names = [reference.name for reference in setup.references]
    assert f"{parents['base']} with the result's tokenizer" not in names
    assert str(parents["base"]) in setup.reference_points
    assert setup.document(setup.space.start)["tokenizer"] == {"source": str(parents["base"])}


def test_memory_counts_the_rows_that_each_worker_keeps(parents: dict[str, Path], tmp_path: Path) -> None:
    setup = check_search(write_file(tmp_path, parents))
    plan = make_plan(setup.recipe(setup.document(setup.space.start)), setup.parents)
    rows = len(SPECIAL) + len(LETTERS) + len("ABCDE") + 1
    moved = 3  # base and two are padded to the union's rows
    assert setup.row_bytes == gathered_bytes(plan, setup.parents) == moved * 2 * rows * 32 * 4
    one, two = (resource_needs(check_search(write_file(tmp_path, parents), workers=n)).memory_needed for n in (1, 2))
    apart = [setup.parents[ref].size_bytes for ref in setup.refs]
    assert two - one == max(apart) + setup.row_bytes + 700_000_000


def test_a_run_that_died_ends_like_one_that_did_not_and_another_tokenizer_is_refused(
    found: tuple[Path, Run], parents: dict[str, Path], tmp_path: Path
) -> None:
    file, run = found
    for fault in ({3: "driver dies"}, {4: "driver dies late"}):
        with pytest.raises(DriverDied):
            search(file, tmp_path / "torn", executor=faulty(fault))
    with pytest.raises(InvalidFile, match=r"tokenizer.source: differs from what this run was started with"):
        search(write_file(tmp_path, parents, tokenizer="base"), tmp_path / "torn")
    assert search(file, tmp_path / "torn").state == "done"
    assert differences(run.path, tmp_path / "torn") == []


def test_chats_are_by_the_template_of_the_candidates(parents: dict[str, Path], tmp_path: Path) -> None:
    two = tmp_path / "chatty"
    shutil.copytree(parents["two"], two)
    settings = json.loads((two / "tokenizer_config.json").read_text())
    settings["chat_template"] = "{% for message in messages %}q{{ message.content }}{% endfor %}"
    (two / "tokenizer_config.json").write_text(json.dumps(settings))
    models, chats = {**parents, "two": two}, {"apply_chat_template": True}
    setup = check_search(write_file(tmp_path, models, tokenizer=str(two), lm_eval=chats))
    assert setup.prepared.tasks["letters"].prompt.startswith("q")
    assert f"prompts are chats by {two}'s template for every model, parents as they are included" in setup.notes
    with pytest.raises(InvalidFile, match="the tokenizer has no chat template"):
        check_search(write_file(tmp_path, models, tokenizer="union", lm_eval=chats))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no tokenizer": ({"tokenizer": None}, "puts all of them on one vocabulary"),
    "none of the parents": ({"tokenizer": "./elsewhere"}, "./elsewhere is none of the search's parents; name one of"),
    "a token of nobody": (
        {"tokenizer": {"tokens": {"a": {"source": {"kind": "model_token", "model": "BASE", "token": "zz"}}}}},
        "zz",
    ),
    "a number": ({"tokenizer": 3}, "tokenizer"),
    "an unknown key": ({"tokenizer": {"sorce": "union"}}, 'Did you mean "source"?'),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_meant_is_refused(case: str, parents: dict[str, Path], tmp_path: Path) -> None:
    changes, words = WRONG[case]
    changes = json.loads(json.dumps(changes).replace("BASE", str(parents["base"])))
    with pytest.raises(InvalidFile) as caught:
        check_search(write_file(tmp_path, parents, **changes))
    assert words in str(caught.value)


def test_the_mergekit_file_names_the_tokenizer(found: tuple[Path, Run], tmp_path: Path) -> None:
    [file] = export(found[1], tmp_path / "out", candidate_id=found[1].candidates()[-1].id, formats=["mergekit"])
    assert yaml.safe_load(file.read_text())["tokenizer"] == {"source": "union"}


@pytest.mark.parametrize("space", ["task_arithmetic", "hybrid"])
def test_shares_are_known_without_the_parents(
    space: str, found: tuple[Path, Run], parents: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = check_search(found[0] if space == "task_arithmetic" else write_file(tmp_path, parents, space=HYBRID))
    reals = setup.space.domain.reals
    point = replace(setup.space.start, reals=tuple(0.3 + 0.5 * (i % 2) for i in range(reals)))
    document = setup.document(point)
    assert ("merges" in document.get("evomerge", {})) == (space == "hybrid")
    candidate = replace(found[1].candidates()[-1], recipe=document)
    expected = contributions(found[1], candidate)
    monkeypatch.setattr("evomerge.checkpoint._resolve.open_model", None)
    shares = shares_of(found[1], candidate)
    assert shares.note == "" and len(shares.factors) == 4
    for block, factors in shares.factors.items():
        assert factors == pytest.approx(expected[block], abs=0.02), block
