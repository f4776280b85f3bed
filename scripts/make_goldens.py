"""Write tests/golden/mergekit_methods.safetensors: what mergekit makes of the random cases, as numbers only.

Run where mergekit is installed: python scripts/make_goldens.py. `make test` then checks parity without it.
"""

import sys
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save_file

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden" / "mergekit_methods.safetensors"
LARGEST = 600  # elements of a golden tensor


def main() -> None:
    """Merge every random case of every deterministic method in float64 and store the results."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "methods"), str(ROOT / "tests" / "peers")]
    import mergekit_oracle
    from merge_cases import DETERMINISTIC, SHAPES, SPREADS, random_case

    goldens = {}
    for name in DETERMINISTIC:
        for number in range(len(SHAPES) * len(SPREADS)):
            case = random_case(name, number, torch.float64)
            if case.models[0].numel() <= LARGEST:
                goldens[f"{name}/{number}"] = mergekit_oracle.merge(case).double().contiguous()
    GOLDEN.parent.mkdir(exist_ok=True)
    save_file(goldens, GOLDEN, metadata={"mergekit": version("mergekit")})
    print(f"{len(goldens)} tensors, {GOLDEN.stat().st_size} bytes: {GOLDEN.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
