"""The table of settings: complete, documented, and enumerable."""

import json

import msgspec
import pytest

import headrace.settings
from headrace.settings import (
    Secret,
    Settings,
    all_settings,
    get_settings,
    masked,
    path_of,
    settings_environment,
    temporary_settings,
)


def test_every_setting_has_a_doc_line_and_names() -> None:
    """Each can be documented from the table alone."""
    for setting in all_settings():
        assert setting.doc.endswith("."), setting.path
        assert setting.names[0] == "HEADRACE_" + setting.path.replace(".", "_").upper()
        assert setting.names[1] == "PREFECT_" + setting.path.replace(".", "_").upper()


def test_no_two_settings_share_a_name() -> None:
    """A name in the environment means one setting."""
    names = [name for setting in all_settings() for name in setting.names]

    assert len(names) == len(set(names))


def test_every_default_is_valid() -> None:
    """A default could have been set as well."""
    for setting in all_settings():
        if not setting.is_secret:
            assert msgspec.convert(setting.default(), setting.hint) == setting.default(), setting.path


def test_each_name_leads_to_its_setting() -> None:
    """Also the older ones; what is no setting leads nowhere."""
    assert path_of("PREFECT_API_DATABASE_CONNECTION_URL") == "server.database.connection_url"
    assert path_of("HEADRACE_FLOW_DEFAULT_RETRIES") == "flows.default_retries"
    assert path_of("api.url") == "api.url"
    assert path_of("PREFECT_NONE") is None


def test_settings_can_be_imported_by_name() -> None:
    """As Prefect's users do: an object with its name, its value and whether it is secret."""
    setting = headrace.settings.PREFECT_API_KEY  # type: ignore[attr-defined]

    assert setting.name == "HEADRACE_API_KEY"
    assert setting.is_secret
    with pytest.raises(AttributeError):
        _ = headrace.settings.PREFECT_NONE  # type: ignore[attr-defined]


def test_s12_a_secret_prints_as_stars() -> None:
    """However it is printed; only asking for it gives it away."""
    with temporary_settings(**{"api.key": "geheim"}) as settings:
        text = f"{settings} {settings.api.key} {settings.api.key!r} {masked(settings)}"

        assert "geheim" not in text
        assert settings.api.key == Secret("geheim")
        assert settings.api.key is not None
        assert settings.api.key.get_secret_value() == "geheim"


def test_s12_settings_travel_with_stars() -> None:
    """Masked settings are encoded as JSON and read back; a secret itself is refused by the encoder."""
    with temporary_settings(**{"server.api.auth_string": "a:b"}) as settings:
        wire = msgspec.json.encode(masked(settings))

        assert json.loads(wire)["server"]["api"]["auth_string"] == "********"
        assert msgspec.json.decode(wire, type=Settings).server.api.port == 4200
        with pytest.raises(TypeError):
            msgspec.json.encode(settings)


def test_temporary_settings_end_with_their_block() -> None:
    """They are seen inside, nest, and are gone afterwards; derived values follow."""
    before = get_settings()
    with temporary_settings({"PREFECT_HOME": "/a"}), temporary_settings(**{"api.url": "http://x/api"}) as inner:
        assert get_settings() is inner
        assert inner.ui_url == "http://x"
        assert inner.results.local_storage_path == "/a/storage"
        with temporary_settings(restore_defaults={"api.url"}):
            assert get_settings().api.url is None

    assert get_settings() is before


def test_temporary_settings_refuse_what_does_not_exist() -> None:
    """A typing error in a test is an error."""
    with pytest.raises(KeyError, match=r"api\.urll"), temporary_settings(**{"api.urll": "x"}):
        pass


def test_settings_can_be_handed_to_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment made from the settings in force gives the same settings."""
    updates = {
        "api.key": "k",
        "logging.extra_loggers": ["a", "b"],
        "server.services.late_runs.after_seconds": 90,
        "worker.warm_start": False,
    }
    with temporary_settings(updates) as settings:
        environment = settings_environment()
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    headrace.settings.forget_settings()

    assert get_settings() == settings
