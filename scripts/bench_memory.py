"""Peak memory of merging 7 B-shaped bf16 models. The parents are sparse files: they take no disk, and read as zeros.

Usage: python scripts/bench_memory.py [--methods slerp ties] [--layers 32] [--folder FOLDER] [--limit 8G]

Runs `evomerge merge` as whole processes and prints the largest anonymous memory seen (mapped files do not count: the
system drops their pages whenever it needs memory). With --limit each runs in a memory cgroup of that size, which mapped
files and what is written count toward. The result takes 13.5 GB of disk in FOLDER while it is there.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from bench_merge import OURS, Timing, timed
from memory_limit import memory_cgroup

HIDDEN, INTERMEDIATE, VOCABULARY = 4096, 11008, 32000
METHODS = ("linear", "slerp", "task_arithmetic", "ties", "dare_ties", "breadcrumbs", "della", "model_stock")


def tensors(layers: int) -> dict[str, list[int]]:
    """Return the tensors of a Llama of 7 billion parameters (at 32 layers)."""
    found = {"model.embed_tokens.weight": [VOCABULARY, HIDDEN]}
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        found |= {f"{prefix}self_attn.{name}_proj.weight": [HIDDEN, HIDDEN] for name in "qkvo"}
        found |= {f"{prefix}mlp.{name}_proj.weight": [INTERMEDIATE, HIDDEN] for name in ("gate", "up")}
        found[f"{prefix}mlp.down_proj.weight"] = [HIDDEN, INTERMEDIATE]
        found |= {f"{prefix}{name}.weight": [HIDDEN] for name in ("input_layernorm", "post_attention_layernorm")}
    return found | {"model.norm.weight": [HIDDEN], "lm_head.weight": [VOCABULARY, HIDDEN]}


def write_sparse(folder: Path, layers: int) -> int:
    """Write a model folder whose weights are one sparse file, and return its bytes."""
    folder.mkdir(parents=True)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": layers}
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": HIDDEN, "vocab_size": VOCABULARY}))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in tensors(layers).items():
        end = offset + 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + offset)
    return offset


def recipe(method: str, folder: Path) -> dict[str, Any]:
    """Return a recipe of two parents (model_stock: three)."""
    own = {"linear": ["weight"], "task_arithmetic": ["weight"], "slerp": [], "model_stock": []}
    parameters = dict.fromkeys(own.get(method, ["weight", "density"]), 0.5)
    models = {"linear": ["base", "one"], "model_stock": ["one", "two"]}.get(method, ["one"])
    document: dict[str, Any] = {"merge_method": method, "dtype": "bfloat16"}
    document["models"] = [{"model": str(folder / name), "parameters": parameters} for name in models]
    if method != "linear":
        document["base_model"] = str(folder / "base")
    if method == "slerp":
        document["parameters"] = {"t": 0.4}
    return document


def merge(method: str, folder: Path, limit: str | None) -> tuple[Timing, int | None]:
    """Run one merge, remove its result, and return its timing and the peak of its cgroup in bytes, if it had one."""
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe(method, folder)))
    command = [*OURS, str(folder / "recipe.yaml"), str(folder / "out")]
    try:
        if limit is None:
            return timed(command), None
        with memory_cgroup(limit) as cgroup:
            return timed(cgroup.run_in(command)), cgroup.peak_bytes
    finally:
        shutil.rmtree(folder / "out", ignore_errors=True)


def main() -> None:
    """Make the parents, merge them with each method, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="*", default=METHODS, choices=METHODS)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--folder", type=Path, default=None, help="where the result fits")
    parser.add_argument("--limit", help="size of a memory cgroup for each merge, such as 8G")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        folder = Path(temporary)
        size = max(write_sparse(folder / name, arguments.layers) for name in ("base", "one", "two"))
        print(f"parents of {size / 2e9:.2f} B parameters in bf16 ({size / 1e9:.1f} GB each)")
        print("| method | s | peak anonymous memory, GB | peak of the cgroup, GB |\n|---|---|---|---|")
        for method in arguments.methods:
            try:
                timing, peak = merge(method, folder, arguments.limit)
            except OSError as error:
                sys.exit(f"--limit: {error}")
            inside = "-" if peak is None else f"{peak / 1e9:.2f}"
            print(f"| {method} | {timing.seconds:.0f} | {timing.anonymous / 1e9:.2f} | {inside} |", flush=True)


if __name__ == "__main__":
    main()
