"""Flows: made once by name, read, changed, found, deleted with all that belongs to them."""

import pytest
from sqlalchemy import func, select

from headrace._internal.clock import ManualClock
from headrace._internal.ids import uuid7
from headrace.client.local import LocalClient
from headrace.exceptions import ObjectNotFound, ValidationFailed
from headrace.schemas.filters import FlowFilter, FlowRunFilter, FlowSort, IdInOrNot, NameMatch, TagsAll
from headrace.schemas.flow_runs import READ_FLOW_RUN
from headrace.schemas.flows import (
    BULK_DELETE_FLOWS,
    COUNT_DEPLOYMENTS_BY_FLOW,
    COUNT_FLOWS,
    CREATE_FLOW,
    DELETE_FLOW,
    NEXT_RUNS_BY_FLOW,
    PAGINATE_FLOWS,
    READ_FLOW,
    READ_FLOW_BY_NAME,
    READ_FLOWS,
    UPDATE_FLOW,
    BulkDeleteFlows,
    CountDeploymentsByFlow,
    CountFlows,
    FlowCreate,
    FlowUpdate,
    NextRunsByFlow,
    PaginateFlows,
    ReadFlows,
)
from headrace.schemas.logs import READ_LOGS, ReadLogs
from headrace.schemas.task_runs import READ_TASK_RUN
from headrace.server.store.tables import FLOW, FLOW_RUN, SLOT_LEASE
from headrace.server.store.transaction import Store, Tx
from tests.operations.runs_world import NOW, at, is_new, make_flow, make_run, make_task_run, scheduled, spoil


def test_a_flow_is_made_once_by_its_name(api: LocalClient, store: Store) -> None:
    """Creating a flow whose name is known finds the one that is there, as it is."""
    body = FlowCreate(name="etl", tags=["a"], labels={"team": "x"})
    first_time = is_new(store, CREATE_FLOW, body=body)

    again = api.call(CREATE_FLOW, body=FlowCreate(name="etl", tags=["b"]))

    assert first_time
    assert not is_new(store, CREATE_FLOW, body=body)
    assert (again.name, again.tags, again.labels, again.created) == ("etl", ["a"], {"team": "x"}, NOW)


@pytest.mark.parametrize("name", ["", "a/b", "a%b", "a<b", "a&b"])
def test_names_that_would_break_addresses_are_refused(api: LocalClient, name: str) -> None:
    """A flow's name is part of addresses, so some characters cannot be in it."""
    with pytest.raises(ValidationFailed, match="name"):
        api.call(CREATE_FLOW, body=FlowCreate(name=name))


def test_a_flow_is_read_by_id_and_by_name(api: LocalClient) -> None:
    """Both ways lead to the same flow."""
    flow = make_flow(api)

    assert api.call(READ_FLOW, id=flow.id) == flow
    assert api.call(READ_FLOW_BY_NAME, name="etl") == flow


def test_what_is_not_there_is_not_found(api: LocalClient) -> None:
    """Reading, changing and deleting an unknown flow say so."""
    for endpoint, arguments in (
        (READ_FLOW, {"id": uuid7()}),
        (READ_FLOW_BY_NAME, {"name": "nope"}),
        (UPDATE_FLOW, {"id": uuid7(), "body": FlowUpdate(tags=[])}),
        (DELETE_FLOW, {"id": uuid7()}),
        (READ_FLOW, {"id": "not-a-uuid"}),
    ):
        with pytest.raises(ObjectNotFound):
            api.call(endpoint, **arguments)


def test_only_given_fields_change(api: LocalClient, clock: ManualClock) -> None:
    """An update without tags leaves them; one with tags replaces them."""
    flow = make_flow(api, tags=["a"])
    clock.advance(60)

    api.call(UPDATE_FLOW, id=flow.id, body=FlowUpdate())
    kept = api.call(READ_FLOW, id=flow.id)
    api.call(UPDATE_FLOW, id=flow.id, body=FlowUpdate(tags=["b"]))
    changed = api.call(READ_FLOW, id=flow.id)

    assert (kept.tags, changed.tags) == (["a"], ["b"])
    assert (changed.created, changed.updated) == (NOW, at(minutes=1))


def test_flows_are_found_by_filters_in_an_order(api: LocalClient) -> None:
    """Filters by name, tags and runs narrow the list; orders go both ways."""
    flows = {name: make_flow(api, name, tags=[name[0]]) for name in ("alpha", "beta", "gamma")}
    make_run(api, flows["beta"], "nightly")

    def names(**body: object) -> list[str]:
        return [flow.name for flow in api.call(READ_FLOWS, body=ReadFlows(**body))]  # type: ignore[arg-type]

    assert names() == ["alpha", "beta", "gamma"]
    assert names(sort=FlowSort.NAME_DESC, limit=2) == ["gamma", "beta"]
    assert names(offset=1, limit=1) == ["beta"]
    assert names(flows=FlowFilter(name=NameMatch(like_="AMM"))) == ["gamma"]
    assert names(flows=FlowFilter(tags=TagsAll(all_=["a"]))) == ["alpha"]
    assert names(flow_runs=FlowRunFilter(name=NameMatch(any_=["nightly"]))) == ["beta"]
    assert api.call(COUNT_FLOWS, body=CountFlows(flows=FlowFilter(name=NameMatch(any_=["beta", "x"])))) == 1


