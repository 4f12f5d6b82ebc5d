"""Deploying from headrace.yaml."""

from pathlib import Path

import pytest

from headrace.client import get_client
from headrace.deployments import DeploymentError, deploy_from_file
from headrace.schemas.deployments import UPDATE_DEPLOYMENT, DeploymentUpdate
from headrace.schemas.schedules import Schedule

FULL = """
build:
  - prefect.deployments.steps.run_shell_script:
      id: version
      script: echo 1.2
      stream_output: false
deployments:
  - name: daily
    entrypoint: flows.py:add_up
    version: "{{ version.stdout }}"
    description: from {{ $PLACE }}
    tags: a, b
    parameters: {a: 1}
    concurrency_limit: {limit: 2, collision_strategy: CANCEL_NEW}
    schedules:
      - {cron: "0 6 * * *", timezone: Europe/Berlin, slug: six, parameters: {a: 2}}
      - {interval: PT1H, active: false}
      - {rrule: FREQ=WEEKLY}
    work_pool:
      name: main
      work_queue_name: default
      job_variables: {env: {LEVEL: "{{ $PLACE }}"}}
    pull:
      - prefect.deployments.steps.set_working_directory: {directory: "{{ $LATER }}"}
"""
TWO = """
deployments:
  - {name: a, entrypoint: "flows.py:add_up", work_pool: {name: main}}
  - {name: b, entrypoint: "flows.py:add_up", work_pool: {name: main}}
"""


