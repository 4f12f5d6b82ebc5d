"""The server against its own OpenAPI document: it answers as the document says, and never with 5xx.

Calls are made by schemathesis from the document, to a server in a process of its own. What calls have made so far is
remembered, so that later ones meet it. HEADRACE_FUZZ_CASES says how many calls are made to each database, and
HEADRACE_FUZZ_SEED which ones; all faults of a run are collected, one example of each.
"""

import os
import random
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import quote

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.failures import FailureGroup

from headrace.server.http.background import LOG, start_in_background, stop
from tests.support import postgresql

pytestmark = [pytest.mark.slow, pytest.mark.timeout(0)]

CASES = int(os.environ.get("HEADRACE_FUZZ_CASES", "2000"))
SEED = int(os.environ.get("HEADRACE_FUZZ_SEED", "0"))
UNHURRIED = settings(database=None, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
AGAIN = 100
ERRORS = ("Refusal", "Failure", "HTTPValidationError")
HELD = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
AWKWARD: list[Any] = [
    None, True, -1, 2**31, 2**63, -1e308, "", "\x00", "\ud800", "\u202e", "%_\\", "🙂" * 300, [None], {"a": None},
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-01-01T00:00:00", {"__prefect_kind": "jinja"},
]  # fmt: skip
GOOD: dict[str, list[Any]] = {
    "schedule": [{"cron": "*/5 * * * *"}, {"interval": 60}, {"rrule": "FREQ=DAILY"}],
    "trigger": [{"posture": "Reactive"}, {"posture": "Proactive", "within": 60}],
    "actions": [[{}], [{"source": "inferred"}]],
    "history_interval_seconds": [60, 3600],
    "start_time": [{"after_": "2026-01-01T00:00:00Z"}],
}
"""What a schema alone would seldom lead to, by the field it stands in."""
FOUNDERS: list[tuple[str, dict[str, Any]]] = [
    ("/flows/", {"name": "etl"}),
    ("/work_pools/", {"name": "pool", "type": "process"}),
    ("/work_pools/pool/queues/", {"name": "fast"}),
    ("/work_pools/pool/workers/heartbeat", {"name": "worker"}),
    ("/deployments/", {"name": "n", "flow_id": "?", "work_pool_name": "pool", "tags": ["a"]}),
    ("/deployments/", {"name": "s", "flow_id": "?", "schedules": [{"schedule": {"interval": 60}}]}),
    ("/flow_runs/", {"flow_id": "?", "state": {"type": "RUNNING"}}),
    ("/flow_runs/", {"flow_id": "?", "deployment_id": "?", "state": {"type": "SCHEDULED"}}),
    ("/task_runs/", {"flow_run_id": "?", "task_key": "add", "dynamic_key": "0"}),
    ("/automations/", {"name": "alarm", "trigger": {"posture": "Reactive"}, "actions": [{}]}),
    ("/variables/", {"name": "region", "value": 1}),
    ("/artifacts/", {"key": "report", "type": "markdown", "data": "# hi", "flow_run_id": "?"}),
    ("/concurrency_limits/", {"tag": "db", "concurrency_limit": 1}),
    ("/v2/concurrency_limits/", {"name": "api", "limit": 2, "active": True}),
    ("/block_types/", {"name": "Lamp", "slug": "lamp"}),
    ("/block_schemas/", {"block_type_id": "?", "fields": {"title": "Lamp", "type": "object", "properties": {}}}),
    ("/block_documents/", {"name": "desk", "data": {}, "block_type_id": "?", "block_schema_id": "?"}),
    ("/saved_searches/", {"name": "mine", "filters": []}),
]  # fmt: skip
"""What there is to begin with, and again now and then; "?" stands for the newest of its kind."""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a server with an empty database, in a process of its own; at the end its log tells of no accident."""
    environment = {"HEADRACE_SERVER_API_PORT": "0", "HEADRACE_SERVER_LIMITS_BULK_CALLS_PER_MINUTE": "1000000"}
    with postgresql.new_database() if request.param == "postgresql" else nullcontext() as database:
        if database:
            environment["HEADRACE_SERVER_DATABASE_CONNECTION_URL"] = database
        yield start_in_background(str(tmp_path), environment)
        stop(str(tmp_path))
    accident = (tmp_path / LOG).read_text().partition("Traceback")[2]
    assert not accident, accident[:4000]


class Acquaintance:
    """What there is, by kind and field, and how made-up calls are made to meet it."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], deque[str]] = defaultdict(lambda: deque(maxlen=20))

    def learn(self, kind: str, answer: Any) -> None:
        """Remember what an answer tells of."""
        for one in answer[:3] if isinstance(answer, list) else [answer]:
            for field, value in one.items() if isinstance(one, dict) else ():
                if isinstance(value, str) and 0 < len(value) < 100:
                    self._known[kind, field].append(value)

    def found(self, url: str, session: requests.Session) -> None:
        """Make one of each kind, so that there is something to meet."""
        for path, body in FOUNDERS:
            filled = {name: known[-1] for name in body if body[name] == "?" and (known := self._of("", name))}
            answer = session.post(url + path, json={**body, **filled}, timeout=60)
            if answer.ok:
                self.learn(path.split("/")[1], answer.json() if answer.content else None)

    def introduce(self, case: Case, chance: random.Random) -> None:
        """Put what is known, and now and then something awkward, into a case."""
        kind = case.operation.path.split("/")[1]
        if chance.random() < 0.9:
            (case.headers or {}).pop("x-prefect-api-version", None)
        for name in case.path_parameters or {}:
            if (known := self._of(kind, name)) and chance.random() < 0.7:
                case.path_parameters[name] = quote(chance.choice(known), safe="")
        self._fill(kind, case.body, chance)

    def _of(self, kind: str, field: str) -> deque[str] | None:
        other, _, last = field.removesuffix("s").rpartition("_")
        return self._known.get((f"{other}s", last)) or self._known.get((kind, field))

    def _fill(self, kind: str, value: Any, chance: random.Random) -> None:
        if isinstance(value, list):
            for one in value:
                self._fill(kind, one, chance)
        for name, inner in list(value.items()) if isinstance(value, dict) else ():
            if chance.random() < 0.01:
                value[name] = chance.choice(AWKWARD)
            elif name in GOOD and chance.random() < 0.6:
                value[name] = chance.choice(GOOD[name])
            elif isinstance(inner, float | int) and chance.random() < 0.3:
                value[name] = chance.choice([0, 1, 60, 3600])
            elif isinstance(inner, str) and (known := self._of(kind, name)) and chance.random() < 0.5:
                value[name] = chance.choice(known)
            else:
                self._fill(kind, inner, chance)


def described(url: str) -> Any:
    """The document, which schemathesis is to read as complete: no other fields, in neither direction."""
    document = requests.get(f"{url}/openapi.json", timeout=60).json()
    for name, schema in document["components"]["schemas"].items():
        if "properties" in schema and name not in ERRORS:
            schema.setdefault("additionalProperties", False)
    loaded = schemathesis.openapi.from_dict(document)
    loaded.config.update(base_url=url)
    loaded.config.generation.update(allow_x00=False, codec="utf-8")
    return loaded


def cases(document: Any) -> st.SearchStrategy[Case]:
    """Calls of any operation; most are as the document allows, and few delete."""
    chosen = []
    for result in document.get_all_operations():
        operation = result.ok()
        fitting = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
        if "delete" in operation.path or operation.method == "delete":
            chosen.append(fitting)
        else:
            chosen += [*[fitting] * 6, operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)]
    return st.sampled_from(chosen).flatmap(lambda strategy: strategy)


