"""The process worker: each run is a process on the worker's own machine."""

from typing import Any, ClassVar

from headrace.runner.protocol import Start
from headrace.runner.specialists import kind_of
from headrace.schemas.deployments import READ_DEPLOYMENT
from headrace.schemas.flow_runs import FlowRun
from headrace.schemas.work_pools import WorkPool
from headrace.settings import get_settings
from headrace.workers.base import BaseWorker, on_linux_with_fork
from headrace.workers.jobs import process_job

_TEXT = {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}
TEMPLATE: dict[str, Any] = {
    "job_configuration": {
        name: f"{{{{ {name} }}}}" for name in ("command", "env", "labels", "name", "stream_output", "working_dir")
    },
    "variables": {
        "type": "object",
        "properties": {
            "name": {**_TEXT, "title": "Name", "description": "A name for the process."},
            "env": {
                "title": "Environment Variables",
                "description": "Variables set for the run; null takes one away.",
                "type": "object",
                "additionalProperties": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            },
            "labels": {
                "title": "Labels",
                "description": "Labels of the run's infrastructure.",
                "type": "object",
                "additionalProperties": {"type": "string"},
            },
            "command": {
                **_TEXT,
                "title": "Command",
                "description": "The command that carries out the run, in place of headrace's engine.",
            },
            "stream_output": {
                "title": "Stream Output",
                "description": "Show what the run prints where the worker prints.",
                "type": "boolean",
                "default": True,
            },
            "working_dir": {
                "anyOf": [{"type": "string", "format": "path"}, {"type": "null"}],
                "default": None,
                "title": "Working Directory",
                "description": "The folder in which the run begins.",
            },
        },
    },
}


class ProcessWorker(BaseWorker):
    """Carries out runs as processes, forked from a template that has imported headrace already.

    A job with a command, a folder or variables that an interpreter reads at its start gets a fresh process.
    """

    type: ClassVar[str] = "process"

    @classmethod
    def get_default_base_job_template(cls) -> dict[str, Any]:
        """The job template of pools made for process workers."""
        return TEMPLATE

    def order_for(self, run: FlowRun, pool: WorkPool) -> Start:
        """How to start a run.

        Raises:
            InfrastructureError: its job variables are not right.
            ObjectNotFound: its deployment is gone.
        """
        deployment = self.client.call(READ_DEPLOYMENT, id=run.deployment_id) if run.deployment_id else None
        context = {"flow_run": {"id": str(run.id), "name": run.name}}
        job = process_job(
            pool.base_job_template,
            deployment.job_variables if deployment else None,
            run.job_variables,
            context=context,
        )
        warm = get_settings().worker.warm_start and on_linux_with_fork()
        return Start(
            run.id,
            environment=job.env,
            command=job.argv(warm=warm),
            directory=job.working_dir,
            quiet=not job.stream_output,
            kind=kind_of(f"{deployment.id} {deployment.entrypoint}", job.env) if deployment else "",
        )
