"""Pages of flow runs are the same however they are found: by an index in order, looked up and sorted, or by walking."""

from itertools import product
from typing import Any

import msgspec
import pytest

from headrace.client.local import LocalClient
from headrace.schemas.flow_runs import COUNT_FLOW_RUNS, READ_FLOW_RUNS, CountFlowRuns, FlowRun, ReadFlowRuns
from headrace.server.operations import lookups, paging
from headrace.server.store import composed
from tests.operations.runs_world import at, in_state, make_flow, make_run, scheduled

STATES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "one type": ({"type": {"any_": ["RUNNING"]}}, {"RUNNING"}),
    "two types": ({"type": {"any_": ["RUNNING", "SCHEDULED"]}}, {"RUNNING", "SCHEDULED"}),
    "one name": ({"name": {"any_": ["Running"]}}, {"RUNNING"}),
    "all but one": ({"type": {"not_any_": ["COMPLETED"]}}, {"RUNNING", "PENDING", "SCHEDULED"}),
    "none": ({"type": {"any_": ["PAUSED"]}}, set()),
}
"""Filters by state, and what they find."""
ORDERS = ("ID_DESC", "START_TIME_DESC", "START_TIME_ASC", "NAME_ASC")


def in_order(runs: list[FlowRun], sort: str) -> list[FlowRun]:
    """The runs as a list is to have them."""
    keys = {"ID": lambda run: (run.id,), "NAME": lambda run: (run.name, run.id)}
    by_time = lambda run: (run.start_time or run.expected_start_time, run.id)  # noqa: E731
    return sorted(runs, key=keys.get(sort.rpartition("_")[0], by_time), reverse=sort.endswith("DESC"))


@pytest.mark.parametrize("few", [0, 2, 2000])
@pytest.mark.parametrize("name", STATES)
def test_a_page_is_the_same_however_it_is_found(
    api: LocalClient, name: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filter by states, alone and for one flow, in each order, page by page and counted."""
    for module in (lookups, paging):
        monkeypatch.setattr(module, "FEW", few)
    monkeypatch.setattr(composed, "_KEPT", {})
    flows = [make_flow(api, name) for name in "ab"]
    kinds = [in_state("RUNNING"), scheduled(at(hours=1)), in_state("COMPLETED"), in_state("PENDING")]
    made = [make_run(api, flow, f"{place % 3}", kind) for place, flow, kind in product(range(2), flows, kinds)]
    state, found = STATES[name]

    for flow in (None, flows[0]):
        expected = [run for run in made if run.state_type in found and (flow is None or run.flow_id == flow.id)]
        scope = {"flow_runs": {"state": state}} | ({"flows": {"id": {"any_": [flow.id]}}} if flow else {})

        assert api.call(COUNT_FLOW_RUNS, body=msgspec.convert(scope, CountFlowRuns)) == len(expected)
        for sort in ORDERS:
            listed = []
            for offset in range(0, len(expected) + 1, 3):
                body = msgspec.convert(scope | {"sort": sort, "limit": 3, "offset": offset}, ReadFlowRuns)
                listed += api.call(READ_FLOW_RUNS, body=body)
            assert [run.id for run in listed] == [run.id for run in in_order(expected, sort)]
