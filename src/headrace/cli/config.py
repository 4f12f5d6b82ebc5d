"""`headrace config`: settings, and where each comes from."""

from typing import Annotated

from cyclopts import App, Parameter

from headrace.cli.output import OutputOption, console, done, fail, show_json
from headrace.settings import (
    InvalidSetting,
    Secret,
    all_settings,
    get_settings,
    load_profiles,
    save_profiles,
    sources_of,
)
from headrace.settings.convert import shown, to_text
from headrace.settings.loading import read_sources

app = App(name="config", help="View and change settings.")


@app.command(name="view")
def view(
    *,
    show_defaults: Annotated[bool, Parameter(negative="--hide-defaults")] = False,
    show_sources: Annotated[bool, Parameter(negative="--hide-sources")] = True,
    show_secrets: Annotated[bool, Parameter(negative="--hide-secrets")] = False,
    output: OutputOption = None,
) -> None:
    """Show the settings in force.

    Args:
        show_defaults: also those that are at their default.
        show_sources: say where each value comes from.
        show_secrets: print secrets in clear.
        output: `json` prints the data as JSON.
    """
    settings, sources = get_settings(), sources_of()
    rows = []
    for setting in all_settings():
        if setting.path in sources or show_defaults:
            value = setting.value_from(settings)
            in_clear = show_secrets and isinstance(value, Secret)
            text = (to_text(value) or "") if in_clear else shown(setting, value)
            rows.append((setting.name, text, sources.get(setting.path, "default")))
    if output == "json":
        show_json({name: text for name, text, _ in rows})
        return
    console().print(f"Profile: {load_profiles().active_name()}", style="bold")
    for name, text, source in rows:
        origin = f"  (from {source})" if show_sources else ""
        console().print(f"{name}={text}{origin}", markup=False, soft_wrap=True)


@app.command(name="set")
def set_values(*settings: str) -> int | None:
    """Change settings in the active profile.

    Args:
        settings: `NAME=VALUE`, as many as you like.
    """
    pairs = [setting.partition("=") for setting in settings]
    if not pairs or any(not equals for _, equals, _ in pairs):
        return fail(
            "Give each setting as NAME=VALUE, for example: headrace config set HEADRACE_API_URL=http://127.0.0.1:4200/api"
        )
    profiles = load_profiles()
    written = profiles.set({name.strip(): value for name, _, value in pairs})
    save_profiles(profiles)
    for name in written:
        done(f"Set {name} in profile '{profiles.active_name()}'.")
    return None


@app.command(name="unset")
def unset_values(*setting_names: str, yes: Annotated[bool, Parameter(name=["--yes", "-y"])] = False) -> int | None:
    """Remove settings from the active profile, so that their defaults hold again.

    Args:
        setting_names: the names.
        yes: do not ask.
    """
    if not setting_names:
        return fail("Give the names of the settings to remove.")
    profiles = load_profiles()
    removed = profiles.unset(list(setting_names))
    if not removed:
        return fail(f"Profile '{profiles.active_name()}' sets none of: {', '.join(setting_names)}")
    if not yes and not _confirmed(f"Remove {', '.join(removed)} from profile '{profiles.active_name()}'?"):
        return fail("Nothing was changed.")
    save_profiles(profiles)
    for name in removed:
        done(f"Removed {name} from profile '{profiles.active_name()}'.")
    return None


def _confirmed(question: str) -> bool:
    from rich.prompt import Confirm

    return Confirm.ask(question, console=console())


@app.command(name="validate")
def validate() -> int | None:
    """Check every source of settings and report what is wrong."""
    try:
        read_sources()
    except InvalidSetting as error:
        return fail(str(error))
    done("All settings are valid.")
    return None