def test_everything_in_the_file_reaches_the_api(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps, placeholders, schedules, limits, the pool; pull steps are kept for the run as they are written."""
    monkeypatch.setenv("PLACE", "here")
    (project / "headrace.yaml").write_text(FULL)
    (deployed,) = deploy_from_file()
    made = deployed.deployment

    assert deployed.created
    assert deployed.name == "add-up/daily"
    assert (made.version, made.description, made.tags) == ("1.2", "from here", ["a", "b"])
    assert made.parameters == {"a": 1}
    assert made.global_concurrency_limit is not None
    assert made.global_concurrency_limit.limit == 2
    assert made.concurrency_options is not None
    assert made.concurrency_options.collision_strategy == "CANCEL_NEW"
    assert made.job_variables == {"env": {"LEVEL": "here"}}
    assert (made.work_pool_name, made.work_queue_name) == ("main", "default")
    assert made.pull_steps == [
        {"prefect.deployments.steps.set_working_directory": {"directory": "{{ $LATER }}"}},
    ]
    by_kind = {(one.schedule.cron, one.schedule.interval, one.schedule.rrule): one for one in made.schedules}
    six = by_kind["0 6 * * *", None, None]
    assert six.schedule == Schedule(cron="0 6 * * *", timezone="Europe/Berlin")
    assert (six.slug, six.parameters, six.active) == ("six", {"a": 2}, True)
    assert not by_kind[None, 3600, None].active
    assert any((rrule or "").endswith("FREQ=WEEKLY") for _, _, rrule in by_kind)


def test_g3_deploying_again_changes_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same file gives the same deployment, with the same schedules."""
    monkeypatch.setenv("PLACE", "here")
    (project / "headrace.yaml").write_text(FULL)
    (first,) = deploy_from_file()
    (second,) = deploy_from_file()

    assert second.id == first.id
    assert not second.created
    assert second.changed == ()
    assert {one.id for one in second.deployment.schedules} == {one.id for one in first.deployment.schedules}


def test_what_has_changed_is_said(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the names of what is different."""
    monkeypatch.setenv("PLACE", "here")
    (project / "headrace.yaml").write_text(FULL)
    deploy_from_file()
    (project / "headrace.yaml").write_text(FULL.replace("0 6", "0 7").replace("{a: 1}", "{a: 5}"))
    (deployed,) = deploy_from_file()

    assert deployed.changed == ("parameters", "schedules")


def test_a_paused_deployment_stays_paused(project: Path) -> None:
    """Unless the file says otherwise."""
    (project / "headrace.yaml").write_text(TWO)
    (first,) = deploy_from_file(names=["a"])
    get_client().call(UPDATE_DEPLOYMENT, id=first.id, body=DeploymentUpdate(paused=True))
    (again,) = deploy_from_file(names=["a"])

    assert again.deployment.paused


def test_without_pull_steps_a_run_begins_in_the_folder_of_the_file(project: Path) -> None:
    """The worker must have it; the step says so when it does not."""
    (project / "headrace.yaml").write_text(TWO)
    (deployed,) = deploy_from_file(names=["b"])

    assert deployed.deployment.pull_steps == [
        {"headrace.deployments.steps.set_working_directory": {"directory": str(project)}}
    ]


def test_deployments_are_chosen_by_name(project: Path) -> None:
    """Wildcards and flow names are understood; nothing is chosen by chance."""
    (project / "prefect.yaml").write_text(TWO)

    assert [one.name for one in deploy_from_file(everything=True)] == ["add-up/a", "add-up/b"]
    assert [one.name for one in deploy_from_file(names=["*"])] == ["add-up/a", "add-up/b"]
    assert [one.name for one in deploy_from_file(names=["add-up/b"])] == ["add-up/b"]
    with pytest.raises(DeploymentError, match=r"several deployments: a, b"):
        deploy_from_file()
    with pytest.raises(DeploymentError, match=r"no deployment 'c'; it has: a, b"):
        deploy_from_file(names=["c"])


def test_values_can_be_overridden(project: Path) -> None:
    """As options of the command line do; mappings are merged."""
    (project / "headrace.yaml").write_text(TWO)
    overrides = {"tags": ["x"], "work_pool": {"job_variables": {"a": 1}}}
    (deployed,) = deploy_from_file(names=["a"], overrides=overrides)

    assert deployed.deployment.tags == ["x"]
    assert (deployed.deployment.work_pool_name, deployed.deployment.job_variables) == ("main", {"a": 1})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "name: main",
            "name: nowhere",
            r"line 3: There is no work pool 'nowhere'\. Create it with: headrace work-pool",
        ),
        ("flows.py:add_up", "flows.py:none", r"line 3: There is no flow at 'flows\.py:none'"),
        ("flows.py:add_up", "missing.py:x", r"line 3: .*no file"),
        ('entrypoint: "flows.py:add_up", ', "", r"line 3: the deployment has no entrypoint"),
        ("name: a", "name: a/b", r"cannot be the name of a deployment"),
        ("name: a", "name: a, schedules: [{cron: x}]", r"line 3: cron is not right"),
        ("name: a", "name: a, concurrency_limit: {collision_strategy: X}", r"has no `limit`"),
        ("name: a", "name: a, schedule: {cron: '* * * * *'}, schedules: [{interval: 5}]", "not both"),
        ("work_pool: {name: main}", "tags: []", "a work pool is wanted"),
        ("name: a", "name: a, description: '{{ prefect.blocks.a.b }}'", r"line 3: .*a block that does not exist"),
    ],
)
def test_errors_name_the_place(project: Path, old: str, new: str, message: str) -> None:
    """File, line, and what to do; and nothing is deployed."""
    (project / "headrace.yaml").write_text(TWO.replace(old, new, 1))

    with pytest.raises(DeploymentError, match=message):
        deploy_from_file(everything=True)


def test_an_unset_variable_is_warned_about(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken as empty, as Prefect does, but not in silence."""
    monkeypatch.delenv("PLACE", raising=False)
    (project / "headrace.yaml").write_text(FULL)

    with pytest.warns(UserWarning, match=r"headrace\.yaml, line 8: the environment has no PLACE"):
        (deployed,) = deploy_from_file()
    assert deployed.deployment.description == "from "


def test_s12_job_variables_keep_their_references(project: Path) -> None:
    """What refers to a block is read by the worker: no secret is kept in a deployment."""
    pool = "{name: main, job_variables: {env: {TOKEN: 'x-{{ prefect.blocks.secret.token }}', PLAIN: '{{ $HOME }}'}}}"
    (project / "headrace.yaml").write_text(TWO.replace("{name: main}", pool, 1))

    deployed = deploy_from_file(names=["a"])[0].deployment

    assert deployed.job_variables["env"]["TOKEN"] == "x-{{ prefect.blocks.secret.token }}"
    assert deployed.job_variables["env"]["PLAIN"].startswith("/")
