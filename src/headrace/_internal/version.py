"""The version of the installed package."""


def version() -> str:
    """The version the package was installed as; `0+source` when it runs from a folder without having been installed."""
    from importlib.metadata import PackageNotFoundError  # 12 ms, which not every process has to pay
    from importlib.metadata import version as installed

    try:
        return installed("headrace")
    except PackageNotFoundError:
        return "0+source"
