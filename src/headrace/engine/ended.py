"""What a run came to: its final state, and its result or exception as this process holds it."""

from typing import Any

from headrace.engine import keeping
from headrace.schemas.states import State


class Ended:
    """The end of a run.

    Args:
        recorded: its last state, as it was recorded.
        value: its result.
        error: what its function raised, or the exception that stands for the state it returned.
        gives: what a plain call gives in place of the result; only for tasks that return a state.
    """

    __slots__ = ("_shown", "error", "gives", "recorded", "value")

    def __init__(
        self, recorded: State, value: Any = None, error: BaseException | None = None, gives: State | None = None
    ) -> None:
        self.recorded = recorded
        self.value = value
        self.error = error
        self.gives = gives
        self._shown: State | None = None

    @property
    def state(self) -> State:
        """The final state with the result in it, as users get it."""
        if self._shown is None:
            # A run that ended badly by states that it returned has both: the states are its result.
            failed = self.error is not None and self.value is None
            self._shown = keeping.shown(self.recorded, self.error if failed else self.value)
        return self._shown

    @property
    def interrupt(self) -> BaseException | None:
        """What tore the run out of its work and has to be raised again by whoever called it, also for its state."""
        return self.error if not isinstance(self.error, Exception | None) else None

    def give(self) -> Any:
        """What a plain call gives.

        Raises:
            BaseException: what the run's function raised.
        """
        if self.gives is not None:
            return self.state
        if self.error is not None:
            raise self.error
        return self.value

    def give_state(self) -> State:
        """What a call with `return_state=True` gives.

        Raises:
            BaseException: an interrupt.
        """
        if self.interrupt is not None:
            raise self.interrupt
        return self.state
