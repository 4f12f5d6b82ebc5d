"""What Prefect 3.8.8 answers to every change of state, measured on a running server.

A run is forced into the state at the left; then the state of each column, in ORDER, is proposed without details by a
client that knows neither epoch nor lease. yes: accepted; a name: accepted under that name; keep: rejected, the state
stays; a type: rejected, and the run gets that state; stop: aborted, the state stays.
"""

from collections.abc import Iterator

from headrace.schemas.states import OrchestrationResult, SetStateStatus, StateType

ORDER = ["SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING", "CANCELLED", "COMPLETED", "FAILED", "CRASHED"]

MEASURED = {
    "flow_run": """
        SCHEDULED  yes       yes       yes       keep      CANCELLED yes       yes       yes       yes
        PENDING    yes       stop      yes       keep      yes       yes       yes       yes       yes
        RUNNING    yes       stop      yes       yes       yes       yes       yes       yes       yes
        PAUSED     yes       keep      yes       keep      yes       yes       yes       yes       yes
        CANCELLING keep      keep      keep      keep      keep      yes       keep      keep      keep
        CANCELLED  stop      stop      yes       stop      stop      yes       yes       yes       stop
        COMPLETED  stop      yes       yes       stop      stop      yes       yes       yes       stop
        FAILED     stop      yes       yes       stop      stop      yes       yes       yes       stop
        CRASHED    stop      yes       yes       stop      stop      yes       yes       yes       stop
    """,
    "flow_run_with_deployment": """
        SCHEDULED  yes       yes       yes       keep      CANCELLED yes       yes       yes       yes
        PENDING    yes       stop      yes       keep      yes       yes       yes       yes       yes
        RUNNING    yes       stop      yes       yes       yes       yes       yes       yes       yes
        PAUSED     yes       keep      yes       keep      yes       yes       yes       yes       yes
        CANCELLING keep      keep      keep      keep      keep      yes       keep      keep      keep
        CANCELLED  yes       stop      yes       stop      stop      yes       yes       yes       stop
        COMPLETED  yes       yes       yes       stop      stop      yes       yes       yes       stop
        FAILED     yes       yes       yes       stop      stop      yes       yes       yes       stop
        CRASHED    yes       yes       yes       stop      stop      yes       yes       yes       stop
    """,
    "task_run": """
        SCHEDULED  yes       yes       yes       yes       yes       yes       yes       yes       yes
        PENDING    yes       yes       yes       yes       yes       yes       yes       yes       yes
        RUNNING    yes       yes       Rerunning yes       yes       yes       yes       yes       yes
        PAUSED     yes       yes       yes       yes       yes       yes       yes       yes       yes
        CANCELLING yes       yes       yes       yes       yes       yes       yes       yes       yes
        CANCELLED  yes       yes       yes       stop      stop      yes       yes       yes       stop
        COMPLETED  yes       yes       yes       stop      stop      yes       yes       yes       stop
        FAILED     yes       yes       yes       stop      stop      yes       yes       yes       stop
        CRASHED    yes       yes       yes       stop      stop      yes       yes       yes       stop
    """,
    "task_run_in_running_flow": """
        SCHEDULED  yes       yes       yes       yes       yes       yes       yes       yes       yes
        PENDING    yes       yes       yes       yes       yes       yes       yes       yes       yes
        RUNNING    yes       yes       Rerunning yes       yes       yes       yes       yes       yes
        PAUSED     yes       yes       yes       yes       yes       yes       yes       yes       yes
        CANCELLING yes       yes       yes       yes       yes       yes       yes       yes       yes
        CANCELLED  yes       yes       Retrying  stop      stop      yes       yes       yes       stop
        COMPLETED  yes       yes       Retrying  stop      stop      yes       yes       yes       stop
        FAILED     yes       yes       Retrying  stop      stop      yes       yes       yes       stop
        CRASHED    yes       yes       Retrying  stop      stop      yes       yes       yes       stop
    """,
}


def cells(table: str) -> Iterator[tuple[StateType, StateType, str]]:
    """Each change of a table: the type left, the type proposed, and the answer."""
    for line in MEASURED[table].strip().splitlines():
        leaving, *answers = line.split()
        for entering, answer in zip(ORDER, answers, strict=True):
            yield StateType(leaving), StateType(entering), answer


def said(result: OrchestrationResult, leaving: StateType, entering: StateType) -> str:
    """An answer of ours in the words of the tables; the state in force is part of it."""
    state = result.state
    assert state is not None
    if result.status is SetStateStatus.ACCEPT:
        assert state.type is entering
        return "yes" if state.name == entering.capitalize() else str(state.name)
    if result.status is SetStateStatus.REJECT:
        return "keep" if state.type is leaving else state.type.value
    assert state.type is leaving
    return "stop" if result.status is SetStateStatus.ABORT else result.status.value
