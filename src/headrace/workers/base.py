"""What all workers have in common: a pool, its job template, and a supervisor that carries out the pool's runs."""

import logging
import os
import platform
import threading
import uuid
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar

from headrace.client import Client, get_client
from headrace.exceptions import ConfigurationError, ObjectAlreadyExists, ObjectNotFound
from headrace.logging.configuration import ensure_logging_setup
from headrace.runner.protocol import Start
from headrace.runner.sources import PoolSource
from headrace.runner.supervisor import Supervisor
from headrace.schemas.flow_runs import FlowRun
from headrace.schemas.work_pools import (
    CREATE_WORK_POOL,
    READ_WORK_POOL,
    UPDATE_WORK_POOL,
    WorkPool,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from headrace.settings import get_settings
from headrace.workers.server import HealthServer

logger = logging.getLogger("headrace.worker")


class BaseWorker:
    """Carries out the runs of a work pool. A kind of worker says what a job is, in `order_for`.

    Args:
        work_pool_name: the pool.
        work_queues: only runs of these work queues.
        name: the worker's name; made up when absent.
        prefetch_seconds: how far ahead to look for runs; the setting `worker.prefetch_seconds` when absent.
        create_pool_if_not_found: make the pool if there is none of this name.
        limit: most runs at once.
        heartbeat_interval_seconds: the setting `worker.heartbeat_seconds` when absent.
        base_job_template: for a pool that is made; the kind's own when absent.
        client: whom to ask; the active client when absent.
    """

    type: ClassVar[str]

    def __init__(
        self,
        work_pool_name: str,
        work_queues: Sequence[str] | None = None,
        name: str | None = None,
        prefetch_seconds: float | None = None,
        create_pool_if_not_found: bool = True,
        limit: int | None = None,
        heartbeat_interval_seconds: float | None = None,
        *,
        base_job_template: dict[str, Any] | None = None,
        client: Client | None = None,
    ) -> None:
        settings = get_settings().worker
        if name is not None and ("/" in name or "%" in name):
            raise ConfigurationError(f"{name!r} cannot be a worker's name: it must have no / and no %.")
        self.name = name or f"{self.__class__.__name__} {platform.node()}-{uuid.uuid4().hex[:6]}"
        self.work_pool_name, self.work_queues = work_pool_name, list(work_queues or ())
        self.limit = limit
        self._prefetch = settings.prefetch_seconds if prefetch_seconds is None else prefetch_seconds
        self._heartbeat = heartbeat_interval_seconds or settings.heartbeat_seconds
        self._create_pool = create_pool_if_not_found
        self._template = base_job_template
        self._client = client
        self._pool: WorkPool | None = None
        self.supervisor: Supervisor | None = None

    @classmethod
    def get_default_base_job_template(cls) -> dict[str, Any]:
        """The job template of pools made for this kind of worker."""
        raise NotImplementedError

    def order_for(self, run: FlowRun, pool: WorkPool) -> Start:
        """How to start a run.

        Args:
            run: the run.
            pool: the worker's pool, as it is now.

        Raises:
            Exception: what is wrong with its job; the run is then CRASHED with it.
        """
        raise NotImplementedError

    @property
    def client(self) -> Client:
        """Whom it asks."""
        return self._client or get_client()

    def start(
        self,
        run_once: bool = False,
        with_healthcheck: bool = False,
        printer: Callable[[str], Any] | None = None,
        *,
        ready: Callable[[], Any] | None = None,
    ) -> None:
        """Carry out runs until stopped: by `stop()`, or by SIGTERM or SIGINT when in the main thread.

        Args:
            run_once: carry out what is due now, and return when that has ended.
            with_healthcheck: serve `/health` at the address of the settings `worker.webserver`.
            printer: told what a person at the terminal should know.
            ready: called once runs are looked for.

        Raises:
            ConfigurationError: the pool is for another kind of worker.
            ObjectNotFound: there is no such pool, and none is to be made.
        """
        ensure_logging_setup()
        settings = get_settings()
        self._pool = self.find_pool()
        source = PoolSource(self.work_pool_name, self.work_queues, self.name, self._heartbeat)
        source.heartbeat(self.client)
        self.supervisor = supervisor = Supervisor(
            self.client,
            source,
            self._prepare,
            limit=self.limit,
            poll_seconds=settings.worker.query_seconds,
            prefetch_seconds=self._prefetch,
            heartbeat_seconds=self._heartbeat,
            lease_seconds=settings.server.runs.lease_seconds,
            grace_seconds=settings.worker.cancellation_grace_seconds,
            run_keys=settings.worker.run_keys,
        )
        if printer is not None:
            printer(f"Worker {self.name!r} works for pool {self.work_pool_name!r}. Stop it with ^C.")
        health = HealthServer(supervisor, settings.worker) if with_healthcheck else nullcontext()
        in_main = threading.current_thread() is threading.main_thread()
        with health, supervisor.handle_signals() if in_main else nullcontext():
            if ready is not None:
                ready()
            supervisor.run(once=run_once)
        if printer is not None:
            printer(f"Worker {self.name!r} has stopped.")

    def stop(self) -> None:
        """Take no more runs, and return from `start` when those that run have ended; a second call ends them."""
        if self.supervisor is not None:
            self.supervisor.stop()

    def find_pool(self) -> WorkPool:
        """The worker's pool; made, or given this kind's job template, where that is wanting.

        Raises:
            ConfigurationError: it is for another kind of worker.
            ObjectNotFound: there is none, and none is to be made.
        """
        try:
            pool = self.client.call(READ_WORK_POOL, name=self.work_pool_name)
        except ObjectNotFound:
            if not self._create_pool:
                raise
            pool = self._make_pool()
        if pool.type != self.type:
            raise ConfigurationError(
                f"Work pool {pool.name!r} is of type {pool.type!r}, and this is a worker of type {self.type!r}."
            )
        if not pool.base_job_template:
            template = self._template or self.get_default_base_job_template()
            self.client.call(UPDATE_WORK_POOL, name=pool.name, body=WorkPoolUpdate(base_job_template=template))
            pool.base_job_template = template
        return pool

    def _make_pool(self) -> WorkPool:
        template = self._template or self.get_default_base_job_template()
        body = WorkPoolCreate(name=self.work_pool_name, type=self.type, base_job_template=template)
        try:
            made = self.client.call(CREATE_WORK_POOL, body=body)
        except ObjectAlreadyExists:  # another worker was faster
            return self.client.call(READ_WORK_POOL, name=self.work_pool_name)
        logger.info("Made work pool %r.", made.name)
        return made

    def _prepare(self, run: FlowRun) -> tuple[Start, dict[str, str]]:
        pool = self.client.call(READ_WORK_POOL, name=self.work_pool_name)
        labels = {
            "prefect.worker.name": self.name,
            "prefect.worker.type": self.type,
            "prefect.work-pool.name": pool.name,
            "prefect.work-pool.id": str(pool.id),
        }
        order = self.order_for(run, pool)
        order.environment = {**order.environment, "HEADRACE__WORKER_NAME": self.name}
        return order, labels


def on_linux_with_fork() -> bool:
    """Whether forking a process that has imported much is safe here."""
    return hasattr(os, "fork") and platform.system() == "Linux"
