"""Code that a model wrote, run in a process of its own that may do little: for tasks such as HumanEval and MBPP.

A `CodeProcess` starts a runner: a plain Python process that loads the task's code and answers requests one by one. Each
request, and each program that a request wants run, gets a copy of the runner of its own (a fork) with limits:

* time: seconds of the processor and of the clock; what overruns is killed;
* memory: what it may map beyond what the runner has;
* one process: it can start no other, and reach no other (signals, debugging);
* files: it sees what the user can read, and writes in an empty temporary folder alone, which is removed;
* no sockets, no privileges, no rights of files changed.

The kernel enforces this without root: limits of resources, `no_new_privs`, Landlock (Linux 5.13) for files and seccomp
for calls. Without Landlock nothing can be written at all. On other systems than Linux only the limits of
resources and the clock are left; `confinement` says which it is. These are limits against what models write by accident
or by habit, and no promise about code that is made to break out; for that, run the search on a machine of its own.

This package knows no task and no model.
"""

from evomerge.evaluation.sandbox._confine import Limits, confinement
from evomerge.evaluation.sandbox._process import CodeProcess, CodeRaised, CodeStopped
from evomerge.evaluation.sandbox._programs import code_eval_replaced, program_results

__all__ = [
    "CodeProcess",
    "CodeRaised",
    "CodeStopped",
    "Limits",
    "code_eval_replaced",
    "confinement",
    "program_results",
]
