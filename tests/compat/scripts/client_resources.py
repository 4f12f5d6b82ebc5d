"""What Prefect's client calls of variables, artifacts, blocks, concurrency limits, automations and events."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from checking import eventually, fresh, raises, run
from prefect import flow, get_client
from prefect.automations import Automation
from prefect.client.schemas.actions import (
    BlockDocumentCreate,
    BlockDocumentUpdate,
    BlockSchemaCreate,
    BlockTypeCreate,
    BlockTypeUpdate,
    GlobalConcurrencyLimitCreate,
    GlobalConcurrencyLimitUpdate,
)
from prefect.client.schemas.sorting import AutomationSort
from prefect.events import DeploymentEventTrigger, emit_event
from prefect.events.actions import DoNothing, RunDeployment
from prefect.events.filters import EventFilter
from prefect.events.schemas.automations import (
    AutomationCore,
    CompoundTrigger,
    EventTrigger,
    Posture,
    SequenceTrigger,
)
from prefect.events.schemas.events import Event
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectHTTPStatusError

client = get_client(sync_client=True)
NOW = datetime.now(UTC)
EXAMPLE = flow(lambda: None, name=fresh("compat-resources"))


def check_block_types():
    slug = fresh("kind")
    made = client.create_block_type(BlockTypeCreate(name=slug, slug=slug, description="d", code_example="c"))
    with raises(ObjectAlreadyExists):
        client.create_block_type(BlockTypeCreate(name=slug, slug=slug))
    client.update_block_type(
        made.id, BlockTypeUpdate(description="changed", logo_url="https://example.invalid/logo.png")
    )
    assert client.read_block_type_by_slug(slug).description == "changed"
    assert {slug, "secret", "local-file-system"} <= {one.slug for one in client.read_block_types()}
    client.delete_block_type(made.id)
    with raises(ObjectNotFound):
        client.read_block_type_by_slug(slug)
    with raises(ObjectNotFound):
        client.delete_block_type(made.id)


def check_block_schemas_and_documents():
    slug = fresh("kind")
    kind = client.create_block_type(BlockTypeCreate(name=slug, slug=slug))
    fields = {
        "title": slug,
        "type": "object",
        "properties": {
            "host": {"title": "Host", "type": "string"},
            "password": {"title": "Password", "type": "string"},
        },
        "required": ["host"],
        "secret_fields": ["password"],
        "block_type_slug": slug,
        "block_schema_references": {},
    }
    schema = client.create_block_schema(
        BlockSchemaCreate(fields=fields, block_type_id=kind.id, capabilities=["connect"], version="1.2")
    )
    assert (
        client.create_block_schema(
            BlockSchemaCreate(fields=fields, block_type_id=kind.id, capabilities=["connect"], version="1.2")
        ).id
        == schema.id
    )
    assert client.read_block_schema_by_checksum(schema.checksum).id == schema.id
    assert client.read_block_schema_by_checksum(schema.checksum, version="1.2").id == schema.id
    assert client.get_most_recent_block_schema_for_block_type(kind.id).id == schema.id
    assert client.read_block_schemas()
    document = BlockDocumentCreate(
        name="one", block_schema_id=schema.id, block_type_id=kind.id, data={"host": "h", "password": "geheim"}
    )
    made = client.create_block_document(document)
    with raises(ObjectAlreadyExists):
        client.create_block_document(document)
    assert client.read_block_document(made.id).data == {"host": "h", "password": "geheim"}
    assert "geheim" not in str(client.read_block_document(made.id, include_secrets=False).data)
    client.update_block_document(made.id, BlockDocumentUpdate(block_schema_id=schema.id, data={"host": "i"}))
    read = client.read_block_document_by_name("one", slug)
    assert read.data == {"host": "i", "password": "geheim"}
    assert [one.id for one in client.read_block_documents_by_type(slug)] == [made.id]
    assert made.id in {one.id for one in client.read_block_documents(limit=200)}
    client.delete_block_document(made.id)
    with raises(ObjectNotFound):
        client.read_block_document(made.id)
    with raises(ObjectNotFound):
        client.read_block_document_by_name("one", slug)


def check_tag_limits():
    tag = fresh("tag")
    client.create_concurrency_limit(tag, 2)
    assert client.read_concurrency_limit_by_tag(tag).concurrency_limit == 2
    assert tag in {one.tag for one in client.read_concurrency_limits(limit=200, offset=0)}
    holder = uuid4()
    client.increment_v1_concurrency_slots([tag], holder)
    assert client.read_concurrency_limit_by_tag(tag).active_slots == [holder]
    client.decrement_v1_concurrency_slots([tag], holder, 1.0)
    assert client.read_concurrency_limit_by_tag(tag).active_slots == []
    client.increment_v1_concurrency_slots([tag], uuid4())
    client.reset_concurrency_limit_by_tag(tag)
    assert client.read_concurrency_limit_by_tag(tag).active_slots == []
    client.delete_concurrency_limit_by_tag(tag)
    with raises(ObjectNotFound):
        client.read_concurrency_limit_by_tag(tag)
    with raises(ObjectNotFound):
        client.delete_concurrency_limit_by_tag(tag)


def check_global_limits():
    name = fresh("limit")
    client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=2))
    with raises(ObjectAlreadyExists):
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=2))
    assert client.increment_concurrency_slots([name], 2, "concurrency").status_code == 200
    with raises(PrefectHTTPStatusError, "423"):
        client.increment_concurrency_slots([name], 1, "concurrency")
    assert client.read_global_concurrency_limit_by_name(name).active_slots == 2
    client.release_concurrency_slots([name], 2, 1.0)
    client.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(limit=5))
    assert client.read_global_concurrency_limit_by_name(name).limit == 5
    assert name in {one.name for one in client.read_global_concurrency_limits(limit=200)}
    client.upsert_global_concurrency_limit_by_name(name, 6)
    assert client.read_global_concurrency_limit_by_name(name).limit == 6
    client.delete_global_concurrency_limit_by_name(name)
    with raises(ObjectNotFound):
        client.read_global_concurrency_limit_by_name(name)
    with raises(ObjectNotFound):
        client.delete_global_concurrency_limit_by_name(name)


def check_slots_with_a_lease():
    name = fresh("leased")
    client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))
    taken = client.increment_concurrency_slots_with_lease([name], 1, "concurrency", lease_duration=60).json()
    assert [one["name"] for one in taken["limits"]] == [name]
    client.renew_concurrency_lease(taken["lease_id"], 60)
    with raises(PrefectHTTPStatusError, "423"):
        client.increment_concurrency_slots_with_lease([name], 1, "concurrency", lease_duration=60)
    client.release_concurrency_slots_with_lease(taken["lease_id"])
    assert client.read_global_concurrency_limit_by_name(name).active_slots == 0


def check_automations():
    name = fresh("automation")
    trigger = EventTrigger(
        expect={"compat.happened"},
        match={"prefect.resource.id": "compat.*"},
        posture=Posture.Reactive,
        threshold=2,
        within=timedelta(minutes=1),
    )
    id = client.create_automation(
        AutomationCore(name=name, description="d", trigger=trigger, actions=[DoNothing()], tags=["t"])
    )
    read = client.read_automation(id)
    assert (read.name, read.trigger.expect, read.trigger.threshold) == (name, {"compat.happened"}, 2)
    assert client.find_automation(name).id == id
    assert [one.id for one in client.read_automations_by_name(name)] == [id]
    for sort in AutomationSort:
        assert id in {one.id for one in client.read_automations(sort=sort, limit=200)}
    client.pause_automation(id)
    assert not client.read_automation(id).enabled
    client.resume_automation(id)
    assert client.read_automation(id).enabled
    client.update_automation(id, AutomationCore(name=name, description="e", trigger=trigger, actions=[DoNothing()]))
    assert client.read_automation(id).description == "e"
    client.delete_automation(id)
    with raises(PrefectHTTPStatusError, "404"):
        client.read_automation(id)


def check_automations_of_the_sdk():
    name = fresh("automation")
    parts = [EventTrigger(expect={event}, posture=Posture.Reactive, threshold=1) for event in ("a", "b")]
    both = CompoundTrigger(triggers=parts, require="all", within=timedelta(minutes=1))
    made = Automation(name=name, trigger=both, actions=[DoNothing()]).create()
    read = Automation.read(name=name)
    assert read.id == made.id and len(read.trigger.triggers) == 2
    read.trigger = SequenceTrigger(triggers=parts, within=timedelta(minutes=2))
    read.update()
    assert Automation.read(id=made.id).trigger.type == "sequence"
    read.disable()
    assert not Automation.read(id=made.id).enabled
    read.delete()
    with raises(ValueError):
        Automation.read(name=name)


def check_automations_of_a_deployment():
    flow_id = client.create_flow_from_name(fresh("triggered"))
    id = client.create_deployment(flow_id, "one")
    owner = f"prefect.deployment.{id}"
    trigger = DeploymentEventTrigger(expect={"compat.ready"}, name=fresh("trigger"))
    trigger.set_deployment_id(id)
    made = client.create_automation(trigger.as_automation())
    assert [one.id for one in client.read_resource_related_automations(owner)] == [made]
    action = client.read_automation(made).actions[0]
    assert isinstance(action, RunDeployment) and action.deployment_id == id
    client.delete_resource_owned_automations(owner)
    with raises(PrefectHTTPStatusError, "404"):
        client.read_automation(made)


def check_events():
    resource = fresh("compat.thing")
    sent = [
        emit_event(
            event="compat.happened",
            resource={"prefect.resource.id": resource, "prefect.resource.name": "thing"},
            related=[{"prefect.resource.id": "compat.other", "prefect.resource.role": "friend"}],
            payload={"n": n},
        )
        for n in range(3)
    ]
    assert all(isinstance(one, Event) for one in sent)

    def found(**more):
        wanted = {"resource": {"id": [resource]}, "occurred": {"since": NOW - timedelta(hours=1)}} | more
        return client.read_events(EventFilter.model_validate(wanted), limit=50).events

    eventually(lambda: len(found()) == 3)
    assert {one.payload["n"] for one in found()} == {0, 1, 2}
    assert {one.id for one in found()} == {one.id for one in sent}
    assert len(found(event={"name": ["compat.happened"]})) == 3
    assert len(found(event={"prefix": ["compat."]})) == 3
    assert found(event={"exclude_prefix": ["compat."]}) == []
    assert len(found(related={"role": ["friend"]})) == 3
    assert len(found(any_resource={"id": ["compat.other"]})) == 3
    assert [one.id for one in found(id={"id": [str(sent[1].id)]})] == [sent[1].id]
    wanted = EventFilter.model_validate({"resource": {"id": [resource]}})
    page = client.read_events(wanted, limit=2)
    assert (page.total, len(page.events)) == (3, 2)
    assert len(client.read_events_page(str(page.next_page)).events) == 1


def check_objects_tell_of_themselves():
    """The server itself writes an event when an object is made."""
    pool = fresh("told")
    limit = client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=pool, limit=1))
    made = client.create_flow_from_name(fresh("told"))

    def told():
        wanted = {"any_resource": {"id": [f"prefect.flow.{made}", f"prefect.concurrency-limit.{limit}"]}}
        return {one.event for one in client.read_events(EventFilter.model_validate(wanted), limit=50).events}

    eventually(lambda: {"prefect.flow.created", "prefect.concurrency-limit.created"} <= told())


def check_result_storage_of_the_server():
    from prefect.filesystems import LocalFileSystem

    LocalFileSystem(basepath="/tmp").save(name := fresh("storage"))
    block = client.read_block_document_by_name(name, "local-file-system")
    client.update_server_default_result_storage(block.id)
    assert client.read_server_default_result_storage().default_result_storage_block_id == block.id
    client.clear_server_default_result_storage()
    assert client.read_server_default_result_storage().default_result_storage_block_id is None


if __name__ == "__main__":
    run(globals())
