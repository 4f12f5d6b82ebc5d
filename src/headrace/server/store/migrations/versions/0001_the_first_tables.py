"""The first tables."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from headrace.server.store.tables.events import writer
from headrace.server.store.tables.types import Id, Json, Moment

revision = "0001"
down_revision = None


def of_filled(name: str) -> dict[str, Any]:
    filled = sa.column(name).is_not(None)
    return {"sqlite_where": filled, "postgresql_where": filled}


def upgrade() -> None:
    on_postgresql = op.get_context().dialect.name == "postgresql"
    op.create_table(
        "api_key",
        sa.Column("id", Id(), nullable=False),
        sa.Column("created", Moment(), nullable=False),
        sa.Column("updated", Moment(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("permissions", Json(), nullable=False),
        sa.Column("work_pool", sa.String(), nullable=True),
        sa.Column("expires", Moment(), nullable=True),
        sa.Column("last_used", Moment(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
        sa.UniqueConstraint("digest", name=op.f("uq_api_key__digest")),
        sa.UniqueConstraint("name", name=op.f("uq_api_key__name")),
    )
    op.create_table(
        "artifact",
        sa.Column("id", Id(), nullable=False),
        sa.Column("created", Moment(), nullable=False),
        sa.Column("updated", Moment(), nullable=False),
        sa.Column("key", sa.String(), nullable=True),
        sa.Column("type", sa.String(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("data", Json(), nullable=True),
        sa.Column("metadata_", Json(), nullable=True),
        sa.Column("flow_run_id", Id(), nullable=True),
        sa.Column("task_run_id", Id(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifact")),
    )
    with op.batch_alter_table("artifact", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_artifact__created"), ["created"], unique=False)
        batch_op.create_index(batch_op.f("ix_artifact__flow_run_id"), ["flow_run_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_artifact__key_id"), ["key", "id"], unique=False)
        batch_op.create_index(batch_op.f("ix_artifact__task_run_id"), ["task_run_id"], unique=False)

    op.create_table(
        "artifact_collection",
        sa.Column("id", Id(), nullable=False),
        sa.Column("created", Moment(), nullable=False),
        sa.Column("updated", Moment(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("latest_id", Id(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifact_collection")),
        sa.UniqueConstraint("key", name=op.f("uq_artifact_collection__key")),
    )
    op.create_table(
        "automation",
        sa.Column("id", Id(), nullable=False),
        sa.Column("created", Moment(), nullable=False),
        sa.Column("updated", Moment(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("tags", Json(), nullable=False),
        sa.Column("trigger", Json(), nullable=False),
        sa.Column("actions", Json(), nullable=False),
        sa.Column("actions_on_trigger", Json(), nullable=False),
        sa.Column("actions_on_resolve", Json(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_automation")),
    )
    op.create_table(
        "automation_related",
        sa.Column("resource_id", sa.String(), nullable=False),
        sa.Column("automation_id", Id(), nullable=False),
        sa.Column("owns", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("resource_id", "automation_id", "owns", name=op.f("pk_automation_related")),
    )
    with op.batch_alter_table("automation_related", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_automation_related__automation_id"), ["automation_id"], unique=False)

    op.create_table(
        "block_document",
        sa.Column("id", Id(), nullable=False),
        sa.Column("created", Moment(), nullable=False),
        sa.Column("updated", Moment(), nullable=False),
        sa.Column("block_type_id", Id(), nullable=False),
        sa.Column("block_schema_id", Id(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("is_anonymous", sa.Boolean(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("references", Json(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_block_document")),
    )
    with op.batch_alter_table("block_document", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_block_document__block_schema_id"), ["block_schema_id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_block_document__block_type_id_name"), ["block_type_id", "name"], unique=True
        )

    op.create_table(
        "block_schema",
        sa.Column("id", Id(), nullable=False),
        sa.Column("created", Moment(), nullable=False),
        sa.Column("updated", Moment(), nullable=False),
        sa.Column("block_type_id", Id(), nullable=False),
        sa.Column("checksum", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("capabilities", Json(), nullable=False),
        sa.Column("fields", Json(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_block_schema")),
    )
    with op.batch_alter_table("block_schema", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_block_schema__block_type_id"), ["block_type_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_block_schema__checksum_version"), ["checksum", "version"], unique=True)

    op.create_table(
        "block_type",
        sa.Column("id", Id(), nullable=False),
        sa.Column("created", Moment(), nullable=False),
        sa.Column("updated", Moment(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("slug", sa.String(), nullable=False),
        sa.Column("logo_url", sa.Text(), nullable=True),
        sa.Column("documentation_url", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("code_example", sa.Text(), nullable=True),
        sa.Column("is_protected", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_block_type")),
    )
    with op.batch_alter_table("block_type", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_block_type__slug"), ["slug"], unique=True)

    op.create_table(
        "cleanup_delivery",
        sa.Column("id", Id(), nullable=False),
        sa.Column("work_pool_id", Id(), nullable=False),
        sa.Column("work_queue_id", Id(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("flow_run_id", Id(), nullable=False),
        sa.Column("claim_id", Id(), nullable=True),
        sa.Column("infrastructure_pid", sa.String(), nullable=True),
        sa.Column("deliveries", sa.Integer(), nullable=False),
        sa.Column("since", Moment(), nullable=False),
        sa.Column("due", Moment(), nullable=False),
        sa.Column("holder", Id(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cleanup_delivery")),
    )
    with op.batch_alter_table("cleanup_delivery", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_cleanup_delivery__work_pool_id_since"), ["work_pool_id", "since"], unique=False
        )

    op.create_table(
        "concurrency_limit",
        sa.Column("id", Id(), nullable=False),
        sa.Column("created", Moment(), nullable=False),
        sa.Column("updated", Moment(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("limit", sa.Integer(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("slot_decay_per_second", sa.Float(), nullable=False),
        sa.Column("avg_slot_occupancy_seconds", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_concurrency_limit")),
        sa.UniqueConstraint("name", name=op.f("uq_concurrency_limit__name")),
    )
    op.create_table(
        "configuration",
        sa.Column("id", Id(), nullable=False),
        sa.Column("created", Moment(), nullable=False),
        sa.Column("updated", Moment(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", Json(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_configuration")),
        sa.UniqueConstraint("key", name=op.f("uq_configuration__key")),
    )
    op.create_table(
        "deployment",
        sa.Column("id", Id(), nullable=False),
        sa.Column("created", Moment(), nullable=False),
        sa.Column("updated", Moment(), nullable=False),
        sa.Column("flow_id", Id(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=True),
        sa.Column("version_info", Json(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("last_polled", Moment(), nullable=True),
        sa.Column("tags", Json(), nullable=False),
        sa.Column("labels", Json(), nullable=False),
        sa.Column("parameters", Json(), nullable=False),
        sa.Column("parameter_openapi_schema", Json(), nullable=True),
        sa.Column("enforce_parameter_schema", sa.Boolean(), nullable=False),
        sa.Column("job_variables", Json(), nullable=False),
        sa.Column("pull_steps", Json(), nullable=True),
        sa.Column("path", sa.String(), nullable=True),
        sa.Column("entrypoint", sa.String(), nullable=True),
        sa.Column("work_queue_id", Id(), nullable=True),
        sa.Column("work_queue_name", sa.String(), nullable=True),
        sa.Column("infrastructure_document_id", Id(), nullable=True),
        sa.Column("storage_document_id", Id(), nullable=True),
        sa.Column("concurrency_limit_id", Id(), nullable=True),
        sa.Column("concurrency_options", Json(), nullable=True),
        sa.Column("created_by", Json(), nullable=True),
        sa.Column("updated_by", Json(), nullable=True),
        sa.Column("schedule_version", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deployment")),
    )
    with op.batch_alter_table("deployment", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_deployment__created"), ["created"], unique=False)
        batch_op.create_index(batch_op.f("ix_deployment__flow_id_name"), ["flow_id", "name"], unique=True)
        batch_op.create_index(batch_op.f("ix_deployment__work_queue_id"), ["work_queue_id"], unique=False)

    op.create_table(
        "deployment_schedule",
        sa.Column("id", Id(), nullable=False),
        sa.Column("created", Moment(), nullable=False),
        sa.Column("updated", Moment(), nullable=False),
        sa.Column("deployment_id", Id(), nullable=False),
        sa.Column("schedule", Json(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("paused_by_operator", sa.Boolean(), nullable=False),
        sa.Column("slug", sa.String(), nullable=True),
        sa.Column("parameters", Json(), nullable=False),
        sa.Column("max_scheduled_runs", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deployment_schedule")),
    )
    with op.batch_alter_table("deployment_schedule", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_deployment_schedule__deployment_id_slug"), ["deployment_id", "slug"], unique=True
        )

    op.create_table(
        "event",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity(always=False), nullable=False
        ),
        sa.Column("xid", sa.BigInteger(), server_default=writer(), nullable=False),
        sa.Column("id", Id(), nullable=False),
        sa.Column("occurred", Moment(), nullable=False),
        sa.Column("received", Moment(), nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("resource_id", sa.String(), nullable=False),
        sa.Column("resource", Json(), nullable=False),
        sa.Column("related", Json(), nullable=False),
        sa.Column("payload", Json(), nullable=False),
        sa.Column("follows", Id(), nullable=True),
        *([] if on_postgresql else [sa.PrimaryKeyConstraint("seq", name=op.f("pk_event"))]),
        postgresql_partition_by="RANGE (occurred)",
    )
    with op.batch_alter_table("event", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_event__event_occurred"), ["event", "occurred"], unique=False)
        batch_op.create_index(batch_op.f("ix_event__id_occurred"), ["id", "occurred"], unique=True)
        batch_op.create_index(batch_op.f("ix_event__resource_id_occurred"), ["resource_id", "occurred"], unique=False)

    op.create_table(
        "event_cursor",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("xid", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_event_cursor")),
    )
    op.create_table(
        "event_related",
        sa.Column("resource_id", sa.String(), nullable=False),
        sa.Column("occurred", Moment(), nullable=False),
        sa.Column("event_id", Id(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("resource_id", "occurred", "event_id", "role", name=op.f("pk_event_related")),
        postgresql_partition_by="RANGE (occurred)",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "flow",
        sa.Column("id", Id(), nullable=False),
        sa.Column("created", Moment(), nullable=False),
        sa.Column("updated", Moment(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("tags", Json(), nullable=False),
        sa.Column("labels", Json(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flow")),
        sa.UniqueConstraint("name", name=op.f("uq_flow__name")),
    )
    op.create_table(
        "flow_run",
        sa.Column("id", Id(), nullable=False),
        sa.Column("created", Moment(), nullable=False),
        sa.Column("updated", Moment(), nullable=False),
        sa.Column("flow_id", Id(), nullable=False),
        sa.Column("deployment_id", Id(), nullable=True),
        sa.Column("work_queue_id", Id(), nullable=True),
        sa.Column("work_queue_name", sa.String(), nullable=True),
        sa.Column("parent_task_run_id", Id(), nullable=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("flow_version", sa.String(), nullable=True),
        sa.Column("deployment_version", sa.String(), nullable=True),
        sa.Column("parameters", Json(), nullable=False),
        sa.Column("context", Json(), nullable=False),
        sa.Column("empirical_policy", Json(), nullable=False),
        sa.Column("job_variables", Json(), nullable=True),
        sa.Column("tags", Json(), nullable=False),
        sa.Column("labels", Json(), nullable=False),
        sa.Column("created_by", Json(), nullable=True),
        sa.Column("idempotency_key", sa.String(), nullable=True),
        sa.Column("infrastructure_document_id", Id(), nullable=True),
        sa.Column("infrastructure_pid", sa.String(), nullable=True),
        sa.Column("auto_scheduled", sa.Boolean(), nullable=False),
        sa.Column("expected_start_time", Moment(), nullable=False),
        sa.Column("next_scheduled_start_time", Moment(), nullable=True),
        sa.Column("start_time", Moment(), nullable=True),
        sa.Column("end_time", Moment(), nullable=True),
        sa.Column("total_run_time", sa.Float(), nullable=False),
        sa.Column("run_count", sa.Integer(), nullable=False),
        sa.Column("state_id", Id(), nullable=True),
        sa.Column("state_type", sa.String(), nullable=True),
        sa.Column("state_name", sa.String(), nullable=True),
        sa.Column("state_timestamp", Moment(), nullable=True),
        sa.Column("state_index", sa.Integer(), server_default="0", nullable=False),
        sa.Column("epoch", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_until", Moment(), nullable=True),
        sa.Column("lease_seconds", sa.Float(), nullable=True),
        sa.Column("due", Moment(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flow_run")),
    )
    with op.batch_alter_table("flow_run", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_flow_run__deployment_id_next_scheduled_start_time"),
            ["deployment_id", "next_scheduled_start_time"],
            unique=False,
            **of_filled("next_scheduled_start_time"),
        )
        batch_op.create_index(batch_op.f("ix_flow_run__expected_start_time"), ["expected_start_time"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_flow_run__flow_id_idempotency_key"),
            ["flow_id", "idempotency_key"],
            unique=True,
            **of_filled("idempotency_key"),
        )
        batch_op.create_index(batch_op.f("ix_flow_run__name_id"), ["name", "id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_flow_run__parent_task_run_id"),
            ["parent_task_run_id"],
            unique=False,
            **of_filled("parent_task_run_id"),
        )
        batch_op.create_index(
            batch_op.f("ix_flow_run__start_time"), ["start_time"], unique=False, **of_filled("start_time")
        )
        batch_op.create_index(
            batch_op.f("ix_flow_run__state_type_due"), ["state_type", "due"], unique=False, **of_filled("due")
        )
        batch_op.create_index(
            batch_op.f("ix_flow_run__work_queue_id_state_type_next_scheduled_start_time"),
            ["work_queue_id", "state_type", "next_scheduled_start_time"],
            unique=False,
            **of_filled("work_queue_id"),
        )

    op.create_table(
        "flow_run_input",
        sa.Column("id", Id(), nullable=False),
        sa.Column("created", Moment(), nullable=False),
        sa.Column("updated", Moment(), nullable=False),
        sa.Column("flow_run_id", Id(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("sender", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flow_run_input")),
    )
    with op.batch_alter_table("flow_run_input", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_flow_run_input__flow_run_id_key"), ["flow_run_id", "key"], unique=True)

    op.create_table(
        "flow_run_state",
        sa.Column("id", Id(), nullable=False),
        sa.Column("flow_run_id", Id(), nullable=False),
        sa.Column("state_index", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("timestamp", Moment(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("data", Json(), nullable=True),
        sa.Column("state_details", Json(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flow_run_state")),
    )
    with op.batch_alter_table("flow_run_state", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_flow_run_state__flow_run_id_state_index"), ["flow_run_id", "state_index"], unique=True
        )

    op.create_table(
        "flow_run_tag",
        sa.Column("tag", sa.String(), nullable=False),
        sa.Column("run_id", Id(), nullable=False),
        sa.PrimaryKeyConstraint("tag", "run_id", name=op.f("pk_flow_run_tag")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("flow_run_tag", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_flow_run_tag__run_id"), ["run_id"], unique=False)

    op.create_table(
        "log",
        sa.Column("id", Id(), nullable=False),
        sa.Column("created", Moment(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("timestamp", Moment(), nullable=False),
        sa.Column("flow_run_id", Id(), nullable=True),
        sa.Column("task_run_id", Id(), nullable=True),
        sa.Column("worker_id", Id(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_log")),
    )
    with op.batch_alter_table("log", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_log__flow_run_id_timestamp"),
            ["flow_run_id", "timestamp"],
            unique=False,
            **of_filled("flow_run_id"),
        )
        batch_op.create_index(
            batch_op.f("ix_log__task_run_id_timestamp"),
            ["task_run_id", "timestamp"],
            unique=False,
            **of_filled("task_run_id"),
        )
        batch_op.create_index(batch_op.f("ix_log__timestamp"), ["timestamp"], unique=False)

    op.create_table(
        "log_listener",
        sa.Column("id", Id(), nullable=False),
        sa.Column("until", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_log_listener")),
    )
    op.create_table(
        "log_news",
        sa.Column(
            "seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity(always=False), nullable=False
        ),
        sa.Column("xid", sa.BigInteger(), server_default=writer(), nullable=False),
        sa.Column("log_id", Id(), nullable=False),
        sa.Column("written", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_log_news")),
    )
    with op.batch_alter_table("log_news", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_log_news__written"), ["written"], unique=False)

    op.create_table(
        "saved_search",
        sa.Column("id", Id(), nullable=False),
        sa.Column("created", Moment(), nullable=False),
        sa.Column("updated", Moment(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("filters", Json(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_saved_search")),
        sa.UniqueConstraint("name", name=op.f("uq_saved_search__name")),
    )
    op.create_table(
        "slot_lease",
        sa.Column("id", Id(), nullable=False),
        sa.Column("limit_id", Id(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("by_client", sa.Boolean(), nullable=False),
        sa.Column("holder_type", sa.String(), nullable=True),
        sa.Column("holder_id", Id(), nullable=True),
        sa.Column("acquired", Moment(), nullable=False),
        sa.Column("drains", Moment(), nullable=True),
        sa.Column("until", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("id", "limit_id", name=op.f("pk_slot_lease")),
    )
    with op.batch_alter_table("slot_lease", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_slot_lease__holder_id"), ["holder_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_slot_lease__limit_id_until"), ["limit_id", "until"], unique=False)

    op.create_table(
        "slot_waiter",
        sa.Column("id", Id(), nullable=False),
        sa.Column("limit_id", Id(), nullable=False),
        sa.Column("request", Id(), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("retry", Moment(), nullable=False),
        sa.Column("until", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("id", "limit_id", name=op.f("pk_slot_waiter")),
    )
    with op.batch_alter_table("slot_waiter", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_slot_waiter__limit_id_id"), ["limit_id", "id"], unique=False)
        batch_op.create_index(batch_op.f("ix_slot_waiter__request"), ["request"], unique=False)

    op.create_table(
        "task_delivery",
        sa.Column("task_run_id", Id(), nullable=False),
        sa.Column("task_key", sa.String(), nullable=False),
        sa.Column("state_id", Id(), nullable=False),
        sa.Column("since", Moment(), nullable=False),
        sa.Column("due", Moment(), nullable=False),
        sa.Column("holder", Id(), nullable=True),
        sa.PrimaryKeyConstraint("task_run_id", name=op.f("pk_task_delivery")),
    )
    with op.batch_alter_table("task_delivery", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_task_delivery__holder"), ["holder"], unique=False)
        batch_op.create_index(batch_op.f("ix_task_delivery__task_key_since"), ["task_key", "since"], unique=False)

    op.create_table(
        "task_run",
        sa.Column("id", Id(), nullable=False),
        sa.Column("created", Moment(), nullable=False),
        sa.Column("updated", Moment(), nullable=False),
        sa.Column("flow_run_id", Id(), nullable=True),
        sa.Column("epoch", sa.Integer(), server_default="0", nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("task_key", sa.String(), nullable=False),
        sa.Column("dynamic_key", sa.String(), nullable=False),
        sa.Column("task_version", sa.String(), nullable=True),
        sa.Column("task_inputs", Json(), nullable=False),
        sa.Column("empirical_policy", Json(), nullable=False),
        sa.Column("tags", Json(), nullable=False),
        sa.Column("labels", Json(), nullable=False),
        sa.Column("cache_key", sa.String(), nullable=True),
        sa.Column("cache_expiration", Moment(), nullable=True),
        sa.Column("expected_start_time", Moment(), nullable=False),
        sa.Column("next_scheduled_start_time", Moment(), nullable=True),
        sa.Column("start_time", Moment(), nullable=True),
        sa.Column("end_time", Moment(), nullable=True),
        sa.Column("total_run_time", sa.Float(), nullable=False),
        sa.Column("run_count", sa.Integer(), nullable=False),
        sa.Column("flow_run_run_count", sa.Integer(), nullable=False),
        sa.Column("state_id", Id(), nullable=True),
        sa.Column("state_type", sa.String(), nullable=True),
        sa.Column("state_name", sa.String(), nullable=True),
        sa.Column("state_timestamp", Moment(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task_run")),
    )
    with op.batch_alter_table("task_run", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_task_run__cache_key"), ["cache_key"], unique=False, **of_filled("cache_key")
        )
        batch_op.create_index(batch_op.f("ix_task_run__expected_start_time"), ["expected_start_time"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_task_run__flow_run_id_task_key_dynamic_key"),
            ["flow_run_id", "task_key", "dynamic_key"],
            unique=True,
        )
        batch_op.create_index(
            batch_op.f("ix_task_run__start_time"), ["start_time"], unique=False, **of_filled("start_time")
        )
        batch_op.create_index(
            batch_op.f("ix_task_run__state_type_flow_run_id"), ["state_type", "flow_run_id"], unique=False
        )

    op.create_table(
        "task_run_state",
        sa.Column("id", Id(), nullable=False),
        sa.Column("task_run_id", Id(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("timestamp", Moment(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("data", Json(), nullable=True),
        sa.Column("state_details", Json(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task_run_state")),
    )
    with op.batch_alter_table("task_run_state", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_task_run_state__task_run_id_timestamp"), ["task_run_id", "timestamp"], unique=False
        )

    op.create_table(
        "task_run_tag",
        sa.Column("tag", sa.String(), nullable=False),
        sa.Column("run_id", Id(), nullable=False),
        sa.PrimaryKeyConstraint("tag", "run_id", name=op.f("pk_task_run_tag")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("task_run_tag", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_task_run_tag__run_id"), ["run_id"], unique=False)

    op.create_table(
        "variable",
        sa.Column("id", Id(), nullable=False),
        sa.Column("created", Moment(), nullable=False),
        sa.Column("updated", Moment(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", Json(), nullable=True),
        sa.Column("tags", Json(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_variable")),
        sa.UniqueConstraint("name", name=op.f("uq_variable__name")),
    )
    op.create_table(
        "work_pool",
        sa.Column("id", Id(), nullable=False),
        sa.Column("created", Moment(), nullable=False),
        sa.Column("updated", Moment(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("base_job_template", Json(), nullable=False),
        sa.Column("is_paused", sa.Boolean(), nullable=False),
        sa.Column("concurrency_limit", sa.Integer(), nullable=True),
        sa.Column("default_queue_id", Id(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("storage_configuration", Json(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_work_pool")),
        sa.UniqueConstraint("name", name=op.f("uq_work_pool__name")),
    )
    op.create_table(
        "work_queue",
        sa.Column("id", Id(), nullable=False),
        sa.Column("created", Moment(), nullable=False),
        sa.Column("updated", Moment(), nullable=False),
        sa.Column("work_pool_id", Id(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("is_paused", sa.Boolean(), nullable=False),
        sa.Column("concurrency_limit", sa.Integer(), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("last_polled", Moment(), nullable=True),
        sa.Column("filter", Json(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_work_queue")),
    )
    with op.batch_alter_table("work_queue", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_work_queue__work_pool_id_name"), ["work_pool_id", "name"], unique=True)

    op.create_table(
        "worker",
        sa.Column("id", Id(), nullable=False),
        sa.Column("created", Moment(), nullable=False),
        sa.Column("updated", Moment(), nullable=False),
        sa.Column("work_pool_id", Id(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("last_heartbeat_time", Moment(), nullable=True),
        sa.Column("heartbeat_interval_seconds", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_worker")),
    )
    with op.batch_alter_table("worker", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_worker__work_pool_id_name"), ["work_pool_id", "name"], unique=True)

    stands_at = sa.text("coalesce(start_time, expected_start_time)")
    op.create_index("ix_flow_run__stands_at", "flow_run", [stands_at, "parent_task_run_id"])
    by_state: list[str | sa.TextClause] = ["state_type", stands_at, "expected_start_time", "parent_task_run_id"]
    op.create_index("ix_flow_run__state_type_stands_at", "flow_run", by_state)
    op.create_index("ix_flow_run__state_name_stands_at", "flow_run", ["state_name", stands_at])
    op.create_index("ix_flow_run__flow_id_stands_at", "flow_run", ["flow_id", stands_at])
    of_deployment: list[str | sa.TextClause] = ["deployment_id", stands_at]
    op.create_index("ix_flow_run__deployment_id_stands_at", "flow_run", of_deployment, **of_filled("deployment_id"))
    newest_first = sa.text("end_time DESC NULLS LAST" if on_postgresql else "end_time DESC")
    op.create_index("ix_flow_run__end_time", "flow_run", [newest_first])
    op.create_index("ix_task_run__end_time", "task_run", [newest_first])
    if on_postgresql:
        op.create_index("ix_event__xid_seq", "event", ["xid", "seq"])
        op.create_index("ix_log_news__xid_seq", "log_news", ["xid", "seq"])
        op.create_index("ix_event__occurred_seq", "event", ["occurred", "seq"])
        for table in ("event", "event_related"):
            op.execute(f"CREATE TABLE {table}_default PARTITION OF {table} DEFAULT")
    else:
        op.create_index("ix_event__occurred", "event", ["occurred"])
