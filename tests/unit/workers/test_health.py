"""The health page of a worker."""

import http.client
from contextlib import closing

from msgspec.structs import replace

from headrace.settings import get_settings
from headrace.workers.server import HealthServer
from tests.unit.workers.stand_ins import Scene


def status_of(server: HealthServer, path: str) -> int:
    """The status that a page is answered with."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
        connection.request("GET", path)
        return connection.getresponse().status


def test_a_worker_is_well_while_it_looks_for_runs() -> None:
    """And ill when it has not looked for thirty times as long as it should."""
    worker = get_settings().worker
    settings = replace(worker, webserver=replace(worker.webserver, host="127.0.0.1", port=0))
    scene = Scene()
    scene.step()
    with HealthServer(scene.supervisor, settings) as well:
        assert status_of(well, "/health") == 200
        assert status_of(well, "/other") == 404
    with HealthServer(scene.supervisor, replace(settings, query_seconds=1e-9)) as ill:
        assert status_of(ill, "/health") == 503
