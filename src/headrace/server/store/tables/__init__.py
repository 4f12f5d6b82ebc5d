"""The tables, said once for SQLite and PostgreSQL; migrations are derived from them."""

from headrace.server.store.tables.access import API_KEY, RUN_KEY
from headrace.server.store.tables.artifacts import ARTIFACT, ARTIFACT_COLLECTION
from headrace.server.store.tables.audit import AUDIT
from headrace.server.store.tables.automations import AUTOMATION, AUTOMATION_RELATED
from headrace.server.store.tables.blocks import BLOCK_DOCUMENT, BLOCK_SCHEMA, BLOCK_TYPE
from headrace.server.store.tables.concurrency import CONCURRENCY_LIMIT, SLOT_LEASE, SLOT_WAITER
from headrace.server.store.tables.configuration import CONFIGURATION
from headrace.server.store.tables.deployments import DEPLOYMENT, DEPLOYMENT_SCHEDULE
from headrace.server.store.tables.events import EVENT, EVENT_CURSOR, EVENT_RELATED, LOG_LISTENER, LOG_NEWS
from headrace.server.store.tables.flows import FLOW, FLOW_RUN, FLOW_RUN_INPUT, FLOW_RUN_STATE
from headrace.server.store.tables.metadata import METADATA
from headrace.server.store.tables.small_things import SAVED_SEARCH, VARIABLE
from headrace.server.store.tables.tags import FLOW_RUN_TAG, TASK_RUN_TAG
from headrace.server.store.tables.task_runs import LOG, TASK_DELIVERY, TASK_RUN, TASK_RUN_STATE, TASK_SERVER
from headrace.server.store.tables.work_pools import CLEANUP_DELIVERY, WORK_POOL, WORK_QUEUE, WORKER

__all__ = [
    "API_KEY",
    "ARTIFACT",
    "ARTIFACT_COLLECTION",
    "AUDIT",
    "AUTOMATION",
    "AUTOMATION_RELATED",
    "BLOCK_DOCUMENT",
    "BLOCK_SCHEMA",
    "BLOCK_TYPE",
    "CLEANUP_DELIVERY",
    "CONCURRENCY_LIMIT",
    "CONFIGURATION",
    "DEPLOYMENT",
    "DEPLOYMENT_SCHEDULE",
    "EVENT",
    "EVENT_CURSOR",
    "EVENT_RELATED",
    "FLOW",
    "FLOW_RUN",
    "FLOW_RUN_INPUT",
    "FLOW_RUN_STATE",
    "FLOW_RUN_TAG",
    "LOG",
    "LOG_LISTENER",
    "LOG_NEWS",
    "METADATA",
    "RUN_KEY",
    "SAVED_SEARCH",
    "SLOT_LEASE",
    "SLOT_WAITER",
    "TASK_DELIVERY",
    "TASK_RUN",
    "TASK_RUN_STATE",
    "TASK_RUN_TAG",
    "TASK_SERVER",
    "VARIABLE",
    "WORKER",
    "WORK_POOL",
    "WORK_QUEUE",
]
