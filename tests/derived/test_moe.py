"""Mixtures of experts: what transformers loads, equal to the dense model where all experts are that model."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from evomerge import moe
from evomerge.api.moe import plan_mixture
from evomerge.checkpoint import Checkpoint
from evomerge.derived.moe import make_gates
from evomerge.errors import DegenerateModel, InvalidFile, InvalidInput
from evomerge.recipe import parse_moe
from evomerge.testing.pico import write_pico

TOKENS = torch.arange(3, 35).view(2, 16)
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return (family) -> base and two fine-tunes."""
    made: dict[str, dict[str, Path]] = {}

    def models(name: str) -> dict[str, Path]:
        if name not in made:
            root = tmp_path_factory.mktemp(name)
            base = write_pico(root / "base", 0, family=name)
            tunes = {f"t{i}": write_pico(root / f"t{i}", i, family=name, near=base) for i in (1, 2)}
            made[name] = {"base": base, **tunes}
        return made[name]

    return models


def config(models: dict[str, Path], *names: str, mode: str = "hidden", **more: Any) -> dict[str, Any]:
    prompts = [{"positive_prompts": ["1+2=", "3*4"], "negative_prompts": ["abc"]}, {"positive_prompts": ["hello you"]}]
    experts = [{"source_model": str(models[name]), **prompts[i % 2]} for i, name in enumerate(names)]
    return {"base_model": str(models["base"]), "gate_mode": mode, "experts": experts, **more}


def shared(models: dict[str, Path], **more: Any) -> list[dict[str, Any]]:
    return [{"source_model": str(models["base"]), "positive_prompts": ["all of it"], **more}]


def logits(folder: Path) -> torch.Tensor:
    from transformers import AutoModelForCausalLM

    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info.get(kind) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.inference_mode():
        result: torch.Tensor = model(TOKENS).logits
    return result


