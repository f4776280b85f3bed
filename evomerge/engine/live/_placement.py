"""A model over several devices: which parameter lives where, and the hooks that carry activations across."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from evomerge.checkpoint import Layout


def spread(
    sizes: Mapping[str, int], tied: Mapping[str, str], devices: Sequence[torch.device]
) -> dict[str, torch.device]:
    """Return a device for each parameter: consecutive blocks by bytes, embeddings first, norm and head last.

    Args:
        sizes: parameter name -> bytes.
        tied: parameter name -> the first name of the same tensor, which decides for both.
        devices: in the order of the blocks.
    """
    layout = Layout.of(sizes)
    places = {name: layout.site(name) for name in sizes}
    own = {name: size for name, size in sizes.items() if tied.get(name, name) == name}
    total = max(1, sum(own.values()))
    end = sum(size for name, size in own.items() if places[name].part == "before")
    of_block = {}
    for block in range(layout.num_layers):
        start, end = end, end + sum(size for name, size in own.items() if places[name].layer == block)
        of_block[block] = devices[min(len(devices) - 1, len(devices) * (start + end) // (2 * total))]
    outside = {"before": devices[0], "after": devices[-1]}
    found = {name: of_block.get(place.layer) or outside[place.part] for name, place in places.items()}
    return {name: found[tied.get(name, name)] for name in sizes}


def attach_hooks(model: nn.Module, where: Mapping[str, torch.device], main: torch.device) -> None:
    """Make every block, and every module outside the blocks, fetch its inputs to the device of its parameters.

    Args:
        model: a transformers model; changed in place.
        where: parameter name -> device.
        main: where the model as a whole takes its inputs and gives its result.
    """
    from accelerate.hooks import attach_align_device_hook_on_blocks

    layout = Layout.of(where)
    modules = {}
    for name, device in where.items():
        place = layout.site(name)
        module = f"{layout.block_prefix}{place.layer}" if place.part == "block" else name.rpartition(".")[0]
        modules[module] = device
    attach_align_device_hook_on_blocks(
        model, execution_device={**modules, "": main}, offload=dict.fromkeys(modules, False)
    )