def test_answers_are_those_the_document_names(url: str, record_property: Any) -> None:
    """No call is answered with 5xx, nor with a status, content type or shape that its operation does not document."""
    load_all_checks()
    checks = [CHECKS.get_one(name) for name in HELD]
    known, session, chance = Acquaintance(), requests.Session(), random.Random(SEED)
    answers: Counter[int] = Counter()
    faults: dict[str, str] = {}

    @hypothesis.seed(SEED)
    @settings(
        max_examples=CASES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(cases(described(url)))
    def call(case: Case) -> None:
        if answers.total() % AGAIN == 0:
            known.found(url, session)
        known.introduce(case, chance)
        if (case.headers or {}).get("Prefer"):
            case.headers["Prefer"] = f"wait={chance.randrange(2)}"  # as long as it says, it would be held
        answer = case.call(session=session, timeout=60)
        answers[answer.status_code] += 1
        try:
            case.validate_response(answer, checks=checks)
        except FailureGroup as failures:
            for failure in failures.exceptions:
                faults.setdefault(f"{case.operation.label}: {type(failure).__name__}", str(failures)[:2000])
        if answer.status_code in (200, 201) and "json" in answer.headers.get("content-type", [""])[0]:
            known.learn(case.operation.path.split("/")[1], answer.json())

    call()

    record_property("answers", dict(answers))
    print(f"seed {SEED}: {answers.total()} calls; answers by status: {dict(sorted(answers.items()))}")
    assert requests.get(f"{url}/ready", timeout=60).status_code == 200
    if faults:
        pytest.fail("\n\n".join(f"{place}\n{told}" for place, told in faults.items()), pytrace=False)
