"""Finding the events that a filter chooses.

SQLite finds them by the filter's conditions. On PostgreSQL the log lies in slices, and to look for each event that the
index of related resources names would mean to look into all slices. So there, if the index names few, each is asked for
by its id and its moment, which lead to one slice; if it names many, the log is read in its order and each row tested.
"""

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace
from sqlalchemy import (
    CTE,
    ColumnElement,
    FromClause,
    Row,
    Select,
    and_,
    func,
    literal,
    select,
    true,
    tuple_,
    union,
)

from headrace.schemas.events import EventFilter, EventOccurredFilter
from headrace.server.events.filtering import Condition, Sought, conditions, sought, through_runs
from headrace.server.store.filters import begins_with
from headrace.server.store.long_lists import among
from headrace.server.store.tables import EVENT, EVENT_RELATED
from headrace.server.store.transaction import Tx

Ask = Callable[[FromClause], Select[Any]]
"""Makes a select from the log, or from what has its columns."""
Order = Callable[[Any], Sequence[ColumnElement[Any]]]
"""Makes an order of columns of the log that are selected."""

MOST = 50_000
"""So many events that the index names are looked up one by one in a fraction of a second."""
_KEY = (EVENT_RELATED.c.event_id, EVENT_RELATED.c.occurred)


def no_order(_: object) -> Sequence[ColumnElement[Any]]:
    """The order of rows that may come in any."""
    return ()


def found(
    tx: Tx, chosen: EventFilter, ask: Ask, order: Order = no_order, *, distinct: bool = False
) -> Sequence[Row[Any]]:
    """What is asked of the events that a filter finds.

    Args:
        tx: a transaction.
        chosen: with both its moments, see `matching.bounded`.
        ask: what is asked; it gives no row when there are no events.
        order: of the rows.
        distinct: whether only the newest event of each resource counts.
    """
    rows = found_if_few(tx, chosen, ask, order, distinct=distinct)
    return walked(tx, chosen, ask, order, distinct=distinct) if rows is None else rows


def found_if_few(
    tx: Tx, chosen: EventFilter, ask: Ask, order: Order = no_order, *, distinct: bool = False
) -> Sequence[Row[Any]] | None:
    """What is asked of the events that a filter finds, if the index names few; else None.

    The arguments are those of `found`.
    """
    if tx.dialect != "postgresql" or chosen.id.id is not None:
        return None
    if chosen.resource is not None and chosen.resource.id is not None:
        return None
    for part in sought(chosen):
        few, log = _looked_up(part, chosen)
        log = _newest(log) if distinct else log
        asked = ask(log).order_by(*order(log.c)).add_columns(true().label("is_there")).subquery("asked")
        one = select(literal(1)).subquery("one")
        statement = select(few.label("few"), *asked.c).select_from(one.outerjoin(asked, true()))
        rows = tx.execute(statement.order_by(*order(asked.c))).all()
        if rows[0].few:
            return [row for row in rows if row.is_there]
    return None


def walked(
    tx: Tx, chosen: EventFilter, ask: Ask, order: Order = no_order, *, distinct: bool = False
) -> Sequence[Row[Any]]:
    """What is asked of the events that a filter finds, by reading the log; the arguments are those of `found`."""
    if tx.dialect == "postgresql":
        chosen = _narrowed(tx, chosen)
    within = conditions(chosen, tx.dialect)
    if distinct:
        newest = _newest(select(EVENT.c.resource_id, EVENT.c.occurred, EVENT.c.seq).where(*within).subquery())
        rows = select(newest.c.occurred, newest.c.seq)
        within = [*within[:2], tuple_(EVENT.c.occurred, EVENT.c.seq).in_(rows)]  # by the slices of the time asked for
    return tx.execute(ask(EVENT).where(*within).order_by(*order(EVENT.c))).all()


def _newest(log: FromClause) -> FromClause:
    """The newest row of each resource."""
    newest_first = (log.c.occurred.desc(), log.c.seq.desc())
    place = func.row_number().over(partition_by=log.c.resource_id, order_by=newest_first)
    placed = select(log, place.label("place")).subquery("placed")
    return select(placed).where(placed.c.place == 1).subquery("newest")


