"""What a transaction goes through, written once for the synchronous and the asynchronous kind (`transactions`)."""

import copy
import logging
from collections.abc import Callable
from contextvars import ContextVar, Token
from enum import Enum
from typing import Any

from headrace._internal.threads import finished
from headrace.exceptions import ConfigurationError, SerializationError
from headrace.logging import get_logger
from headrace.result_records import ResultRecord
from headrace.results import ResultStore, get_result_store

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]
Hook = Callable[[Any], Any]
_MISSING: Any = object()
innermost: ContextVar["BaseTransaction | None"] = ContextVar("headrace_transaction", default=None)


class IsolationLevel(Enum):
    """What a transaction sees of others with the same key."""

    READ_COMMITTED = "READ_COMMITTED"
    """What they have committed; two at once both do the work."""
    SERIALIZABLE = "SERIALIZABLE"
    """It waits for them: the second one finds what the first one made."""


class CommitMode(Enum):
    """When a transaction is committed."""

    EAGER = "EAGER"
    """At its end."""
    LAZY = "LAZY"
    """When the one around it is; at its end if there is none."""
    OFF = "OFF"
    """Only by hand."""


class TransactionState(Enum):
    """How far a transaction is; see the head of this module."""

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    STAGED = "STAGED"
    COMMITTED = "COMMITTED"
    ROLLED_BACK = "ROLLED_BACK"


