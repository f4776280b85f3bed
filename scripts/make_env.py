"""Build the development environment: a venv with torch first, then everything else under constraints.txt.

Usage: python scripts/make_env.py [--constraints FILE] FOLDER [PACKAGE ...]

Further packages come last, under the same constraints.

torch comes from PyTorch's CPU index where that answers and no GPU is present: the plain package would bring gigabytes
of CUDA libraries that a machine without a GPU never uses.
"""

import argparse
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
ANSWER_SECONDS = 5


def has_gpu() -> bool:
    """Tell whether an NVIDIA driver or a ROCm device is here."""
    return shutil.which("nvidia-smi") is not None or Path("/dev/kfd").exists()


def answers(url: str) -> bool:
    """Tell whether a web server answers within a few seconds."""
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as response:
            return 200 <= response.status < 400
    except (urllib.error.URLError, OSError):
        return False


def pinned(package: str, constraints: Path) -> str:
    """Return a package with its version from a file of constraints."""
    lines = constraints.read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith(f"{package}=="))


def main(folder: Path, further: list[str], constraints: Path) -> None:
    """Create or update the environment in `folder`, with further packages, under a file of constraints."""
    if sys.version_info < (3, 11):  # noqa: UP036  (this script runs under whatever Python a person has)
        sys.exit(f"evomerge needs Python 3.11 or newer, this is {sys.version.split()[0]}; set PYTHON=python3.12, say")
    if not (folder / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    from_cpu_index = not has_gpu() and answers(f"{CPU_INDEX}/torch/")
    print("installing torch, then the rest (a few minutes, once)", flush=True)
    subprocess.run(
        [*pip, pinned("torch", constraints), *(["--index-url", CPU_INDEX] if from_cpu_index else [])], check=True
    )
    subprocess.run([*pip, "-c", str(constraints), "-e", f"{ROOT}[dev]", *further], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--constraints", type=Path, default=ROOT / "constraints.txt")
    parser.add_argument("folder", type=Path)
    parser.add_argument("further", nargs="*")
    given = parser.parse_args()
    main(given.folder, given.further, given.constraints.resolve())
