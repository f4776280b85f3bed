"""Make the parents of the planted stack: two copies of a trained model with noise in place of other blocks.

python experiments/planted_stack/make_parents.py        # a second; writes models/ beside this file
"""

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

HERE = Path(__file__).resolve().parent
TRAINED = HERE.parent / "quickstart" / "models" / "reverse"
DAMAGED = {"one": (1, 3), "two": (2, 4)}  # parent -> its blocks whose matrices are noise of the same spread


def make(name: str, blocks: tuple[int, ...], out: Path) -> None:
    """Write one parent.

    Args:
        name: of its folder.
        blocks: that are damaged.
        out: the folder of all parents.
    """
    folder = out / name
    shutil.copytree(TRAINED, folder, dirs_exist_ok=True)
    (folder / "README.md").unlink()  # it describes the undamaged model
    tensors = load_file(TRAINED / "model.safetensors")
    generator = torch.Generator().manual_seed(sum(blocks))
    for key, tensor in tensors.items():
        if tensor.dim() == 2 and any(f"layers.{block}." in key for block in blocks):
            noise = torch.randn(tensor.shape, generator=generator) * tensor.float().std()
            tensors[key] = noise.to(tensor.dtype)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def main() -> None:
    """Write all parents."""
    for name, blocks in DAMAGED.items():
        make(name, blocks, HERE / "models")


if __name__ == "__main__":
    main()
