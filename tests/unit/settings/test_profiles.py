"""Profiles: named sets of settings in one file."""

import stat
from pathlib import Path

import pytest

from headrace.settings import InvalidSetting, get_settings, load_profiles, save_profiles


def test_without_a_file_the_default_profile_is_active() -> None:
    """It sets nothing, so headrace works in local mode."""
    profiles = load_profiles()

    assert profiles.active_name() == "ephemeral"
    assert get_settings().api.url is None


def test_a_profile_is_made_filled_and_used(home: Path) -> None:
    """What is set in the active profile is in force after saving, and the file is for its owner only."""
    profiles = load_profiles()
    profiles.create("my work")
    profiles.use("my work")
    written = profiles.set({"PREFECT_API_URL": "http://x/api", "worker.query_seconds": "7"})
    save_profiles(profiles)

    assert written == {"HEADRACE_API_URL": "http://x/api", "HEADRACE_WORKER_QUERY_SECONDS": "7"}
    assert get_settings().api.url == "http://x/api"
    assert get_settings().worker.query_seconds == 7
    assert load_profiles().active_name() == "my work"
    assert stat.S_IMODE((home / "profiles.toml").stat().st_mode) == 0o600


def test_setting_replaces_a_value_under_another_name() -> None:
    """A profile written by Prefect does not end up with two values of one setting."""
    profiles = load_profiles()
    profiles.create("p")
    profiles.profiles["p"]["PREFECT_API_URL"] = "http://old/api"
    profiles.set({"HEADRACE_API_URL": "http://new/api"}, "p")

    assert profiles.profile("p") == {"HEADRACE_API_URL": "http://new/api"}


def test_unset_says_what_was_there() -> None:
    """Under whichever name it stands."""
    profiles = load_profiles()
    profiles.create("p", copy_of="local")

    assert profiles.unset(["PREFECT_API_URL", "HEADRACE_API_KEY"], "p") == ["PREFECT_API_URL"]
    assert profiles.profile("p") == {}


def test_a_profile_is_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """HEADRACE_PROFILE goes before the file."""
    monkeypatch.setenv("HEADRACE_PROFILE", "local")

    assert get_settings().api.url == "http://127.0.0.1:4200/api"


def test_a_profile_that_does_not_exist_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message lists those that do."""
    monkeypatch.setenv("PREFECT_PROFILE", "nowhere")

    with pytest.raises(InvalidSetting, match=r"no profile 'nowhere' .*ephemeral, local"):
        get_settings()


def test_an_unknown_setting_is_refused_with_its_neighbours() -> None:
    """A typing error gets a proposal."""
    with pytest.raises(InvalidSetting, match="HEADRACE_API_URL"):
        load_profiles().set({"HEADRACE_API_ULR": "x"}, "local")


def test_deleting_and_renaming_keep_the_active_profile_right() -> None:
    """The active one follows its new name, and is the default when it is deleted."""
    profiles = load_profiles()
    profiles.create("a")
    profiles.use("a")
    profiles.rename("a", "b")
    assert profiles.active_name() == "b"

    profiles.delete("b")
    assert profiles.active_name() == "ephemeral"
    with pytest.raises(InvalidSetting):
        profiles.use("b")
