"""Workers: programs that carry out the runs of a work pool.

    headrace worker start --pool main
    ProcessWorker("main").start()

`base` is what all kinds share, `process` runs processes on the worker's machine, `jobs` makes a run's job from the
pool's template and job variables. The machinery underneath, with the warm template process, is `headrace.runner`.
"""

from headrace.workers.base import BaseWorker
from headrace.workers.process import ProcessWorker

__all__ = ["BaseWorker", "ProcessWorker"]
