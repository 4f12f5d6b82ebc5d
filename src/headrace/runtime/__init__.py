"""What is known about the run that the code is in, as plain attributes: `from headrace.runtime import flow_run`.

    flow_run.id, flow_run.name, flow_run.parameters, ...; task_run.name, ...; deployment.name, ...

Outside of a run an attribute is None, or empty. For tests a variable of the environment can stand in for each:
HEADRACE__RUNTIME__FLOW_RUN__NAME gives `flow_run.name` (PREFECT__RUNTIME__... is accepted too).
"""

from headrace.runtime import deployment, flow_run, task_run

__all__ = ["deployment", "flow_run", "task_run"]
