"""Limits hold against code that means harm, and the runner answers the next request."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from evomerge.errors import EvomergeError
from evomerge.evaluation.sandbox import CodeProcess, CodeRaised, CodeStopped, Limits, confinement

LINUX = pytest.mark.skipif(not confinement().startswith("with limits of time and memory, without"), reason="Linux only")
LIMITS = Limits(seconds=0.5, memory_bytes=256 << 20, file_bytes=8 << 20)


@pytest.fixture(scope="module")
def runner() -> Iterator[CodeProcess]:
    folder = str(Path(__file__).parent)
    sys.path.append(folder)
    try:
        process = CodeProcess("hostile:factory", {"known": 41}, LIMITS)
        assert process.ask("answer = known + 1") == 42
    finally:
        sys.path.remove(folder)
    yield process
    process.close()


def test_an_answer_is_plain_data(runner: CodeProcess) -> None:
    assert runner.ask("answer = {'a': [1, 2.5, None, 'x']}") == {"a": [1, 2.5, None, "x"]}
    with pytest.raises(CodeRaised, match="ZeroDivisionError"):
        runner.ask("1 / 0")


def test_nothing_is_kept_of_the_request_before(runner: CodeProcess) -> None:
    runner.ask("import sys; sys.modules['left'] = 1; known = 0")
    assert runner.ask("import sys; answer = ['left' in sys.modules, known]") == [False, 41]


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time; time.sleep(60)",
        "import threading, time\nfor _ in range(4): threading.Thread(target=time.sleep, args=(60,)).start()",
    ],
)
def test_endless_code_is_stopped(runner: CodeProcess, code: str) -> None:
    started = time.monotonic()
    if "threading" in code:  # the answer comes before the threads end, and ends them
        assert runner.ask(code) is None
    else:
        with pytest.raises(CodeStopped, match="took more than"):
            runner.ask(code)
    assert time.monotonic() - started < 30
    assert runner.ask("answer = known") == 41


def test_a_memory_bomb_is_an_error_of_its_own(runner: CodeProcess) -> None:
    with pytest.raises(CodeRaised, match="MemoryError"):
        runner.ask("hoard = []\nwhile True: hoard.append(bytearray(16 << 20))")


@LINUX
def test_files_are_written_in_the_temporary_folder_alone(runner: CodeProcess, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("kept")
    mine.chmod(0o640)
    attacks = {
        "write": f"open({str(mine)!r}, 'w')",
        "append": f"open({str(mine)!r}, 'a')",
        "make": f"open({str(tmp_path / 'new')!r}, 'w')",
        "remove": f"__import__('os').remove({str(mine)!r})",
        "rename": f"__import__('os').rename({str(mine)!r}, {str(tmp_path / 'other')!r})",
        "link": f"__import__('os').symlink('/', {str(tmp_path / 'link')!r})",
        "folder": f"__import__('os').mkdir({str(tmp_path / 'folder')!r})",
        "rights": f"__import__('os').chmod({str(mine)!r}, 0o777)",
        "cut": f"__import__('os').truncate({str(mine)!r}, 0)",
        "times": f"__import__('os').utime({str(mine)!r}, (0, 0))",
    }
    for name, attack in attacks.items():
        with pytest.raises(CodeRaised, match="PermissionError"):
            runner.ask(attack.replace("{test}", str(os.getpid())))
        assert sorted(p.name for p in tmp_path.iterdir()) == ["mine"], name
        assert mine.read_text() == "kept" and mine.stat().st_mode & 0o777 == 0o640, name
    if "temporary folder" in confinement():
        where = runner.ask(
            "import os, tempfile\nopen('own', 'w').write('x')\nos.rename('own', 'other')\n"
            "answer = [os.getcwd(), tempfile.gettempdir(), os.listdir()]"
        )
        assert where[0] == where[1] and where[2] == ["other"] and not Path(where[0]).exists()


@LINUX
def test_too_many_files_are_stopped(runner: CodeProcess) -> None:
    if "temporary folder" not in confinement():
        pytest.skip("no file can be written at all")
    with pytest.raises(CodeStopped, match="wrote more than 8 MiB"):
        runner.ask("import time\nfor i in range(40): open(str(i), 'wb').write(bytes(1 << 20))\ntime.sleep(60)")
    with pytest.raises((CodeRaised, CodeStopped)):
        runner.ask("open('large', 'wb').write(bytes(64 << 20))")


@LINUX
@pytest.mark.parametrize(
    "attack",
    [
        "import os; os.fork()",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.execv('/bin/true', ['true'])",
        "import multiprocessing; multiprocessing.Process(target=print).start()",
        "import os, signal; os.kill({test}, signal.SIGTERM)",
        "import os, signal; os.kill(-1, signal.SIGTERM)",
        "import socket; socket.socket()",
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1:1')",
        "import resource; resource.prlimit({test}, resource.RLIMIT_CPU, (1, 1))",
        "import os; os.chroot('.')",
        "import os; os.sched_setaffinity(1, {0})",
    ],
)
def test_other_processes_and_the_network_are_out_of_reach(runner: CodeProcess, attack: str) -> None:
    with pytest.raises(CodeRaised, match=r"not permitted|PermissionError"):
        runner.ask(attack.replace("{test}", str(os.getpid())))


@LINUX
def test_limits_cannot_be_raised_again(runner: CodeProcess) -> None:
    with pytest.raises(CodeRaised, match=r"ValueError|PermissionError"):
        runner.ask("import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))")


def test_code_that_breaks_its_channel_is_stopped(runner: CodeProcess) -> None:
    for code in (
        "import os; os._exit(0)",
        "raise SystemExit",
        "import os\nfor i in range(3, 64):\n  try: os.write(i, b'nonsense\\n')\n  except OSError: pass\n",
        "import os\nfor i in range(3, 64):\n  try: os.write(i, b'[' * 100000 + b'\\n')\n  except OSError: pass\n",
        "import ctypes; ctypes.string_at(0)",
    ):
        with pytest.raises(CodeStopped):
            runner.ask(code)
    assert runner.ask("answer = known") == 41


def test_programs_run_in_copies_of_their_own(runner: CodeProcess) -> None:
    asking = "from evomerge.evaluation.sandbox import program_results\nanswer = program_results({}, 1.0)"
    programs = ["assert 1 + 1 == 2", "assert 1 + 1 == 3", "while True: pass", "import os; os.fork()", "x = ", "exit()"]
    assert runner.ask(asking.format(programs)) == [True, False, False, False, False, False]


def test_a_runner_that_cannot_start_says_why() -> None:
    with pytest.raises(EvomergeError, match=r"exit code 1.*No module named 'nowhere'"):
        CodeProcess("nowhere:factory", None, LIMITS).ask("1")