def test_pages_say_how_many_there_are(api: LocalClient) -> None:
    """A page has its part of the list, and the count of all."""
    for number in range(5):
        make_flow(api, f"flow-{number}")

    page = api.call(PAGINATE_FLOWS, body=PaginateFlows(page=2, limit=2))

    assert [flow.name for flow in page.results] == ["flow-2", "flow-3"]
    assert (page.count, page.limit, page.page, page.pages) == (5, 2, 2, 3)


@pytest.mark.parametrize("limit", [-1, 201])
def test_no_list_is_longer_than_its_limit(api: LocalClient, limit: int) -> None:
    """A limit below 0 or above 200 is refused."""
    with pytest.raises(ValidationFailed, match="limit"):
        api.call(READ_FLOWS, body=ReadFlows(limit=limit))


def test_a_flow_is_deleted_with_its_runs(api: LocalClient) -> None:
    """Nothing of a deleted flow stays: runs, task runs, log lines."""
    flow = make_flow(api)
    run = make_run(api, flow)
    task_run = make_task_run(api, run)

    api.call(DELETE_FLOW, id=flow.id)

    for endpoint, id in ((READ_FLOW, flow.id), (READ_FLOW_RUN, run.id), (READ_TASK_RUN, task_run.id)):
        with pytest.raises(ObjectNotFound):
            api.call(endpoint, id=id)
    assert api.call(READ_LOGS, body=ReadLogs()) == []


def test_a_flow_with_very_many_runs_is_deleted(api: LocalClient, store: Store) -> None:
    """However many runs a flow has had, it can be deleted; slots that they or their task runs held are free."""
    flow = make_flow(api)
    run = make_run(api, flow)
    task_run = make_task_run(api, run)
    columns = [column for column in FLOW_RUN.c if column.name not in ("id", "idempotency_key")]
    count = 1200

    def multiply(tx: Tx) -> None:
        row = dict(zip((column.name for column in columns), tx.execute(select(*columns)).one(), strict=True))
        tx.execute(FLOW_RUN.insert(), [{**row, "id": uuid7()} for _ in range(count)])
        lease = {"limit_id": uuid7(), "slots": 1, "acquired": tx.now, "until": tx.now}
        tx.execute(SLOT_LEASE.insert(), [{**lease, "id": uuid7(), "holder_id": id} for id in (run.id, task_run.id)])

    store.write(multiply)

    api.call(DELETE_FLOW, id=flow.id)

    for table in (FLOW_RUN, SLOT_LEASE):
        left = select(func.count()).select_from(table)
        assert store.read(lambda tx, left=left: tx.execute(left).scalar_one()) == 0


def test_many_flows_are_deleted_at_once(api: LocalClient) -> None:
    """A bulk deletion takes those its filter finds, at most its limit, and names them."""
    flows = [make_flow(api, f"old-{number}") for number in range(3)]
    kept = make_flow(api, "new")
    old = FlowFilter(name=NameMatch(like_="old"))

    first = api.call(BULK_DELETE_FLOWS, body=BulkDeleteFlows(flows=old, limit=2))
    rest = api.call(BULK_DELETE_FLOWS, body=BulkDeleteFlows(flows=old))

    assert first.deleted + rest.deleted == [flow.id for flow in flows]
    assert api.call(READ_FLOWS, body=ReadFlows()) == [kept]


def test_each_flow_has_its_next_run(api: LocalClient) -> None:
    """The next run of a flow is the earliest that is scheduled, be it late; null when there is none."""
    busy, behind, idle = make_flow(api, "busy"), make_flow(api, "behind"), make_flow(api, "idle")
    make_run(api, behind, "late", scheduled(at(hours=-1)))
    make_run(api, behind, "to come", scheduled(at(hours=1)))
    make_run(api, busy, "later", scheduled(at(hours=2)))
    make_run(api, busy, "soon", scheduled(at(hours=1)))

    following = api.call(NEXT_RUNS_BY_FLOW, body=NextRunsByFlow(flow_ids=[busy.id, behind.id, idle.id]))

    soon, late = following[str(busy.id)], following[str(behind.id)]
    assert soon is not None
    assert late is not None
    assert late.name == "late"
    assert (soon.name, soon.next_scheduled_start_time, soon.flow_id) == ("soon", at(hours=1), busy.id)
    assert following[str(idle.id)] is None


def test_deployments_are_counted_by_flow(api: LocalClient) -> None:
    """Every flow that was asked about has its count, also of none."""
    flow = make_flow(api)

    assert api.call(COUNT_DEPLOYMENTS_BY_FLOW, body=CountDeploymentsByFlow(flow_ids=[flow.id])) == {str(flow.id): 0}


def test_g13_a_broken_flow_does_not_break_the_list(
    api: LocalClient, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """A row that cannot be read is left out of lists and reported; the others are served."""
    flows = [make_flow(api, f"flow-{number}") for number in range(3)]
    spoil(store, FLOW, flows[1].id, "tags", '{"not": "a list"}')

    listed = api.call(READ_FLOWS, body=ReadFlows())
    page = api.call(PAGINATE_FLOWS, body=PaginateFlows())

    assert [flow.name for flow in listed] == [flow.name for flow in page.results] == ["flow-0", "flow-2"]
    assert str(flows[1].id) in caplog.text
    assert api.call(COUNT_FLOWS, body=CountFlows(flows=FlowFilter(id=IdInOrNot(any_=[flows[1].id])))) == 1
