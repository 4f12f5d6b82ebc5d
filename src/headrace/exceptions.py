"""The errors of headrace.

    HeadraceError
    ├── ApiError                what the API answered, or that it did not
    │   ├── ObjectNotFound      404
    │   ├── ObjectAlreadyExists 409
    │   ├── ValidationFailed    422
    │   ├── Forbidden           403
    │   ├── Unauthorized        401
    │   ├── RateLimited         429, with the seconds to wait
    │   └── ApiUnreachable      nobody answered, or only 5xx, for as long as retries go
    ├── RunFailure              what asking for the result of a run that did not complete raises
    │   ├── FailedRun, CrashedRun, CancelledRun, PausedRun
    │   └── UnfinishedRun       it has no result, or none yet
    │       └── UpstreamTaskError    because what it waits for did not complete
    ├── MissingResult           it completed, and its result was not kept
    ├── ParameterTypeError      a flow's parameters do not fit its annotations
    ├── ParameterBindError, SignatureMismatchError, ReservedArgumentError    also TypeErrors, as Python's own
    ├── MappingLengthMismatch, MappingMissingIterable
    ├── MissingContextError, MissingFlowError, UnspecifiedFlowError, ScriptError
    └── ConfigurationError, InvalidNameError, SerializationError, ...

Signals are no errors: `RunSignal` (Abort, Pause) and `TerminationSignal` derive from BaseException, so that a user's
`except Exception` does not swallow them.
"""

from typing import Any


class HeadraceError(Exception):
    """The root of every error headrace raises on purpose."""


class ApiError(HeadraceError):
    """The API refused a call; `status` is the HTTP status that stands for it."""

    status = 500


class ObjectNotFound(ApiError):
    """There is no such object.

    Args:
        kind: what was looked for, as a user calls it ("Flow run").
        key: its id or name.
    """

    status = 404

    def __init__(self, kind: str = "Object", key: Any = None) -> None:
        self.kind, self.key = kind, key
        super().__init__(f"{kind} not found" if key is None else f"{kind} {str(key)!r} not found")


class ObjectAlreadyExists(ApiError):
    """An object of that name exists."""

    status = 409


class ValidationFailed(ApiError):
    """The call was understood, and what it asks for is not valid.

    Args:
        message: what is wrong and how to mend it.
        details: one entry a fault, with `loc`, `msg` and `type`, when the faults have places in the body.
    """

    status = 422

    def __init__(self, message: str, details: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message)
        self.details = details


class Forbidden(ApiError):
    """The caller is known and may not do this."""

    status = 403


class Unauthorized(ApiError):
    """The caller is not known."""

    status = 401


class RateLimited(ApiError):
    """Too much at once; try again after `retry_after` seconds."""

    status = 429

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ApiUnreachable(ApiError):
    """The API gave no answer."""

    status = 503


class RunFailure(HeadraceError):
    """The result of a run was asked for, and the run did not complete."""


class FailedRun(RunFailure):
    """The run failed, and the exception that it raised is not at hand."""


class CrashedRun(RunFailure):
    """The run's process died, or was stopped from outside."""


class CancelledRun(RunFailure):
    """The run was cancelled."""


class PausedRun(RunFailure):
    """The run is paused.

    Args:
        args: the message.
        state: the state it is paused in.
    """

    def __init__(self, *args: Any, state: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.state = state


class UnfinishedRun(RunFailure):
    """The run is not in a final state, so it has no result."""


class MissingResult(HeadraceError):
    """The run completed, but its result was neither persisted nor is it in memory."""


class UpstreamTaskError(UnfinishedRun):
    """Something that a task needs or waits for did not complete, so the task did not run."""


class MissingContextError(HeadraceError, RuntimeError):
    """This can only be done inside a flow run or a task run."""


class MissingFlowError(HeadraceError):
    """A flow was looked for and not found."""


class UnspecifiedFlowError(HeadraceError):
    """There are several flows, and it was not said which one is meant."""


class ScriptError(HeadraceError):
    """A user's file raised while it was loaded.

    Args:
        user_exc: what it raised.
        path: the file.
    """

    def __init__(self, user_exc: BaseException, path: Any) -> None:
        super().__init__(f"The script at {str(path)!r} raised {type(user_exc).__name__}: {user_exc}")
        self.user_exc = user_exc


class ParameterTypeError(HeadraceError):
    """The parameters of a flow do not have the types that its annotations ask for.

    Args:
        msg: one line for each parameter at fault.
    """

    def __init__(self, msg: str) -> None:
        super().__init__(msg)


class ParameterBindError(TypeError, HeadraceError):
    """The arguments of a call do not fit the function's signature."""

    def __init__(self, msg: str) -> None:
        super().__init__(msg)


class SignatureMismatchError(HeadraceError, TypeError):
    """Named parameters do not fit the function's signature."""

    def __init__(self, msg: str) -> None:
        super().__init__(msg)


class ReservedArgumentError(HeadraceError, TypeError):
    """A flow or task has a parameter with a name that calling it needs for itself."""


class MappingLengthMismatch(HeadraceError):
    """The lists given to `map` differ in length."""


class MappingMissingIterable(HeadraceError):
    """`map` was given nothing to map over."""


class ConfigurationError(HeadraceError):
    """A setting or option is wrong."""


class InvalidNameError(HeadraceError, ValueError):
    """A name has characters that names cannot have."""


class SerializationError(HeadraceError):
    """A value could not be written in the format chosen for it, or not read from it."""


class HashError(HeadraceError):
    """A value has no stable hash, so no cache key can be made from it."""


class InfrastructureError(HeadraceError):
    """The place where a run should run failed."""


class InfrastructureNotAvailable(HeadraceError):
    """The infrastructure of a run cannot be reached."""


class InfrastructureNotFound(HeadraceError):
    """The infrastructure of a run is gone."""


class FlowPauseTimeout(HeadraceError):
    """Nobody resumed the paused run in time."""


class FlowRunWaitTimeout(HeadraceError):
    """A run did not become final in the time given."""


class NotPausedError(HeadraceError):
    """Only a paused run can be resumed."""


class MissingProfileError(HeadraceError, ValueError):
    """There is no such profile."""


class RunSignal(BaseException):
    """Tells the engine to leave a run; not an error, and not to be caught by users' code."""


class Abort(RunSignal):
    """The server refuses to let this attempt of the run go on; it must stop and change nothing."""


class Pause(RunSignal):
    """The run is paused and gives up its process.

    Args:
        args: the message.
        state: the paused state.
    """

    def __init__(self, *args: Any, state: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.state = state


class ExternalSignal(BaseException):
    """The operating system asks the process for something."""


class TerminationSignal(ExternalSignal):
    """The process was asked to end.

    Args:
        signal: the signal's number.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(f"Ended by signal {signal}.")
        self.signal = signal


PrefectException = HeadraceError
"""The name that code written for Prefect catches."""

PrefectSignal = RunSignal
"""The name that code written for Prefect knows signals by."""
