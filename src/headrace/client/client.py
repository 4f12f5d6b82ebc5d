"""What a client is: something that calls endpoints. One transport each in `http` and `local`."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self, TypeVar

from headrace.schemas.endpoint import Endpoint

ResultT = TypeVar("ResultT")


class Calls(Protocol):
    """What makes calls: a client, or one transaction of it."""

    def call(self, endpoint: Endpoint[ResultT], *, body: Any = None, wait: float = 0, **arguments: Any) -> ResultT:
        """See `Client.call`."""
        ...


class Client(ABC):
    """Calls the API. It may be used by several threads at once."""

    local: ClassVar[bool]
    """Whether the operations run in this process, on its own database."""

    @abstractmethod
    def call(self, endpoint: Endpoint[ResultT], *, body: Any = None, wait: float = 0, **arguments: Any) -> ResultT:
        """Call an endpoint and return its result.

        Args:
            endpoint: which, as declared in `headrace.schemas`.
            body: the struct the endpoint takes; absent, an empty one.
            wait: seconds for which the server may hold the call rather than tell it to come back, if the endpoint
                waits for something; at most half a minute, and whole ones. The calling thread is held so long too.
                In local mode nobody holds it.
            arguments: those of the path and the query, by name; one that is None is left out.

        Raises:
            ObjectNotFound: what the call is about does not exist, or an id is none.
            ObjectAlreadyExists: what it would make is there already.
            ValidationFailed: an argument or the body is not valid.
            RateLimited: the API asked to wait, and went on asking.
            ApiUnreachable: the API gave no answer.
            ApiError: it refused for another reason.
        """

    def together(self, calls: Callable[["Calls"], ResultT]) -> ResultT:
        """Make several calls that belong together. In local mode they are one transaction; a server is asked for each.

        Args:
            calls: makes them, by the object it is given, and returns what came of them. It may be run again when its
                transaction is, so it must have no other effects.

        Raises:
            ApiError: as `call`; in local mode nothing was done then.
        """
        return calls(self)

    def close(self) -> None:
        """Let go of what it holds; the client can be used no more."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
