"""`headrace profile`: several sets of settings."""

from typing import Annotated

from cyclopts import App, Parameter

from headrace.cli.output import OutputOption, console, done, show_json, show_table
from headrace.settings import load_profiles, save_profiles

app = App(name="profile", help="Keep several sets of settings and switch between them.")


@app.command(name="ls")
def list_all(*, output: OutputOption = None) -> None:
    """List the profiles; a star marks the active one.

    Args:
        output: `json` prints the data as JSON.
    """
    profiles = load_profiles()
    active = profiles.active_name()
    if output == "json":
        show_json([{"name": name, "active": name == active} for name in profiles.profiles])
    else:
        show_table("Profiles", ("", "Name"), [("*" if name == active else "", name) for name in profiles.profiles])


@app.command(name="create")
def create(name: str, /, *, from_name: Annotated[str | None, Parameter(name="--from")] = None) -> None:
    """Create a profile.

    Args:
        name: its name.
        from_name: copy the settings of this profile.
    """
    profiles = load_profiles()
    profiles.create(name, copy_of=from_name)
    save_profiles(profiles)
    done(f"Created profile '{name}'. Make it the active one with: headrace profile use '{name}'")


@app.command(name="use")
def use(name: str, /) -> None:
    """Make a profile the active one.

    Args:
        name: its name.
    """
    profiles = load_profiles()
    profiles.use(name)
    save_profiles(profiles)
    done(f"Profile '{name}' is now active.")


@app.command(name="delete")
def delete(name: str, /) -> None:
    """Delete a profile.

    Args:
        name: its name.
    """
    profiles = load_profiles()
    profiles.delete(name)
    save_profiles(profiles)
    done(f"Deleted profile '{name}'.")


@app.command(name="rename")
def rename(name: str, new_name: str, /) -> None:
    """Give a profile another name.

    Args:
        name: the name it has.
        new_name: the name it gets.
    """
    profiles = load_profiles()
    profiles.rename(name, new_name)
    save_profiles(profiles)
    done(f"Renamed profile '{name}' to '{new_name}'.")


@app.command(name="inspect")
def inspect(name: str | None = None, /, *, output: OutputOption = None) -> None:
    """Show the settings of a profile.

    Args:
        name: its name; the active one when absent.
        output: `json` prints the data as JSON.
    """
    profiles = load_profiles()
    name = name or profiles.active_name()
    values = profiles.profile(name)
    if output == "json":
        show_json(values)
        return
    for setting, value in values.items():
        console().print(f"{setting}={value}", markup=False, soft_wrap=True)
    if not values:
        console().print(f"Profile '{name}' sets nothing.")
