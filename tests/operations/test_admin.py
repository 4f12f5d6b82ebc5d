"""The server itself: health, versions, settings, storage of results."""

import msgspec
import pytest

from headrace._internal.ids import uuid7
from headrace.client.local import LocalClient
from headrace.exceptions import ObjectNotFound
from headrace.schemas.admin import (
    CLEAR_SERVER_DEFAULT_RESULT_STORAGE,
    HEALTH_CHECK,
    HELLO,
    PERFORM_READINESS_CHECK,
    READ_SERVER_DEFAULT_RESULT_STORAGE,
    READ_SETTINGS,
    READ_VERSION,
    SERVER_VERSION,
    UPDATE_SERVER_DEFAULT_RESULT_STORAGE,
    ServerDefaultResultStorageUpdate,
)
from headrace.settings import temporary_settings


def test_the_server_is_well(api: LocalClient) -> None:
    """Health and readiness answer as Prefect's clients expect."""
    assert api.call(HEALTH_CHECK) is True
    assert api.call(PERFORM_READINESS_CHECK) == {"message": "OK"}
    assert api.call(HELLO) == "👋"


def test_clients_are_told_a_version_they_know(api: LocalClient) -> None:
    """Prefect's clients refuse another major version than their own, and warn of an older one."""
    assert api.call(READ_VERSION).startswith("3.")
    assert api.call(SERVER_VERSION) == "0.8.4"


def test_secrets_among_the_settings_are_stars(api: LocalClient) -> None:
    """Whoever reads the settings sees that a secret is set, and not the secret."""
    with temporary_settings(**{"server.api.auth_string": "admin:canary"}):
        shown = msgspec.json.encode(api.call(READ_SETTINGS))

    assert b"canary" not in shown
    assert b"auth_string" in shown


def test_no_block_says_where_results_go(api: LocalClient) -> None:
    """Results go where the client's own settings say; a block that does not exist cannot be named for it."""
    api.call(CLEAR_SERVER_DEFAULT_RESULT_STORAGE)

    with pytest.raises(ObjectNotFound):
        api.call(
            UPDATE_SERVER_DEFAULT_RESULT_STORAGE,
            body=ServerDefaultResultStorageUpdate(default_result_storage_block_id=uuid7()),
        )

    assert api.call(READ_SERVER_DEFAULT_RESULT_STORAGE).default_result_storage_block_id is None
