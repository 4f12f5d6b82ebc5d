"""`serve`: carry out the runs of some deployments in processes of this machine, without a work pool."""

import logging
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any
from uuid import UUID

from headrace.client import get_client
from headrace.deployments.runner import Deployed, RunnerDeployment
from headrace.exceptions import ApiError
from headrace.flows import Flow
from headrace.logging.configuration import ensure_logging_setup
from headrace.runner.protocol import Start
from headrace.runner.sources import DeploymentSource
from headrace.runner.specialists import kind_of
from headrace.runner.supervisor import Supervisor
from headrace.schemas.deployments import READ_DEPLOYMENT, UPDATE_DEPLOYMENT, DeploymentUpdate
from headrace.schemas.flow_runs import FlowRun
from headrace.settings import get_settings

logger = logging.getLogger("headrace.runner")


class Runner:
    """Carries out the runs of the deployments that are added to it.

    Args:
        name: a name for it, for messages.
        query_seconds: how often to look for runs; the setting `runner.poll_frequency` when absent.
        pause_on_shutdown: pause the deployments when it stops, so that no runs are scheduled that nobody carries out.
        limit: most runs at once; the setting `runner.process_limit` when absent, 0 for no limit.
        webserver: accepted; there is none.
    """

    def __init__(
        self,
        name: str | None = None,
        query_seconds: float | None = None,
        pause_on_shutdown: bool = True,
        limit: int | None = None,
        webserver: bool = False,
    ) -> None:
        del webserver
        settings = get_settings().runner
        self.name = name or "runner"
        self.pause_on_shutdown = pause_on_shutdown
        self._query = query_seconds if query_seconds is not None else settings.poll_frequency
        self._limit = settings.process_limit if limit is None else limit
        self.deployed: list[Deployed] = []
        self.supervisor: Supervisor | None = None

    def add_deployment(self, deployment: RunnerDeployment) -> UUID:
        """Create or update a deployment, and carry out its runs from now on.

        Returns:
            Its id.

        Raises:
            DeploymentApplyError: the API refused it.
        """
        if deployment.paused is None:
            deployment.paused = False  # the last `serve` has paused it when it stopped
        deployed = deployment.deploy()
        self.deployed.append(deployed)
        return deployed.id

    def add_flow(self, flow: Flow[..., Any], name: str | None = None, **options: Any) -> UUID:
        """Make a deployment of a flow, as `flow.to_deployment`, and add it; returns its id."""
        return self.add_deployment(RunnerDeployment.from_flow(flow, name or self.name, **options))

    def start(
        self, run_once: bool = False, webserver: bool | None = None, *, ready: Callable[[], Any] | None = None
    ) -> None:
        """Carry out runs until stopped: by `stop()`, or by SIGTERM or SIGINT when in the main thread.

        Args:
            run_once: carry out what is due now, and return when that has ended.
            webserver: accepted; there is none.
            ready: called once runs are looked for.
        """
        del webserver
        ensure_logging_setup()
        settings = get_settings()
        client = get_client()
        self.supervisor = supervisor = Supervisor(
            client,
            DeploymentSource([one.id for one in self.deployed]),
            self._prepare,
            limit=self._limit or None,
            poll_seconds=self._query,
            prefetch_seconds=max(2 * self._query, settings.worker.prefetch_seconds),
            heartbeat_seconds=settings.worker.heartbeat_seconds,
            lease_seconds=settings.server.runs.lease_seconds,
            grace_seconds=settings.worker.cancellation_grace_seconds,
            run_keys=settings.worker.run_keys,
        )
        in_main = threading.current_thread() is threading.main_thread()
        try:
            with supervisor.handle_signals() if in_main else nullcontext():
                if ready is not None:
                    ready()
                supervisor.run(once=run_once)
        finally:
            if self.pause_on_shutdown:
                self._pause()

    def stop(self) -> None:
        """Take no more runs, and return from `start` when those that run have ended; a second call ends them."""
        if self.supervisor is not None:
            self.supervisor.stop()

    def _pause(self) -> None:
        for one in self.deployed:
            try:
                get_client().call(UPDATE_DEPLOYMENT, id=one.id, body=DeploymentUpdate(paused=True))
            except ApiError as error:
                logger.warning("Deployment %r could not be paused: %s", one.name, error)

    def _prepare(self, run: FlowRun) -> tuple[Start, dict[str, str]]:
        deployment = get_client().call(READ_DEPLOYMENT, id=run.deployment_id)
        own: dict[str, str | None] = (run.job_variables or {}).get("env") or {}
        kind = kind_of(f"{deployment.id} {deployment.entrypoint}", own)
        return Start(run.id, environment=own, directory=deployment.path, kind=kind), {}


def serve(
    *deployments: RunnerDeployment,
    pause_on_shutdown: bool = True,
    print_starting_message: bool = True,
    limit: int | None = None,
    **options: Any,
) -> None:
    """Create or update deployments, and carry out their runs in processes here, until stopped.

    Args:
        deployments: as made by `flow.to_deployment`.
        pause_on_shutdown: pause them when this stops.
        print_starting_message: say what is served and how to run it.
        limit: most runs at once.
        **options: as `Runner` takes them.

    Raises:
        DeploymentApplyError: the API refused one.
    """
    runner = Runner(pause_on_shutdown=pause_on_shutdown, limit=limit, **options)
    for one in deployments:
        runner.add_deployment(one)
    if print_starting_message:
        for deployed in runner.deployed:
            sys.stdout.write(f"Serving {deployed.name!r}{f' at {deployed.url}' if deployed.url else ''}.\n")
            sys.stdout.write(f"Start a run with: headrace deployment run {deployed.name!r}\n")
        sys.stdout.flush()
    runner.start()


def serve_flow(
    flow: Flow[..., Any],
    name: str | None = None,
    *,
    global_limit: Any = None,
    pause_on_shutdown: bool = True,
    print_starting_message: bool = True,
    limit: int | None = None,
    webserver: bool = False,
    **options: Any,
) -> None:
    """Serve one flow; the work behind `Flow.serve`.

    Args:
        flow: the flow.
        name: the deployment's name; the flow's when absent.
        global_limit: most runs of the deployment at once, wherever they run.
        pause_on_shutdown: pause the deployment when this stops.
        print_starting_message: say what is served and how to run it.
        limit: most runs at once here.
        webserver: accepted; there is none.
        **options: as `headrace.deployments.options.deploy_options` reads them.
    """
    deployment = RunnerDeployment.from_flow(flow, name or flow.name, concurrency_limit=global_limit, **options)
    serve(
        deployment,
        pause_on_shutdown=pause_on_shutdown,
        print_starting_message=print_starting_message,
        limit=limit,
        webserver=webserver,
    )
