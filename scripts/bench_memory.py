"""Peak memory of merging 7 B-shaped bf16 models. The parents are sparse files: they take no disk, and read as zeros.

Usage: python scripts/bench_memory.py [--methods slerp ties] [--layers 32] [--folder FOLDER]

Runs `evomerge merge` as whole processes and prints the largest anonymous memory seen (mapped files do not count: the
system drops their pages whenever it needs room). The result takes 13.5 GB of disk in FOLDER while it is there.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import yaml
from bench_merge import OURS, timed

HIDDEN, INTERMEDIATE, VOCABULARY = 4096, 11008, 32000


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


def main() -> None:
    """Make the parents, merge them with each method, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="*", default=["slerp", "ties", "dare_ties"])
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--folder", type=Path, default=None, help="where there is room for the result")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        folder = Path(temporary)
        size = max(write_sparse(folder / name, arguments.layers) for name in ("base", "one"))
        print(f"two parents of {size / 2e9:.2f} B parameters in bf16 ({size / 1e9:.1f} GB each)")
        for method in arguments.methods:
            given = {} if method == "slerp" else {"parameters": {"weight": 0.5, "density": 0.5}}
            document = {"merge_method": method, "base_model": str(folder / "base"), "dtype": "bfloat16"}
            document["models"] = [{"model": str(folder / "one"), **given}]
            document |= {"parameters": {"t": 0.4}} if method == "slerp" else {}
            (folder / "recipe.yaml").write_text(yaml.safe_dump(document))
            result = timed([*OURS, str(folder / "recipe.yaml"), str(folder / f"out-{method}")])
            print(
                f"{method}: {result.seconds:.0f} s, peak anonymous memory {result.anonymous / 1e9:.2f} GB", flush=True
            )
            for path in sorted((folder / f"out-{method}").glob("*")):
                path.unlink()


if __name__ == "__main__":
    main()