def _looked_up(part: Sought, chosen: EventFilter) -> tuple[ColumnElement[bool], FromClause]:
    """Whether the index names few events for a part of a filter; and those that the filter finds, if so.

    Each step is bounded, and is not made when the one before has met too many.
    """
    within = _within(chosen)
    names, own = among(EVENT_RELATED.c.resource_id, part.ids), among(EVENT.c.resource_id, part.ids)
    steps = [_at_most(select(*_KEY).where(names, *within(EVENT_RELATED)), "direct")]
    if part.own:
        steps.append(_at_most(select(EVENT.c.id.label("event_id"), EVENT.c.occurred).where(own, *within(EVENT)), "own"))
    of_runs = through_runs(part.ids, chosen)
    if of_runs:
        steps += _through(of_runs, within, _all_few(steps))
    few = _all_few(steps)
    keys = union(*(select(step.c.event_id, step.c.occurred) for step in steps if step.name != "around")).cte("keys")
    row = _row_of(keys, select(EVENT).where(*conditions(chosen, "postgresql")))
    return few, select(*row.c).select_from(keys.join(row, true())).where(few).subquery("log")


def _through(ids: Sequence[str], within: Callable[[FromClause], list[Condition]], few: Condition) -> list[CTE]:
    """What names the flow runs that are related to resources, and what happened inside these."""
    around = _at_most(select(*_KEY).where(among(EVENT_RELATED.c.resource_id, ids), few), "around")
    about = _row_of(around, select(EVENT.c.resource_id).where(begins_with(EVENT.c.resource_id, "prefect.flow-run.")))
    runs = select(about.c.resource_id).select_from(around.join(about, true())).where(few, _all_few([around]))
    run = runs.distinct().cte("runs")
    index = EVENT_RELATED.alias("inside")
    of_run = select(index.c.event_id, index.c.occurred).where(
        index.c.resource_id == run.c.resource_id, index.c.role == "flow-run", *within(index)
    )
    inside = of_run.offset(0).correlate(run).lateral("of_run")  # OFFSET keeps it from being turned into a scan of all
    return [around, _at_most(select(*inside.c).select_from(run.join(inside, true())), "inside")]


def _at_most(keys: Select[Any], name: str) -> CTE:
    return keys.limit(MOST + 1).cte(name).prefix_with("MATERIALIZED")


def _all_few(steps: Sequence[CTE]) -> ColumnElement[bool]:
    return and_(*(select(func.count() <= MOST).select_from(step).scalar_subquery() for step in steps))


def _row_of(keys: CTE, rows: Select[Any]) -> FromClause:
    """For each key the row of the log that it names; by LIMIT, so that rows are looked for by nothing else."""
    same = (EVENT.c.id == keys.c.event_id, EVENT.c.occurred == keys.c.occurred)
    return rows.where(*same).limit(1).correlate(keys).lateral()


def _within(chosen: EventFilter) -> Callable[[FromClause], list[Condition]]:
    since, until = chosen.occurred.since, chosen.occurred.until
    return lambda table: [table.c.occurred >= since, table.c.occurred <= until]


def _narrowed(tx: Tx, chosen: EventFilter) -> EventFilter:
    """A filter within the moments between which the index names events, where it names them all."""
    within = _within(chosen)
    for part in sought(chosen):
        if through_runs(part.ids, chosen):
            continue
        tables = [EVENT_RELATED, EVENT] if part.own else [EVENT_RELATED]
        ends = [
            select(end(table.c.occurred)).where(among(table.c.resource_id, part.ids), *within(table)).scalar_subquery()
            for end in (func.min, func.max)
            for table in tables
        ]
        moments = [moment for moment in tx.execute(select(*ends)).one() if moment is not None]
        if moments:
            return replace(chosen, occurred=EventOccurredFilter(since=min(moments), until=max(moments)))
    return chosen
