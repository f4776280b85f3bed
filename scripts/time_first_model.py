"""Time a new user's path: the commands under "Start" in README.md, run as they stand in an empty folder.

Usage: python scripts/time_first_model.py [FOLDER]     (a new folder; by default one under the temporary folder)

The clone is made of this repository's last commit instead of the published one, which is the only difference. Prints
each command's seconds, and fails unless the end is a model folder with a card, in under ten minutes and six commands.
"""

import os
import re
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_MINUTES, MAX_COMMANDS = 10, 6
EXPORTED = "merged"


def start_commands(readme: str) -> list[str]:
    """Return the lines of the first shell block under "## Start"."""
    section = readme.partition("\n## Start\n")[2].partition("\n## ")[0]
    block = re.search(r"```bash\n(.*?)```", section, re.DOTALL)
    if block is None:
        raise SystemExit('README.md has no shell block under "## Start"')
    return [line for line in block[1].splitlines() if line.strip()]


def run_path(commands: list[str], folder: Path) -> list[float]:
    """Run the commands one after the other in one shell's folder, and return the seconds of each."""
    folder.mkdir(parents=True)
    script = ["set -e", f"cd {shlex.quote(str(folder))}"]
    for command in commands:
        local = re.sub(r"git clone https://\S+", f"git clone -q {shlex.quote(str(ROOT))} evomerge", command)
        timed = ["begin=$(date +%s.%N)", local, 'echo "SECONDS $begin $(date +%s.%N)"']
        script += [f"echo {shlex.quote('$ ' + command)}", *timed]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    process = subprocess.Popen(["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("\n".join(script))
    process.stdin.close()
    seconds = []
    for line in process.stdout:
        if line.startswith("SECONDS "):
            begin, end = map(float, line.split()[1:])
            seconds.append(end - begin)
        else:
            print(line, end="", flush=True)
    if process.wait() != 0:
        raise SystemExit(f"command {len(seconds) + 1} failed: {commands[len(seconds)]}")
    return seconds


def main(folder: Path) -> None:
    """Run the path, print what it took, and check its promises."""
    commands = start_commands((ROOT / "README.md").read_text(encoding="utf-8"))
    load, started = os.getloadavg()[0], time.monotonic()
    for command, seconds in zip(commands, run_path(commands, folder), strict=True):
        print(f"{seconds:8.1f} s  {command}")
    minutes = (time.monotonic() - started) / 60
    card = folder / "evomerge" / EXPORTED / "README.md"
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = f"{used.ru_utime + used.ru_stime:.0f} s of processor time"
    print(
        f"{minutes * 60:8.1f} s  in all, {processor}; load {load:.1f} before, {os.getloadavg()[0]:.1f} after; {folder}"
    )
    if not card.exists() or not list(card.parent.glob("*.safetensors")):
        sys.exit(f"{card.parent} is no model with a card")
    if minutes > MAX_MINUTES or len(commands) >= MAX_COMMANDS:
        sys.exit(f"promised: under {MAX_MINUTES} minutes and {MAX_COMMANDS} commands")


if __name__ == "__main__":
    given = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else None
    main(given or Path(tempfile.mkdtemp(prefix="evomerge-start-")) / "path")
