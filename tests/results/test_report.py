"""The report: one page that holds together whatever the run is, opens in a browser, and needs no network."""

import json
import re
import shutil
import sqlite3
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from evomerge.cli import cli
from evomerge.records import Failure
from evomerge.results import REPORT, report_page, run_figures, save_figures, summary_lines, write_report
from evomerge.run import LEDGER, Ledger, Run, RunFacts
from tests.large_run import make_large_run

OLD_RUNS = Path(__file__).parents[1] / "golden" / "old_runs"
VOID = {"meta", "br", "hr", "img", "input", "link"}
MAX_BYTES = 3_000_000


class StrictParser(HTMLParser):
    """Fails where a browser would guess: elements that are not closed, or closed twice."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sections: list[str] = []
        self.text = ""
        self.addresses: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice"
        found = dict(attributes)
        self.tags.add(tag)
        self.addresses += [str(found[name]) for name in ("href", "src", "action", "srcset", "data") if name in found]
        if tag == "section":
            self.sections.append(str(found["id"]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes <{self.open[-1] if self.open else 'nothing'}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(page: str) -> StrictParser:
    """Return a page that was parsed strictly, its figures as XML as well."""
    parser = StrictParser()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    assert all(address.startswith("#") for address in parser.addresses), "a page needs nothing besides itself"
    assert "script" not in parser.tags and "url(" not in page and "@import" not in page
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(svg)
        assert "nan" not in " ".join(re.findall(r' (?:d|x|y|width|height)="([^"]*)"', svg))
    return parser


def changed(run: Path, folder: Path) -> Path:
    """Return a copy of a run that a test may spoil."""
    return Path(shutil.copytree(run, folder / run.name))


def test_a_finished_run_has_every_section(finished_run: Path) -> None:
    page = report_page(Run(finished_run))
    found = parsed(page)
    expected = "verdict front progress recipe genes pools items failures cost reproduce"
    assert found.sections == expected.split()
    verdict = Run(finished_run).verdict
    assert verdict is not None and verdict["text"] in found.text
    assert found.text.index(verdict["text"]) < found.text.index("The front")
    assert str(finished_run.parent) not in page, "a page that is passed on says nothing of this machine's folders"


def test_the_error_of_the_search_scores_is_said(finished_run: Path) -> None:
    with_errors = parsed(report_page(Run(finished_run))).text
    (error,) = Run(finished_run).calibration["objectives"].values()
    assert f"{error['mean_error']:+.4f}" in with_errors and f"{error['mean_absolute_error']:.4f}" in with_errors
    assert "adjusted by item effects" in with_errors


def test_a_search_leaves_its_report_in_the_run_folder(finished_run: Path, tmp_path: Path) -> None:
    import evomerge

    run = changed(finished_run, tmp_path)
    (run / REPORT).unlink(missing_ok=True)
    source = finished_run.parent / "search.yaml"
    assert evomerge.search(source, run).state == "done"
    parsed((run / REPORT).read_text())


def test_a_report_that_cannot_be_written_takes_nothing_from_the_result(finished_run: Path, tmp_path: Path) -> None:
    import evomerge
    from evomerge.run import SilentObserver

    said: list[str] = []

    class Observer(SilentObserver):
        def say(self, line: str) -> None:
            said.append(line)

    run = changed(finished_run, tmp_path)
    (run / REPORT).unlink(missing_ok=True)
    (run / REPORT).mkdir()
    assert evomerge.search(finished_run.parent / "search.yaml", run, observer=Observer()).state == "done"
    assert any("report.html is not written" in line and "evomerge report" in line for line in said)


@pytest.mark.parametrize(("name", "verdict"), [("finished", "verdict"), ("interrupted", "No verdict yet")])
def test_runs_of_older_versions_have_a_report(name: str, verdict: str, tmp_path: Path) -> None:
    found = parsed(report_page(Run(changed(OLD_RUNS / name, tmp_path))))
    assert verdict.lower() in found.text.lower()
    assert {"verdict", "front", "progress", "cost", "reproduce"} <= set(found.sections)


def test_a_run_without_one_score_has_a_report(finished_run: Path, tmp_path: Path) -> None:
    run = changed(finished_run, tmp_path)
    with sqlite3.connect(run / LEDGER) as db:
        for table in ("score", "item", "step", "candidate"):
            db.execute(f"DELETE FROM {table}")
        keys = "'pick', 'verdict', 'front', 'finalists', 'adjusted', 'examples', 'comparators', 'busy'"
        db.execute(f"DELETE FROM meta WHERE key IN ({keys})")
        db.execute("UPDATE meta SET value = '\"searching\"' WHERE key = 'state'")
    found = parsed(report_page(Run(run)))
    assert "No verdict yet" in found.text
    assert summary_lines(RunFacts(Run(run)))


def test_foreign_text_stays_text(finished_run: Path, tmp_path: Path) -> None:
    run = changed(finished_run, tmp_path)
    evil = '</title><script>alert("1")</script><img src=x onerror=alert(1)>\x1b[2J'
    ledger = Ledger.resume(run / LEDGER)
    verdict = {**ledger.meta("verdict"), "text": evil}
    verdict["comparisons"] = [{**row, "name": evil} for row in verdict["comparisons"]]
    examples = {name: dict.fromkeys(texts, evil) for name, texts in ledger.meta("examples").items()}
    facts = {
        "verdict": verdict,
        "notes": [evil],
        "examples": examples,
        "versions": {evil: evil},
        "machine": {evil: evil},
    }
    with ledger.transaction():
        for key, value in facts.items():
            ledger.set_meta(key, value)
        last = max(candidate.id for candidate in ledger.candidates())
        failure = Failure(kind="failed", reason=evil, detail=evil)
        ledger.finish(last, failure=failure, attempts=1, seconds=1.0, worker=evil)
    ledger.close()
    with sqlite3.connect(run / LEDGER) as db:
        db.execute("UPDATE candidate SET name = ?", (evil,))
        objectives = json.loads(db.execute("SELECT value FROM meta WHERE key = 'objectives'").fetchone()[0])
        objectives[0]["metric"] = evil
        db.execute("UPDATE meta SET value = ? WHERE key = 'objectives'", (json.dumps(objectives),))
    page = report_page(Run(run))
    found = parsed(page)
    assert not {"script", "img"} & found.tags
    assert "\x1b" not in page and "alert" in found.text
    for figure in run_figures(RunFacts(Run(run))).values():
        ElementTree.fromstring(figure.svg())


def test_claims_about_the_rest_of_the_front_are_listed(finished_run: Path, tmp_path: Path) -> None:
    run = changed(finished_run, tmp_path)
    claim = {"id": 9, "name": "candidate 9", "gain": 0.125, "interval": [0.0625, 0.25], "p_value": 0.001}
    claims = [{**claim, "adjusted_p_value": 0.002, "claimed": True}]
    claims.append({**claims[0], "name": "candidate 10", "gain": None, "interval": None, "claimed": False})
    ledger = Ledger.resume(run / LEDGER)
    with ledger.transaction():
        ledger.set_meta("verdict", {**ledger.meta("verdict"), "front": claims})
    ledger.close()
    text = parsed(report_page(Run(run))).text
    for word in ("candidate 9", "+0.1250", "+0.0625 to +0.2500", "0.002", "candidate 10"):
        assert word in text


def test_examples_can_be_left_out(finished_run: Path) -> None:
    texts = Run(finished_run).fact("examples")["share"]
    assert texts and all(json.loads(text)["number"] >= 0 for text in texts.values())
    some = next(iter(texts.values()))
    assert some in parsed(report_page(Run(finished_run))).text
    assert some not in parsed(report_page(Run(finished_run), examples=False)).text


def test_figures_are_files_of_their_own(finished_run: Path, tmp_path: Path) -> None:
    files = save_figures(RunFacts(Run(finished_run)), tmp_path / "figures")
    names = {path.stem for path in files}
    assert {"comparisons", "front", "progress_over_items", "progress_over_time", "shares", "pools", "items"} <= names
    for path in files:
        text = path.read_text()
        root = ElementTree.fromstring(text)
        width, height = (float(value) for value in root.attrib["viewBox"].split()[2:])
        assert width > 100 and height > 40 and "var(" not in text, "a file of its own knows no page's colors"
        numbers = re.findall(r"[MLHV] ?(-?[\d.]+)", " ".join(e.attrib.get("d", "") for e in root.iter()))
        assert all(-20 <= float(number) <= max(width, height) + 20 for number in numbers)
    with pytest.raises(Exception, match="cannot be written"):
        save_figures(RunFacts(Run(finished_run)), files[0])


def test_png_figures_need_a_package_and_say_which(finished_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("resvg_py", reason="resvg-py is an optional extra")
    files = save_figures(RunFacts(Run(finished_run)), tmp_path, formats=("png",))
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in files)


def test_a_figure_says_in_words_what_it_shows(finished_run: Path) -> None:
    run = Run(finished_run)
    verdict = run.verdict
    assert verdict is not None
    lowest = min(verdict["comparisons"], key=lambda row: row["interval"][0])
    svg = ElementTree.fromstring(run_figures(RunFacts(run))["comparisons"].svg())
    label = svg.attrib["aria-label"]
    assert f"{lowest['gain']:+.4f}" in label and lowest["name"] in label


def test_the_command_writes_page_and_figures_and_says_what_came_of_it(finished_run: Path, tmp_path: Path) -> None:
    arguments = [
        "report",
        str(finished_run),
        "--out",
        str(tmp_path / "page.html"),
        "--figures",
        str(tmp_path / "figures"),
    ]
    result = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert result.exception is None, result.output
    verdict = Run(finished_run).verdict
    assert verdict is not None and verdict["text"] in result.output
    assert str(tmp_path / "page.html") in result.output.splitlines()
    parsed((tmp_path / "page.html").read_text())
    document = json.loads(CliRunner().invoke(cli, [*arguments, "--json"], standalone_mode=False).output)
    assert document["version"] == 1 and Path(document["page"]).is_file() and all(map(Path, document["figures"]))
    assert CliRunner().invoke(cli, ["report", str(finished_run), "--png"], standalone_mode=False).exception is not None


@pytest.fixture(scope="module")
def large(large_run: Path) -> Path:
    """The page of a run of 2,000 candidates."""
    return write_report(Run(large_run))


def test_a_large_run_has_a_small_page(large: Path) -> None:
    found = parsed(large.read_text())
    assert large.stat().st_size < MAX_BYTES
    assert "What each parent contributes" in found.text, "by the outlines in the ledger: its parents are nowhere"
    assert "2,000" in found.text and "logits are not finite" in found.text


def test_a_search_that_found_nothing_better_says_so(tmp_path: Path) -> None:
    run = Run(make_large_run(tmp_path / "run", 60, gain=-0.2))
    assert run.pick is not None and run.pick.kind in ("parent", "simple")
    found = parsed(report_page(run))
    assert f"Keep {run.pick.name}" in found.text
    assert "on the select items" in found.text, "why nothing that was found is better"
