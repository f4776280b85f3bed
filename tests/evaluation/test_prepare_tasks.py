"""What `prepare` accepts, refuses and records."""

import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from local_tasks import ACC, CHOICE, choice_rows

from evomerge.errors import InvalidFile
from evomerge.evaluation import PoolSizes, TaskRequest, prepare_tasks
from tests.forked import run_program

SMALL = PoolSizes(search=4, select=4, report=4)
ROWS = {"validation": choice_rows(12), "test": choice_rows(12, 100)}


def problems(*requests, task_path, **options):
    """Return place -> sentence of everything that is refused."""
    with pytest.raises(InvalidFile) as caught:
        prepare_tasks(list(requests), task_path=task_path, pools=options.pop("pools", SMALL), seed=0, **options)
    return {problem.where: problem.text for problem in caught.value.problems}


def test_importing_the_package_loads_no_heavy_library():
    code = (
        "import sys, evomerge.evaluation\n"
        "assert not {'torch', 'transformers', 'lm_eval', 'datasets'} & set(sys.modules), 'heavy import'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_only_one_file_imports_lm_eval():
    import evomerge.evaluation

    folder = Path(evomerge.evaluation.__file__).parent.parent
    naming = re.compile(r"^\s*(import lm_eval|from lm_eval)", re.MULTILINE)
    assert [path.name for path in folder.rglob("*.py") if naming.search(path.read_text())] == ["_lm_eval.py"]


def test_every_problem_at_once(write_task):
    folder = write_task("mc", ROWS, **CHOICE)
    write_task("unsafe", ROWS, **CHOICE, unsafe_code=True)
    write_task("lost", ROWS, **CHOICE | {"dataset_kwargs": {"data_files": {"test": "nowhere.jsonl"}}})
    f1 = [{"metric": "f1", "aggregation": "f1", "higher_is_better": True}]
    write_task("f1", ROWS, **CHOICE | {"metric_list": f1 + ACC})
    (folder / "class.yaml").write_text("task: class\nclass: !function code.Task\n")
    (folder / "group.yaml").write_text("group: some\ntask: [mc, f1]\n")
    (folder / "broken.yaml").write_text("task: [")
    names = ["mcc", "mc", "unsafe", "lost", "f1", "class", "some"]
    metrics = {"mc": "ack"}
    requests = [TaskRequest(task=n, metric=metrics.get(n), where=f"tasks.{i}") for i, n in enumerate(names)]
    requests.append(TaskRequest(where="tasks.7"))
    found = problems(
        *requests,
        task_path=folder,
        lm_eval_options={"num_fewshots": 1, "max_gen_toks": 0, "apply_chat_template": "yes"},
        allow_test_split=["uncertain"],
    )
    assert 'Did you mean "num_fewshot"?' in found["lm_eval.num_fewshots"]
    assert "expected a positive number" in found["lm_eval.max_gen_toks"]
    assert "expected true or false" in found["lm_eval.apply_chat_template"]
    assert found["allow_test_split"] == '"uncertain" is none of the tasks.'
    assert 'Did you mean "mc"?' in found["tasks.0 (mcc)"] and "broken.yaml cannot be read" in found["tasks.0 (mcc)"]
    assert "it has: acc, acc_norm" in found["tasks.1 (mc)"] and 'Did you mean "acc"?' in found["tasks.1 (mc)"]
    assert "(unsafe_code)" in found["tasks.2 (unsafe)"] and "allow_code: [unsafe]" in found["tasks.2 (unsafe)"]
    assert "nowhere.jsonl is not there" in found["tasks.3 (lost)"]
    assert "F1 takes the labels 0 and 1" in found["tasks.4 (f1)"]
    assert "Python class" in found["tasks.5 (class)"] and "--allow-code class" in found["tasks.5 (class)"]
    assert 'its task mc is used by "mc", too' in found["tasks.6 (some)"]
    assert found["tasks.7"] == "name either a task, a scorer or an evaluator"
    assert len(found) == 12


def test_refused_tasks_run_no_code(write_task, tmp_path):
    folder = write_task("mc", ROWS, **CHOICE)
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef f(doc): return 'x'\n")
    text = (folder / "mc.yaml").read_text()
    (folder / "mc.yaml").write_text(text + "unsafe_code: true\nprocess_docs: !function code.f\n")
    assert "unsafe_code" in problems(TaskRequest(task="mc"), task_path=folder)["tasks (mc)"]
    touch = f"touch {tmp_path / 'ran'}"
    (folder / "mc.yaml").write_text(text + f"x: !!python/object/apply:os.system ['{touch}']\n")
    assert "mc.yaml cannot be read" in problems(TaskRequest(task="mc"), task_path=folder)["tasks (mc)"]
    assert not (tmp_path / "ran").exists()


def test_pickle_builder_is_refused(write_task):
    folder = write_task("mc", ROWS, **CHOICE | {"dataset_path": "pandas"})
    assert "pickles" in problems(TaskRequest(task="mc"), task_path=folder)["tasks (mc)"]


def test_data_files_are_taken_from_the_yaml_s_folder(write_task, tmp_path, monkeypatch):
    folder = write_task("mc", ROWS, **CHOICE)
    (folder / "nested").mkdir()
    text = yaml.safe_load((folder / "mc.yaml").read_text())
    text["dataset_kwargs"]["data_files"] = {k: f"../{v}" for k, v in text["dataset_kwargs"]["data_files"].items()}
    (folder / "nested" / "deep.yaml").write_text(yaml.safe_dump(text | {"task": "deep"}))
    (folder / "nested" / "child.yaml").write_text("include: deep.yaml\ntask: child\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    requests = [TaskRequest(task=name, metric="acc") for name in ("mc", "deep", "child")]
    prepared = prepare_tasks(requests, task_path=folder, pools=SMALL, seed=0)
    assert [one.name for one in prepared.objectives] == ["mc", "deep", "child"]


def test_functions_of_a_local_task_travel(write_task, model, tokenizer, tmp_path):
    folder = write_task("mc", ROWS, **CHOICE)
    (folder / "code.py").write_text(
        "import random\n"
        "def process(docs):\n"
        "    return docs.map(lambda doc: {**doc, 'question': doc['question'] + str(random.random())})\n"
        "def score(doc, results):\n"
        "    return {'acc': float(results[0][0] > -5), 'acc_norm': 0.0}\n"
    )
    text = (folder / "mc.yaml").read_text()
    (folder / "mc.yaml").write_text(
        text + "process_docs: !function code.process\nprocess_results: !function code.score\n"
    )
    request = TaskRequest(task="mc", metric="acc")
    prepared = prepare_tasks([request], task_path=folder, pools=SMALL, seed=0)
    assert prepared.notes == ("mc runs Python of its own folder: code.process, code.score",)
    again = prepare_tasks([request], task_path=folder, pools=SMALL, seed=0)
    assert again.facts == prepared.facts  # documents that a task makes at random are the same every time
    program = (
        "import pickle, sys\n"
        "prepared = pickle.load(open(sys.argv[1], 'rb'))\n"
        "function = prepared.tasks['mc'].items.sources['mc'].config['process_results'].load()\n"
        "assert function({}, [(-1.0, True)])['acc'] == 1.0\n"
    )
    (tmp_path / "prepared.pickle").write_bytes(pickle.dumps(prepared))
    run_program(program, str(tmp_path / "prepared.pickle"))


def test_a_pickled_copy_gives_the_same_scores(write_task, model, tokenizer):
    prepared = prepare_tasks(
        [TaskRequest(task="mc", metric="acc")], task_path=write_task("mc", ROWS, **CHOICE), pools=SMALL, seed=0
    )
    items = {"mc": prepared.pools["mc"]["search"]}
    copy = pickle.loads(pickle.dumps(prepared))
    scores = [one.scorer(model, tokenizer, batch_size=4).score(items) for one in (prepared, copy)]
    assert scores[0] == scores[1]


def test_digests_follow_what_is_asked(write_task):
    request = TaskRequest(task="mc", metric="acc")

    def facts(**changes):
        folder = write_task("mc", ROWS, **CHOICE | changes)
        return prepare_tasks([request], task_path=folder, pools=SMALL, seed=0).facts["mc"]

    first, same, other = facts(), facts(), facts(doc_to_text="Question: {{question}}")
    assert first == same
    assert first["task_digest"] != other["task_digest"]
    assert first["items_digest"]["report"] != other["items_digest"]["report"]
    assert first["lm_eval"] and first["version"] == 1.0


def test_num_fewshot_option_and_a_constant_answer_note(write_task):
    rows = {"train": choice_rows(9), "validation": choice_rows(12, 50, label=0), "test": choice_rows(12, 100, label=0)}
    folder = write_task("mc", rows, **CHOICE)
    request = TaskRequest(task="mc", metric="acc")
    options = {"num_fewshot": 2}
    prepared = prepare_tasks([request], task_path=folder, pools=SMALL, seed=0, lm_eval_options=options)
    assert prepared.facts["mc"]["num_fewshot"] == 2
    assert "the same right answer (choice 0) in every item" in prepared.notes[0]
    item = prepared.tasks["mc"].items.sources["mc"].items[prepared.pools["mc"]["search"][0]]
    assert item.requests[0].arguments[0].count("\n\n") == 2


def test_chat_template(write_task, tokenizer):
    import copy

    folder = write_task("mc", ROWS, **CHOICE)
    request, options = TaskRequest(task="mc", metric="acc"), {"apply_chat_template": True}
    found = problems(request, task_path=folder, lm_eval_options=options, tokenizer=tokenizer)
    assert "no chat template" in found["lm_eval.apply_chat_template"]
    chatty = copy.deepcopy(tokenizer)
    chatty.chat_template = "{% for m in messages %}[{{m.role}}]{{m.content}}{% endfor %}[assistant]"
    options["system_instruction"] = "Be brief."
    prepared = prepare_tasks(
        [request], task_path=folder, pools=SMALL, seed=0, lm_eval_options=options, tokenizer=chatty
    )
    item = next(iter(prepared.tasks["mc"].items.sources["mc"].items.values()))
    assert item.requests[0].arguments[0] == f"[system]Be brief.[user]{item.doc['question']}[assistant]"


def test_a_metric_that_the_task_does_not_compute(write_task):
    listed = [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}]
    listed.append({"metric": "likelihood", "aggregation": "mean", "higher_is_better": True})
    folder = write_task("mc", ROWS, **CHOICE | {"metric_list": listed})
    config = {"output_type": "loglikelihood", "doc_to_text": "{{question}}", "doc_to_target": "{{choices[0]}}"}
    write_task("ll", ROWS, **config, metric_list=listed)
    requests = [TaskRequest(task="ll", where="a"), TaskRequest(task="mc", metric="likelihood", where="b")]
    found = problems(*requests, task_path=folder)
    assert found["a (ll)"] == 'it computes no "exact_match" (it computes: )'
    assert 'its metric "likelihood" is a tuple for one item, which mean cannot use' in found["b (mc)"]


def with_passages(rows, length=30):
    """Three questions on each passage."""
    passages = (f"passage {i // 3} ".ljust(length, ".") for i in range(len(rows)))
    told = {"context": "Read this article with care."}
    return [{"article": text, **told, **row} for text, row in zip(passages, rows, strict=True)]


def test_questions_on_one_passage_belong_together(write_task):
    reading = {split: with_passages(rows) for split, rows in ROWS.items()}
    folder = write_task("reading", reading, **CHOICE)
    write_task("again", reading, **CHOICE)
    write_task("short", {split: with_passages(rows, 1) for split, rows in ROWS.items()}, **CHOICE)
    write_task("plain", ROWS, **CHOICE)
    (folder / "both.yaml").write_text("group: both\ntask: [plain, again]\naggregate_metric_list: [{metric: acc}]\n")
    requests = [TaskRequest(task=name) for name in ("reading", "short", "both")]
    pools = PoolSizes(search=6, select=6, report=12)
    prepared = prepare_tasks(requests, task_path=folder, pools=pools, seed=0)
    assert set(prepared.clusters) == {"reading", "both"}, "labels and instructions are no passages"
    clusters = prepared.clusters["reading"]
    report = sorted(prepared.pools["reading"]["report"])
    together = [[i for i in report if clusters.get(i) == name] for name in dict.fromkeys(clusters[i] for i in report)]
    assert together == [report[i : i + 3] for i in range(0, 12, 3)]
    assert min(prepared.clusters["both"]) >= 24, "the questions of the other task are independent"
