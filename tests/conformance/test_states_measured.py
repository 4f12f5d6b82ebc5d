"""Every change of state through the API is answered as Prefect 3.8.8 was measured to answer it, rule by rule.

The whole tables run on SQLite, every third cell of them on PostgreSQL: the rules are the same, and so is their suite.
"""

from typing import Any

import pytest

from headrace.client.local import LocalClient
from headrace.schemas.flow_runs import READ_FLOW_RUN, SET_FLOW_RUN_STATE, SetFlowRunState
from headrace.schemas.states import StateCreate, StateType
from headrace.schemas.task_runs import READ_TASK_RUN, SET_TASK_RUN_STATE, SetTaskRunState
from headrace.server.rules.change import Policy
from headrace.server.rules.flow_runs import FLOW_RUN_RULES, FORCED_FLOW_RUN_RULES, LATE_FLOW_RUN_RULES
from headrace.server.rules.task_runs import BACKGROUND_TASK_RUN_RULES, FORCED_TASK_RUN_RULES, TASK_RUN_RULES
from headrace.server.store.transaction import Store
from tests.operations.runs_world import in_state, make_flow, make_run, make_task_run
from tests.operations.transitions_world import World
from tests.unit.rules.measured import MEASURED, ORDER, cells, said

OWN = {"a replaced attempt stops", "one attempt at a time"}
"""Rules of headrace alone; they ask for nothing of clients that know neither epoch nor lease."""

POLICIES: list[tuple[Policy[Any, Any], dict[str, str]]] = [
    (
        FLOW_RUN_RULES,
        {
            "PreserveDeploymentConcurrencyLeaseId": "the slot's lease is carried on",
            "PreventDuplicateTransitions": "no change is made twice",
            "HandleFlowTerminalStateTransitions": "final states stay",
            "EnforceCancellingToCancelledTransition": "cancelling ends in cancelled",
            "BypassCancellingFlowRunsWithNoInfra": "nothing runs, nothing to cancel",
            "PreventPendingTransitions": "taken on once",
            "ValidateDeploymentConcurrencyAtRunning": "a slot still held at the start",
            "SecureFlowConcurrencySlots": "a slot before the start",
            "RemoveDeploymentConcurrencyLeaseForOldClientVersions": "a slot without renewals",
            "EnsureOnlyScheduledFlowsMarkedLate": "only scheduled runs are late",
            "HandlePausingFlows": "pausing",
            "HandleResumingPausedFlows": "resuming",
            "CopyScheduledTime": "the scheduled time is kept",
            "WaitForScheduledTime": "not before its time",
            "RetryFailedFlows": "retries",
            "ReleaseFlowConcurrencySlots": "slots are given back",
        },
    ),
    (
        FORCED_FLOW_RUN_RULES,
        {
            "PreventResultDataLoss": "a persisted result is kept",
            "BypassCancellingFlowRunsWithNoInfra": "nothing runs, nothing to cancel",
            "ReleaseFlowConcurrencySlots": "slots are given back",
        },
    ),
    (
        LATE_FLOW_RUN_RULES,
        {
            "EnsureOnlyScheduledFlowsMarkedLate": "only scheduled runs are late",
            "EnforceDeploymentConcurrencyOnLate": "cancelled when late and full",
        },
    ),
    (
        TASK_RUN_RULES,
        {
            "CacheRetrieval": "a known result is used",
            "HandleTaskTerminalStateTransitions": "final states stay",
            "PreventRunningTasksFromStoppedFlows": "only in running flow runs",
            "SecureTaskConcurrencySlots": "a slot for each tag",
            "CopyScheduledTime": "the scheduled time is kept",
            "WaitForScheduledTime": "not before its time",
            "RetryFailedTasks": "retries",
            "RenameReruns": "reruns are named",
            "UpdateFlowRunTrackerOnTasks": "the flow run's attempt is noted",
            "CacheInsertion": "results are kept by their key",
            "ReleaseTaskConcurrencySlots": "slots are given back",
        },
    ),
    (FORCED_TASK_RUN_RULES, {"ReleaseTaskConcurrencySlots": "slots are given back"}),
    (
        BACKGROUND_TASK_RUN_RULES,
        {
            "PreventPendingTransitions": "taken on once",
            "CacheRetrieval": "a known result is used",
            "HandleTaskTerminalStateTransitions": "final states stay",
            "CopyScheduledTime": "the scheduled time is kept",
            "CopyTaskParametersID": "parameters are kept",
            "WaitForScheduledTime": "not before its time",
            "RetryFailedTasks": "retries",
            "RenameReruns": "reruns are named",
            "UpdateFlowRunTrackerOnTasks": "the flow run's attempt is noted",
            "CacheInsertion": "results are kept by their key",
            "ReleaseTaskConcurrencySlots": "slots are given back",
            "EnqueueScheduledTasks": "task servers are told",
        },
    ),
]
"""Each policy, with the reference's rules in their order and ours that carry them out. The reference also counts the
telling of events as a rule of flow runs; here that is part of every change (`transitions.py`)."""


@pytest.mark.parametrize(("policy", "rules"), POLICIES, ids=lambda value: getattr(value, "name", ""))
def test_the_rules_are_those_of_the_reference_in_its_order(policy: Policy[Any, Any], rules: dict[str, str]) -> None:
    """Each rule of a policy has one of ours in the same place; those that fence attempts are added."""
    assert [rule.name for rule in policy.rules if rule.name not in OWN] == list(rules.values())


@pytest.mark.parametrize("leaving", ORDER)
@pytest.mark.parametrize("table", MEASURED)
def test_changes_are_answered_as_measured(table: str, leaving: str, store: Store) -> None:
    """The status, the name and the state in force are those measured, and the run that is read afterwards has them."""
    api, world = LocalClient(store), World(store)
    on_task_runs, is_sample = table.startswith("task_run"), store.read(lambda tx: tx.dialect) == "postgresql"
    flow = make_flow(api)
    deployment = world.deployment() if table.endswith("with_deployment") else None
    within = make_run(api, flow, state=in_state("RUNNING")) if table.endswith("in_running_flow") else None
    found, measured = {}, {}

    def change(run: Any, type: StateType, force: bool = False) -> Any:
        state = StateCreate(type=type)
        if on_task_runs:
            return api.call(SET_TASK_RUN_STATE, id=run.id, body=SetTaskRunState(state=state, force=force))
        return api.call(SET_FLOW_RUN_STATE, id=run.id, body=SetFlowRunState(state=state, force=force))

    chosen = [cell for cell in cells(table) if cell[0] == leaving]
    for left, entered, answer in chosen[ORDER.index(leaving) % 3 :: 3] if is_sample else chosen:
        run: Any = (
            make_task_run(api, within, entered) if on_task_runs else make_run(api, flow, deployment_id=deployment)
        )
        change(run, left, force=True)
        result = change(run, entered)
        measured[entered], found[entered] = answer, said(result, left, entered)
        stored: Any = api.call(READ_TASK_RUN if on_task_runs else READ_FLOW_RUN, id=run.id)
        assert (stored.state_type, stored.state_name, stored.state_id) == (
            result.state.type,
            result.state.name,
            result.state.id,
        )

    assert found == measured