@pytest.mark.parametrize("mode", ["hidden", "cheap_embed", "random", "uniform_random"])
@pytest.mark.parametrize("parent", ["llama", "mistral"])
def test_a_mixtral_of_equal_experts_is_the_dense_model(family: Any, parent: str, mode: str, tmp_path: Path) -> None:
    models = family(parent)
    moe(config(models, "base", "base", "base", mode=mode, experts_per_token=2), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["architectures"] == ["MixtralForCausalLM"]
    torch.testing.assert_close(logits(tmp_path / "out"), logits(models["base"]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("parent", ["qwen2", "qwen3", "llama", "mistral"])
def test_a_qwen_mixture_of_equal_experts_is_the_dense_model(family: Any, parent: str, tmp_path: Path) -> None:
    """Qwen2-MoE adds the shared expert's output, so that is scaled to nothing here; its attention always has biases."""
    models = family(parent)
    more = {} if parent == "qwen3" else {"shared_experts": shared(models, residual_scale=0.0)}
    plan = moe(config(models, "base", "base", **more), tmp_path / "out")
    assert plan.family.name == ("qwen3_moe" if parent == "qwen3" else "qwen2_moe")
    written = load_file(tmp_path / "out" / WEIGHTS)
    assert "model.layers.2.mlp.experts.1.down_proj.weight" in written
    assert ("model.layers.0.mlp.shared_expert_gate.weight" in written) == (parent != "qwen3")
    if parent in ("llama", "mistral"):
        assert not written["model.layers.2.self_attn.k_proj.bias"].any()
    torch.testing.assert_close(logits(tmp_path / "out"), logits(models["base"]), atol=1e-4, rtol=1e-4)


def test_each_expert_is_one_models_mlp(family: Any, tmp_path: Path) -> None:
    models = family("llama")
    document = config(models, "t1", "t2", mode="random", dtype="bfloat16")
    document["experts"][1]["residual_scale"] = 0.5
    plan = moe(document, tmp_path / "out", shard_bytes=40_000)
    written: dict[str, torch.Tensor] = {}
    for shard in (tmp_path / "out").glob("*.safetensors"):
        written |= load_file(shard)
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1
    assert plan.recipe.entry.experts[0].source_model.path == str(models["t1"])
    base, one, two = (load_file(models[name] / WEIGHTS) for name in ("base", "t1", "t2"))
    layer = "model.layers.1."
    for dense, expert in (("gate_proj", "w1"), ("down_proj", "w2"), ("up_proj", "w3")):
        found = [written[f"{layer}block_sparse_moe.experts.{i}.{expert}.weight"] for i in (0, 1)]
        factor = 0.5 if dense == "down_proj" else 1.0
        assert torch.equal(found[0], one[f"{layer}mlp.{dense}.weight"].bfloat16())
        assert torch.equal(found[1], (factor * two[f"{layer}mlp.{dense}.weight"]).bfloat16())
    for name, tensor in base.items():
        if ".mlp." not in name:
            assert torch.equal(written[name], tensor.bfloat16())
    assert written[f"{layer}block_sparse_moe.gate.weight"].shape == (2, 32)
    assert torch.isfinite(logits(tmp_path / "out").float()).all()


def test_gates_point_where_prompts_lead(family: Any) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = family("llama")["base"]
    base = Checkpoint(folder, "base")
    experts = parse_moe(config(family("llama"), "t1", "t2")).entry.experts
    gates = make_gates(base, experts, "hidden", seed=0)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)

    def last(prompt: str, block: int) -> torch.Tensor:
        ids = torch.tensor([tokenizer("<s>" + prompt)["input_ids"]])
        with torch.inference_mode():
            state: torch.Tensor = model(ids, output_hidden_states=True).hidden_states[block][0, -1]
        return state

    for block in range(3):
        direction = (last("1+2=", block) + last("3*4", block)) / 2 - last("abc", block)
        torch.testing.assert_close(gates[block, 0], direction / direction.norm())
        torch.testing.assert_close(gates[block, 1], last("hello you", block) / last("hello you", block).norm())
    rows = load_file(folder / WEIGHTS)["model.embed_tokens.weight"]

    def summed(*prompts: str) -> torch.Tensor:
        ids = [i for prompt in prompts for i in tokenizer("<s>" + prompt)["input_ids"]]
        return torch.nn.functional.normalize(rows[torch.tensor(ids)].sum(0), dim=0)

    cheap = make_gates(base, experts, "cheap_embed", seed=0)
    assert cheap.shape == gates.shape == (3, 2, 32)
    torch.testing.assert_close(cheap[2, 1], summed("hello you"))
    direction = summed("1+2=", "3*4") - summed("abc")
    torch.testing.assert_close(cheap[2, 0], direction / direction.norm())
    uniform = make_gates(base, experts, "uniform_random", seed=0)
    assert 0.9 / 32**0.5 < float(uniform.abs().max()) <= 1 / 32**0.5


def test_the_seed_decides_gates_and_noise(family: Any, tmp_path: Path) -> None:
    models = family("llama")
    document = config(models, "t1", "t1", mode="random")
    for expert in document["experts"]:
        expert["noise_scale"] = 0.01
    torch.manual_seed(3)
    state = torch.get_rng_state()
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        moe(document, tmp_path / name, seed=seed)
    assert torch.equal(state, torch.get_rng_state())
    bytes_of = {name: (tmp_path / name / WEIGHTS).read_bytes() for name in "abc"}
    assert bytes_of["a"] == bytes_of["b"] != bytes_of["c"]
    written = load_file(tmp_path / "a" / WEIGHTS)
    name = "model.layers.0.block_sparse_moe.experts.{}.w1.weight"
    source = load_file(models["t1"] / WEIGHTS)["model.layers.0.mlp.gate_proj.weight"]
    noise = [written[name.format(i)] - source for i in (0, 1)]
    assert float(noise[0].std()) == pytest.approx(0.01, rel=0.1)
    assert not torch.equal(noise[0], noise[1])


def test_every_problem_of_a_file_at_once(family: Any) -> None:
    models = family("llama")
    document = config(models, "t1", "t2", experts_per_token=3)
    document["gatemode"] = "random"
    document["experts"][0]["positve_prompts"] = document["experts"][0].pop("positive_prompts")
    document["dtype"] = "int4"
    with pytest.raises(InvalidFile) as caught:
        parse_moe(document, where="moe.yaml")
    text = str(caught.value)
    assert 'moe.yaml: unknown key "gatemode"' in text
    assert 'Did you mean "gate_mode"?' in text
    assert 'Did you mean "positive_prompts"?' in text
    assert "moe.yaml: dtype" in text
    assert "moe.yaml: experts_per_token: found 3" in text
    assert "moe.yaml: experts.0.positive_prompts: is missing" in text
    with pytest.raises(InvalidFile, match="at least 2 experts"):
        parse_moe(config(models, "t1"))


def test_words_of_merge_recipes_are_read_past_with_a_note(family: Any) -> None:
    plain = config(family("llama"), "t1", "t2", mode="cheap_embed")
    published = {**plain, "int8_mask": True, "parameters": {"normalize": True, "dtype": "bfloat16"}}
    published["experts"] = [{**expert, "parameters": {"weight": 0.5}} for expert in plain["experts"]]
    plan = plan_mixture(published)
    assert [tensor.name for tensor in plan.tensors] == [tensor.name for tensor in plan_mixture(plain).tensors]
    noted = [note.split()[0] for note in plan.notes if "a mixture merges nothing" in note]
    assert sorted(noted) == ["dtype", "int8_mask", "normalize", "weight"]
    for wrong in ({"int8_maks": True}, {"parameters": {"int8_maks": True}}, {"out_dtype": "float32"}):
        with pytest.raises(InvalidFile, match="unknown key"):
            parse_moe({**plain, **wrong})


def test_nothing_is_left_behind_by_what_cannot_be(family: Any, tmp_path: Path) -> None:
    llama, qwen = family("llama"), family("qwen2")
    wide = write_pico(tmp_path / "wide", 1, intermediate_size=64)
    broken = write_pico(tmp_path / "broken", 1)
    tensors = load_file(broken / WEIGHTS)
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = float("inf")
    save_file(tensors, broken / WEIGHTS, metadata={"format": "pt"})
    mixed = {**llama, "q": qwen["base"], "w": wide, "b": broken}
    same = config(llama, "t1", "t2")
    same["experts"][0] |= {"positive_prompts": ["abc"], "negative_prompts": ["abc"]}
    gpt = {"base": write_pico(tmp_path / "gpt", 0, family="gpt2")}
    cases: list[tuple[dict[str, Any], type[Exception], str]] = [
        (config(gpt, "base", "base"), InvalidInput, 'is a "gpt2" model, expected one of'),
        (config(mixed, "t1", "q"), InvalidInput, 'is a "qwen2" model, expected mistral or llama'),
        (config(mixed, "t1", "w"), InvalidInput, r"up_proj.weight is \[64, 32\] in"),
        (config(mixed, "t1", "b"), DegenerateModel, "experts.1.w3.weight is not finite"),
        (config(qwen, "t1", "t2"), InvalidInput, "shared_experts: is missing"),
        (
            config(llama, "t1", "t2", architecture="mixtral", shared_experts=shared(llama)),
            InvalidInput,
            "mixtral has none",
        ),
        (config(llama, "t1", "t2", architecture="qwen2_moe"), InvalidInput, "qwen2_moe needs one"),
        (config(llama, "t1", "t2", architecture="Qwen3"), InvalidInput, "makes a mixtral or qwen2_moe"),
        (same, InvalidInput, "lead to the same states"),
    ]
    before = sorted(path.name for path in tmp_path.iterdir())
    for document, kind, text in cases:
        with pytest.raises(kind, match=text):
            moe(document, tmp_path / "out")
    with pytest.raises(InvalidInput, match="exists already"):
        moe(config(llama, "t1", "t2"), broken)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_prompts_that_end_alike_leave_a_block_undecided(family: Any, tmp_path: Path) -> None:
    """What enters the first block at a prompt's last token is that token's embedding, whatever came before."""
    models = family("llama")
    document = config(models, "t1", "t2")
    document["experts"][0] |= {"positive_prompts": ["1+2=?"], "negative_prompts": ["abc?"]}
    plan = moe(document, tmp_path / "one")
    gates = [load_file(tmp_path / "one" / WEIGHTS)[f"model.layers.{i}.block_sparse_moe.gate.weight"] for i in (0, 1)]
    assert not gates[0][0].any()
    assert float(gates[1][0].norm()) == pytest.approx(1)
    assert not plan.notes
    document["experts"][0] |= {"positive_prompts": ["1+2=?"], "negative_prompts": []}
    document["experts"][1] |= {"positive_prompts": ["abc?"], "negative_prompts": []}
    assert any("in block 0 two experts" in note for note in moe(document, tmp_path / "two").notes)
    document["experts"][0]["positive_prompts"] = ["abc?"]
    assert any("in every block two experts" in note for note in moe(document, tmp_path / "three").notes)


def test_architectures_by_their_mergekit_names(family: Any) -> None:
    models = family("llama")
    for asked, expected in (
        ("qwen", ("qwen2_moe", "qwen3_moe")),
        ("Mixtral", ("mixtral",)),
        ("qwen2_moe", ("qwen2_moe",)),
    ):
        assert parse_moe(config(models, "t1", "t2", architecture=asked)).entry.families == expected
    with pytest.raises(InvalidFile, match=r'architecture: found "deepseek", .* mixtral takes the same models'):
        parse_moe(config(models, "t1", "t2", architecture="deepseek"))


def test_the_folder_says_what_it_is(family: Any, tmp_path: Path) -> None:
    models = family("qwen2")
    plan = moe(config(models, "t1", "t2", mode="random", shared_experts=shared(models)), tmp_path / "out", seed=4)
    assert any("uses no prompts" in note for note in plan.notes)
    assert any("needs training" in note for note in plan.notes)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "qwen2_moe" in card
    assert "--seed 4" in card
    record = json.loads((tmp_path / "out" / "evomerge.json").read_text())
    assert len(record["parents"]) == 3
    again = parse_moe(yaml.safe_load((tmp_path / "out" / "moe.yaml").read_text()))
    assert again.entry == plan.recipe.entry