class BaseTransaction:
    """What transactions of synchronous and of asynchronous code have in common.

    Args:
        store: where the record of its key is; made by `transaction` when there is a key.
        key: the key; without one nothing is written.
        commit_mode: when it is committed; as the one around it when absent, LAZY without one.
        isolation_level: as the one around it when absent, READ_COMMITTED without one.
        overwrite: do the work although there is a record.
        logger: says which hooks run.
        write_on_commit: write the staged value when it is committed.
    """

    def __init__(
        self,
        *,
        store: ResultStore | None = None,
        key: str | None = None,
        commit_mode: CommitMode | None = None,
        isolation_level: IsolationLevel | None = None,
        overwrite: bool = False,
        logger: Logger | None = None,
        write_on_commit: bool = True,
    ) -> None:
        self.store, self.key = store, key
        self.commit_mode, self.isolation_level = commit_mode, isolation_level
        self.overwrite, self.write_on_commit = overwrite, write_on_commit
        self.logger: Logger = logger or get_logger("transactions")
        self.state = TransactionState.PENDING
        self.children: list[BaseTransaction] = []
        self.on_commit_hooks: list[Hook] = []
        self.on_rollback_hooks: list[Hook] = []
        self._parent: BaseTransaction | None = None
        self._values: dict[str, Any] = {}
        self._staged: Any = None
        self._holder: str | None = None
        self._token: Token[BaseTransaction | None] | None = None

    @classmethod
    def get_active(cls) -> "BaseTransaction | None":
        """The innermost transaction that the code is in."""
        return innermost.get()

    def set(self, name: str, value: Any) -> None:
        """Keep a value for hooks and inner transactions.

        Args:
            name: its name.
            value: the value.
        """
        self._values[name] = value

    def get(self, name: str, default: Any = _MISSING) -> Any:
        """A copy of a value that was kept in this transaction or one around it.

        Args:
            name: its name.
            default: what to return when there is none.

        Raises:
            ValueError: there is none, and no default.
        """
        if name in self._values:
            return copy.deepcopy(self._values[name])
        if self._parent is not None:
            return self._parent.get(name, default)
        if default is _MISSING:
            raise ValueError(f"There is no value {name!r} in this transaction; keep one with `set`.")
        return default

    def is_committed(self) -> bool:
        """Whether its work is done and kept."""
        return self.state is TransactionState.COMMITTED

    def is_rolled_back(self) -> bool:
        """Whether its work was undone."""
        return self.state is TransactionState.ROLLED_BACK

    def is_staged(self) -> bool:
        """Whether its work is done and waits to be committed."""
        return self.state is TransactionState.STAGED

    def is_pending(self) -> bool:
        """Whether it has not begun."""
        return self.state is TransactionState.PENDING

    def is_active(self) -> bool:
        """Whether its work is in progress."""
        return self.state is TransactionState.ACTIVE

    def prepare_transaction(self) -> None:
        """Take over what the one around it says, and become its child."""
        self._parent = innermost.get()
        if self._parent is not None:
            self._parent.add_child(self)
            self.commit_mode = self.commit_mode or self._parent.commit_mode
            self.isolation_level = self.isolation_level or self._parent.isolation_level
            if self.store is None and self.key is not None:
                self.store = self._parent.store
        self.commit_mode = self.commit_mode or CommitMode.LAZY
        self.isolation_level = self.isolation_level or IsolationLevel.READ_COMMITTED
        if self.store is None and self.key is not None:
            self.store = get_result_store()
        if self.store is not None and not self.store.supports_isolation_level(self.isolation_level):
            raise ConfigurationError(
                "A SERIALIZABLE transaction locks its key, and its result store has no lock manager. Give it one: "
                "`ResultStore(lock_manager=...)`, or for a task `cache_policy=INPUTS.configure(lock_manager=...)`."
            )

    def add_child(self, transaction: "BaseTransaction") -> None:
        """Commit and roll back another transaction with this one."""
        self.children.append(transaction)

    def get_parent(self) -> "BaseTransaction | None":
        """The transaction around it."""
        return self._parent

    def stage(
        self, value: Any, on_rollback_hooks: list[Hook] | None = None, on_commit_hooks: list[Hook] | None = None
    ) -> None:
        """Say that the work is done; what came of it is written when the transaction is committed.

        Args:
            value: what came of it; a value or a `ResultRecord`.
            on_rollback_hooks: further hooks.
            on_commit_hooks: further hooks.
        """
        if self.is_committed():
            return
        self.on_rollback_hooks += on_rollback_hooks or []
        self.on_commit_hooks += on_commit_hooks or []
        self._staged, self.state = value, TransactionState.STAGED

    # What both kinds do, written once; the asynchronous kind does it in a thread.

    def _begin(self) -> None:
        self.prepare_transaction()
        self.state = TransactionState.ACTIVE
        if self.store is None or self.key is None:
            return
        if self.isolation_level is IsolationLevel.SERIALIZABLE:
            self._holder = self._holder or self.store.generate_default_holder()
            self.store.acquire_lock(self.key, self._holder)
        try:
            if not self.overwrite and self.store.exists(self.key):
                self.state = TransactionState.COMMITTED
        except BaseException:
            self._unlock()
            raise

    def _read(self) -> ResultRecord[Any] | None:
        if self.store is None or self.key is None:
            return None
        return self.store.find(self.key)

    def _commit(self) -> bool:
        if self.state in (TransactionState.ROLLED_BACK, TransactionState.COMMITTED):
            return self.is_committed()
        try:
            for child in self.children:
                if child.is_staged() or child.is_active():
                    child._commit()
            for hook in self.on_commit_hooks:
                self._hook(hook, "commit")
            self._write()
        except SerializationError as error:
            self.logger.warning("The result of transaction %r cannot be stored: %s", self.key, error)
            self._rollback()
            return False
        except Exception:
            self.logger.exception("An error was encountered while committing transaction %r", self.key)
            self._rollback()
            return False
        self.state = TransactionState.COMMITTED
        return True

    def _write(self) -> None:
        if self.store is None or self.key is None or not self.write_on_commit:
            return
        if isinstance(self._staged, ResultRecord):
            self.store.persist_result_record(self._staged, self._holder)
        else:
            self.store.write(self._staged, self.key, holder=self._holder)

    def _rollback(self) -> bool:
        if self.state in (TransactionState.ROLLED_BACK, TransactionState.COMMITTED):
            return False
        done = True
        try:
            for hook in reversed(self.on_rollback_hooks):
                self._hook(hook, "rollback")
        except Exception:
            self.logger.exception("An error was encountered while rolling back transaction %r", self.key)
            done = False
        self.state = TransactionState.ROLLED_BACK
        for child in reversed(self.children):
            child._rollback()
        return done

    def _hook(self, hook: Hook, kind: str) -> None:
        name = getattr(hook, "__name__", None) or type(hook).__name__
        self.logger.info("Running %s hook %r", kind, name)
        try:
            self._finish(hook(self))
        except Exception:
            self.logger.error("An error was encountered while running %s hook %r", kind, name)
            raise
        self.logger.info("%s hook %r finished running successfully", kind.capitalize(), name)

    def _finish(self, value: Any) -> None:
        """Wait for what a hook that is a coroutine function returned."""
        finished(value)

    def _end(self, error: BaseException | None) -> None:
        try:
            if error is not None:
                self._rollback()
                if self._parent is not None:
                    self._parent._rollback()
            elif self.commit_mode is CommitMode.OFF:
                self._rollback()
            elif self.commit_mode is CommitMode.EAGER or self._parent is None:
                self._commit()
            elif not self.is_committed() and not self.is_rolled_back():
                self.state = TransactionState.STAGED
        finally:
            self._unlock()

    def _unlock(self) -> None:
        if self._holder is not None and self.store is not None and self.key is not None:
            self.store.release_lock(self.key, self._holder)

    def _enter(self) -> None:
        self._token = innermost.set(self)

    def _leave(self) -> None:
        if self._token is not None:
            innermost.reset(self._token)
            self._token = None
