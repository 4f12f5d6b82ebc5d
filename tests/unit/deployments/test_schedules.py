"""Schedules as users write them."""

from datetime import timedelta
from typing import Any

import pytest

from headrace.deployments.errors import DeploymentError
from headrace.deployments.schedules import schedules_of
from headrace.schemas.deployments import DeploymentScheduleCreate
from headrace.schemas.schedules import Schedule


def test_no_argument_says_nothing_about_schedules() -> None:
    """So a redeployment leaves them as they are; an empty list takes them away."""
    assert schedules_of() is None
    assert schedules_of(schedules=[]) == []


@pytest.mark.parametrize(
    ("arguments", "schedule"),
    [
        ({"cron": "0 6 * * *", "timezone": "Europe/Berlin"}, Schedule(cron="0 6 * * *", timezone="Europe/Berlin")),
        ({"interval": 60}, Schedule(interval=60)),
        ({"interval": timedelta(hours=1)}, Schedule(interval=3600)),
        ({"rrule": "FREQ=DAILY"}, Schedule(rrule="FREQ=DAILY")),
        ({"schedule": {"interval": "PT10M"}}, Schedule(interval=600)),
        ({"schedule": Schedule(cron="* * * * *")}, Schedule(cron="* * * * *")),
        ({"schedule": {"schedule": {"cron": "@daily"}, "active": "false"}}, Schedule(cron="@daily")),
    ],
)
def test_each_form_becomes_a_schedule(arguments: dict[str, Any], schedule: Schedule) -> None:
    """Numbers, timedeltas, ISO durations, mappings, structs."""
    (made,) = schedules_of(**arguments) or ()

    assert made.schedule == schedule


def test_lists_make_several_schedules() -> None:
    """Several cron expressions are several schedules; slugs and parameters are kept."""
    assert len(schedules_of(cron=["0 6 * * *", "0 7 * * *"]) or ()) == 2
    item = {"cron": "0 6 * * *", "slug": "six", "parameters": {"x": 1}, "active": False}
    assert schedules_of(schedules=[item]) == [
        DeploymentScheduleCreate(schedule=Schedule(cron="0 6 * * *"), slug="six", parameters={"x": 1}, active=False)
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cron": "0 6 * *"}, "Invalid cron string"),
        ({"cron": "0 6 * * *", "timezone": "Mars/Base"}, "Invalid timezone"),
        ({"cron": "0 6 * * *", "interval": 5}, "only one of interval, cron"),
        ({"interval": 0}, "longer than nothing"),
        ({"interval": "often"}, "not an interval"),
        ({"schedule": {"cron": "* * * * *", "rrule": "FREQ=DAILY"}}, "exactly one"),
        ({"schedule": {"timezone": "UTC"}}, "none of them"),
        ({"schedule": {"cron": "* * * * *", "tz": "UTC"}}, "has no tz"),
        ({"schedule": {"interval": 5, "anchor_date": "soon"}}, "not a moment"),
        ({"schedule": {"interval": 5, "active": "perhaps"}}, "true or false"),
        ({"schedule": 5}, "not a schedule"),
    ],
)
def test_what_is_wrong_is_said(arguments: dict[str, Any], message: str) -> None:
    """Each fault has its own message."""
    with pytest.raises(DeploymentError, match=message):
        schedules_of(**arguments)
