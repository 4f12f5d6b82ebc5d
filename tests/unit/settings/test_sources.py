"""Where settings come from, and which source wins."""

from datetime import timedelta
from pathlib import Path

import pytest

from headrace.settings import InvalidSetting, database_url, forget_settings, get_settings, sources_of


def test_a_setting_nobody_sets_has_its_default() -> None:
    """Without any source the defaults hold, and paths hang off home."""
    settings = get_settings()

    assert settings.api.url is None
    assert settings.server.api.port == 4200
    assert settings.results.local_storage_path == f"{settings.home}/storage"
    assert database_url(settings) == f"sqlite:///{settings.home}/headrace.db"


@pytest.mark.parametrize("name", ["HEADRACE_SERVER_API_PORT", "PREFECT_SERVER_API_PORT"])
def test_both_names_of_a_setting_are_read(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """HEADRACE_X and PREFECT_X set the same setting."""
    monkeypatch.setenv(name, "4300")

    assert get_settings().server.api.port == 4300
    assert sources_of()["server.api.port"] == "the environment"


def test_headrace_goes_before_prefect_and_a_name_before_its_alias(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within one source our own name wins, then Prefect's, then the older ones."""
    monkeypatch.setenv("PREFECT_API_DEFAULT_LIMIT", "10")
    assert get_settings().server.api.default_limit == 10

    monkeypatch.setenv("PREFECT_SERVER_API_DEFAULT_LIMIT", "20")
    forget_settings()
    assert get_settings().server.api.default_limit == 20

    monkeypatch.setenv("HEADRACE_SERVER_API_DEFAULT_LIMIT", "30")
    forget_settings()
    assert get_settings().server.api.default_limit == 30


def test_sources_are_asked_in_order(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Environment, .env, headrace.toml, prefect.toml, pyproject.toml, profile, default: the first that says it wins."""
    sources = [
        (Path("pyproject.toml"), "[tool.prefect.worker]\nquery_seconds = 2"),
        (Path("prefect.toml"), "[worker]\nquery_seconds = 3"),
        (Path("headrace.toml"), "worker.query_seconds = 4"),
        (Path(".env"), "# comment\nexport PREFECT_WORKER_QUERY_SECONDS='5'\nOTHER=x"),
    ]
    (home / "profiles.toml").write_text('active = "w"\n[profiles.w]\nPREFECT_WORKER_QUERY_SECONDS = "1"')
    seen = [get_settings().worker.query_seconds]
    for path, text in sources:
        path.write_text(text)
        forget_settings()
        seen.append(get_settings().worker.query_seconds)
    monkeypatch.setenv("HEADRACE_WORKER_QUERY_SECONDS", "6")
    forget_settings()
    seen.append(get_settings().worker.query_seconds)

    assert seen == [1, 2, 3, 4, 5, 6]


def test_an_invalid_value_names_setting_source_and_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error tells what to mend, and where."""
    monkeypatch.setenv("PREFECT_SERVER_API_PORT", "many")

    with pytest.raises(InvalidSetting, match=r"PREFECT_SERVER_API_PORT in the environment is 'many', .* whole number"):
        get_settings()


def test_invalid_toml_names_the_file() -> None:
    """A file that cannot be parsed is not passed over."""
    Path("headrace.toml").write_text("worker = [")

    with pytest.raises(InvalidSetting, match=r"headrace\.toml is not valid TOML"):
        get_settings()


def test_an_unknown_key_of_a_file_is_warned_about() -> None:
    """A typing error in a file does not go unnoticed."""
    Path("headrace.toml").write_text("[worker]\nquery_secs = 4")

    with pytest.warns(UserWarning, match=r"headrace\.toml: there is no setting 'worker\.query_secs'"):
        get_settings()


def test_an_empty_text_is_none_where_none_is_possible(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """An empty variable takes back what a weaker source has set, and leaves alone what cannot be None."""
    (home / "profiles.toml").write_text('active = "w"\n[profiles.w]\nHEADRACE_API_URL = "http://x/api"')
    monkeypatch.setenv("HEADRACE_API_URL", "")
    monkeypatch.setenv("HEADRACE_SERVER_API_PORT", "")

    assert get_settings().api.url is None
    assert get_settings().server.api.port == 4200


@pytest.mark.parametrize(
    ("name", "text", "path", "value"),
    [
        ("SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS", "20", "after", timedelta(seconds=20)),
        ("SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS", "PT1M", "after", timedelta(minutes=1)),
        ("LOGGING_EXTRA_LOGGERS", "a, b", "loggers", ["a", "b"]),
        ("LOGGING_EXTRA_LOGGERS", '["a", "b"]', "loggers", ["a", "b"]),
        ("CLIENT_CUSTOM_HEADERS", '{"X-A": "1"}', "headers", {"X-A": "1"}),
        ("CLIENT_RETRY_EXTRA_CODES", "500,504", "codes", [500, 504]),
        ("TASKS_DEFAULT_RETRY_DELAY_SECONDS", "1.5", "delay", 1.5),
        ("TASKS_DEFAULT_RETRY_DELAY_SECONDS", "1,2", "delay", [1.0, 2.0]),
        ("CLI_PROMPT", "no", "prompt", False),
        ("LOGGING_LEVEL", "debug", "level", "DEBUG"),
    ],
)
def test_texts_become_the_declared_type(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, path: str, value: object
) -> None:
    """Numbers, durations, lists, mappings and words are read from text."""
    monkeypatch.setenv(f"PREFECT_{name}", text)
    settings = get_settings()
    found = {
        "after": settings.server.services.late_runs.after_seconds,
        "loggers": settings.logging.extra_loggers,
        "headers": settings.client.custom_headers,
        "codes": settings.client.retry_extra_codes,
        "delay": settings.tasks.default_retry_delay_seconds,
        "prompt": settings.cli.prompt,
        "level": settings.logging.level,
    }

    assert found[path] == value


def test_the_database_url_is_made_from_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Host, user, password and name make a URL; the password may also be a mark in a URL."""
    monkeypatch.setenv("PREFECT_API_DATABASE_HOST", "db")
    monkeypatch.setenv("PREFECT_API_DATABASE_USER", "me")
    monkeypatch.setenv("PREFECT_API_DATABASE_PASSWORD", "p@ss")
    assert database_url(get_settings()) == "postgresql://me:p%40ss@db:5432/headrace"

    url = "postgresql+asyncpg://me:${PREFECT_API_DATABASE_PASSWORD}@db/x"
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", url)
    forget_settings()
    assert database_url(get_settings()) == "postgresql://me:p%40ss@db/x"


def test_the_pages_are_beside_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address of the pages is that of the API without /api."""
    monkeypatch.setenv("PREFECT_API_URL", "http://10.0.0.1:4200/api")

    assert get_settings().ui_url == "http://10.0.0.1:4200"


def test_names_with_two_underscores_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """HEADRACE__X is how processes of headrace talk to each other."""
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "x")

    assert "PREFECT__FLOW_RUN_ID" not in sources_of()
