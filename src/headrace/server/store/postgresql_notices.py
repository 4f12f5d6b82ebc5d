"""Hearing what PostgreSQL tells by NOTIFY, on a connection of its own.

Notices are hints: while the connection is lost none is heard, and a poll finds the news.  # G17
https://www.postgresql.org/docs/current/sql-notify.html
"""

import logging
import threading
from collections.abc import Callable

from psycopg import Connection as PsycopgConnection
from psycopg import Error, sql
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

logger = logging.getLogger("headrace.server.store")

STOPS_WITHIN = 1.0
"""Seconds after which one that was told to stop has."""
CONNECT_AGAIN = 5.0
"""Seconds between two tries to connect."""


class Notices:
    """Hears a channel in a thread, until it is stopped.

    Args:
        engine: makes the connection.
        channel: which.
        tell: called for notices, in that thread; must neither block nor raise.
    """

    def __init__(self, engine: Engine, channel: str, tell: Callable[[], None]) -> None:
        self._engine, self._channel, self._tell = engine, channel, tell
        self._stopping = threading.Event()
        threading.Thread(target=self._work, name=f"headrace-notices-{channel}", daemon=True).start()

    def stop(self) -> None:
        """Hear nothing more; the connection is closed soon after."""
        self._stopping.set()

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                self._hear()
            except (Error, DBAPIError) as error:
                logger.info("Notices of %s are not heard until it is tried again: %s", self._channel, error)
                self._stopping.wait(CONNECT_AGAIN)

    def _hear(self) -> None:
        with self._engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, PsycopgConnection)
            driver.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
            self._tell()  # of what was told before
            while not self._stopping.is_set():
                for _ in driver.notifies(timeout=STOPS_WITHIN, stop_after=1):
                    self._tell()
