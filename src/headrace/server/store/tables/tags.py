"""Which runs have a tag: an index of the tags of flow runs, and one of those of task runs.

What writes tags of runs writes them here too, see `headrace.server.operations.tagged`.
"""

from sqlalchemy import Column, Index, String, Table

from headrace.server.store.tables.flows import FLOW_RUN
from headrace.server.store.tables.metadata import METADATA
from headrace.server.store.tables.task_runs import TASK_RUN
from headrace.server.store.tables.types import Id

LONGEST = 500
"""So many characters a tag in the index has at most; PostgreSQL indexes no text of more than some 2 000 bytes."""


def _index_of(runs: Table) -> Table:
    columns = Column("tag", String, primary_key=True), Column("run_id", Id, primary_key=True)
    return Table(f"{runs.name}_tag", METADATA, *columns, Index(None, "run_id"), sqlite_with_rowid=False)


FLOW_RUN_TAG = _index_of(FLOW_RUN)
TASK_RUN_TAG = _index_of(TASK_RUN)
