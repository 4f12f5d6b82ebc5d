"""What a flow can do to be run elsewhere: `deploy`, `serve`, `to_deployment`, `from_source`.

Deployments and runners stand above flows, so they cannot be imported here. Their functions are looked up by name when
a method is called, which also spares a flow that is just run their import.
"""

import importlib
from typing import TYPE_CHECKING, Any, Self

from headrace._internal.lazy import Lazy

if TYPE_CHECKING:
    from uuid import UUID

    from headrace.engine import loading as _loading
else:
    _loading = Lazy("headrace.engine.loading")


def _later(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


async def _in_thread(function: Any, *args: Any, **kwargs: Any) -> Any:
    import asyncio

    return await asyncio.to_thread(function, *args, **kwargs)


class FlowDeploying:
    """The methods of a flow that make deployments of it."""

    def deploy(self, name: str, work_pool_name: str | None = None, image: Any = None, **options: Any) -> "UUID":
        """Deploy the flow to a work pool, whose workers then run it.

        Args:
            name: the deployment's name.
            work_pool_name: the pool; that of the settings when absent.
            image: a container image for the runs.
            options: see `headrace.deployments.deploy_flow`.

        Returns:
            The deployment's id.
        """
        found: UUID = _later("headrace.deployments", "deploy_flow")(
            self, name, work_pool_name=work_pool_name, image=image, **options
        )
        return found

    async def adeploy(self, name: str, *args: Any, **options: Any) -> "UUID":
        """The awaitable twin of `deploy`."""
        found: UUID = await _in_thread(self.deploy, name, *args, **options)
        return found

    def to_deployment(self, name: str, **options: Any) -> Any:
        """A deployment of the flow, to be given to `serve` or `deploy`.

        Args:
            name: its name.
            options: see `headrace.deployments.RunnerDeployment.from_flow`.
        """
        return _later("headrace.deployments", "RunnerDeployment").from_flow(self, name, **options)

    async def ato_deployment(self, name: str, **options: Any) -> Any:
        """The awaitable twin of `to_deployment`."""
        return self.to_deployment(name, **options)

    def serve(self, name: str | None = None, **options: Any) -> None:
        """Deploy the flow and run it from this process whenever it is due, until the process is told to end.

        Args:
            name: the deployment's name; the flow's when absent.
            options: see `headrace.runner.serve_flow`.
        """
        _later("headrace.runner", "serve_flow")(self, name, **options)

    @classmethod
    def from_source(cls, source: Any, entrypoint: str) -> Self:
        """A flow whose code is kept elsewhere, to be deployed from there.

        Args:
            source: a folder, the URL of a Git repository, or a storage object (`headrace.runner.storage`).
            entrypoint: `path/in/source.py:function`.

        Raises:
            MissingFlowError: there is no such flow.
        """
        from pathlib import Path  # the standard library too is imported when it is needed
        from tempfile import TemporaryDirectory

        if isinstance(source, str | Path) and "://" not in str(source) and "@" not in str(source):
            folder = Path(source).expanduser().resolve()
            local: Self = cls._loaded(f"{folder}/{entrypoint}", _entrypoint=entrypoint, _path=str(folder))
            return local
        storage = _later("headrace.runner.storage", "create_storage_from_source")(source)
        with TemporaryDirectory() as temporary:
            storage.set_base_path(Path(temporary))
            _later("headrace._internal.threads", "finished")(storage.pull_code())
            found: Self = cls._loaded(f"{storage.destination}/{entrypoint}", _entrypoint=entrypoint, _storage=storage)
        return found

    @staticmethod
    def _loaded(place: str, **origin: Any) -> Any:
        found = _loading.load_flow_from_entrypoint(place)
        vars(found).update(origin)
        return found

    @classmethod
    async def afrom_source(cls, source: Any, entrypoint: str) -> Self:
        """The awaitable twin of `from_source`."""
        found: Self = await _in_thread(cls.from_source, source, entrypoint)
        return found
