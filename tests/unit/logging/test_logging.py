"""Logging of runs: who logs, where lines go, how they look."""

import builtins
import io
import json
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import msgspec
import pytest

from headrace._internal.ids import uuid7
from headrace.context import FlowRunContext, TaskRunContext
from headrace.exceptions import MissingContextError
from headrace.logging import LogEavesdropper, disable_run_logger, get_logger, get_run_logger
from headrace.logging.configuration import setup_logging
from headrace.logging.filters import ObfuscateApiKeyFilter, redact_substr
from headrace.logging.formatters import ConsoleFormatter, JsonFormatter, PrefectFormatter
from headrace.logging.handlers import APILogHandler, ConsoleHandler, sendable, set_api_log_sink
from headrace.logging.loggers import flow_run_logger, get_worker_logger, task_run_logger
from headrace.logging.prints import patch_print
from headrace.schemas.recording import LogRecord
from headrace.settings import temporary_settings
from headrace.settings.secret import Secret, mask

FLOW_RUN, TASK_RUN = uuid7(), uuid7()
FLOW_FIELDS = {"flow_run_id": str(FLOW_RUN), "flow_run_name": "quick-otter", "flow_name": "etl"}
TASK_FIELDS = {"task_run_id": str(TASK_RUN), "task_run_name": "fetch-0", "task_name": "fetch"}


def flow_context(log_prints: bool = False) -> FlowRunContext:
    """The context of a flow run."""
    return FlowRunContext(SimpleNamespace(log_fields=lambda: FLOW_FIELDS, log_prints=log_prints))


def task_context(log_prints: bool = False) -> TaskRunContext:
    """The context of a task run in that flow run."""
    return TaskRunContext(SimpleNamespace(log_fields=lambda: TASK_FIELDS | FLOW_FIELDS, log_prints=log_prints))


@pytest.fixture
def sent(tmp_path: Path) -> Iterator[list[LogRecord]]:
    """The lines that went to the API, with logging set up as for a run."""
    lines: list[LogRecord] = []
    with temporary_settings({"home": str(tmp_path)}):
        set_api_log_sink(lines.append)
        setup_logging()
        yield lines
    set_api_log_sink(None)
    setup_logging()


def test_a_line_belongs_to_the_run_it_is_written_in(sent: list[LogRecord]) -> None:
    """In a task it is the task run's, with its flow run; in a flow the flow run's."""
    with flow_context():
        get_run_logger().info("in the %s", "flow")
        with task_context():
            get_run_logger().warning("in the task")

    assert [(one.message, one.level, one.name, one.flow_run_id, one.task_run_id) for one in sent] == [
        ("in the flow", 20, "headrace.flow_runs", FLOW_RUN, None),
        ("in the task", 30, "headrace.task_runs", FLOW_RUN, TASK_RUN),
    ]
    assert sent[0].id < sent[1].id


def test_outside_of_runs_there_is_no_run_logger() -> None:
    """The error says what to use there; inside of `disable_run_logger` it works and says nothing."""
    with pytest.raises(MissingContextError, match=r"get_logger\(\).*disable_run_logger"):
        get_run_logger()
    with disable_run_logger():
        get_run_logger().error("nobody hears this")

    with pytest.raises(MissingContextError):
        get_run_logger()


def test_lines_below_the_level_cost_nothing(sent: list[LogRecord]) -> None:
    """What is below `logging.level` is neither formatted nor sent."""

    class Loud:
        def __str__(self) -> str:
            raise AssertionError("formatted")

    with flow_context(), temporary_settings({"logging.level": "WARNING"}):
        setup_logging(incremental=True)
        get_run_logger().info("%s", Loud())
        get_run_logger().warning("heard")

    assert [one.message for one in sent] == ["heard"]


def test_tracebacks_are_sent(sent: list[LogRecord]) -> None:
    """`exception` sends the message and the traceback."""
    with flow_context():
        try:
            raise KeyError("broken")
        except KeyError:
            get_run_logger().exception("It failed")

    assert sent[0].message.startswith("It failed\nTraceback")
    assert sent[0].message.endswith("KeyError: 'broken'")


def test_extra_loggers_are_sent_from_inside_of_runs(sent: list[LogRecord]) -> None:
    """What a named library says inside of a run is a line of that run."""
    with temporary_settings({"logging.extra_loggers": "some.library"}):
        setup_logging()
    library = logging.getLogger("some.library")
    with flow_context():
        library.error("inside")

    assert [(one.message, one.name, one.flow_run_id) for one in sent] == [("inside", "some.library", FLOW_RUN)]


@pytest.mark.parametrize(("behaviour", "warned"), [("warn", 1), ("ignore", 0)])
def test_lines_of_no_run_are_not_sent(sent: list[LogRecord], behaviour: str, warned: int) -> None:
    """The setting says whether a warning is given."""
    with (
        temporary_settings({"logging.to_api.when_missing_flow": behaviour}),
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        logging.getLogger("headrace.flow_runs").error("from nowhere")

    assert sent == []
    assert len(caught) == warned


def test_lines_of_no_run_can_be_an_error(sent: list[LogRecord]) -> None:
    """With `error`, the logger raises where it is called."""
    with temporary_settings({"logging.to_api.when_missing_flow": "error"}), pytest.raises(MissingContextError):
        logging.getLogger("headrace.flow_runs").error("from nowhere")

    assert sent == []


def test_sending_can_be_switched_off(sent: list[LogRecord]) -> None:
    """By the setting for all lines, and for one line by its field `send_to_api`."""
    with flow_context():
        get_run_logger().info("not this one", extra={"send_to_api": False})
        with temporary_settings({"logging.to_api.enabled": False}):
            get_run_logger().info("nor this one")
        get_run_logger().info("this one")

    assert [one.message for one in sent] == ["this one"]


def test_long_lines_are_cut(sent: list[LogRecord]) -> None:
    """A line is never longer than the setting says, and says that it was cut."""
    with flow_context(), temporary_settings({"logging.to_api.max_log_size": 200}):
        get_run_logger().info("ä" * 1_000)
        get_run_logger().info("b" * 200)

    assert len(sent[0].message.encode()) <= 200
    assert "it has 2000 bytes" in sent[0].message
    assert sent[1].message == "b" * 200


@pytest.mark.parametrize("text", ["nul \0 byte", "half \ud800 pair", "ok ä 😀"])
def test_every_line_can_be_stored(text: str) -> None:
    """NUL and lone surrogates, which databases and JSON refuse, are written out; other text stays."""
    made = sendable(text, 1_000)

    assert "\0" not in made
    assert msgspec.json.decode(msgspec.json.encode(made)) == made
    assert (made == text) == (text == "ok ä 😀")


def test_s12_secrets_are_masked_everywhere(sent: list[LogRecord], capsys: pytest.CaptureFixture[str]) -> None:
    """A secret that this process knows reaches neither the console nor the API, in a traceback neither."""
    Secret("canary-5678")
    with flow_context():
        get_run_logger().info("the key is %s", "canary-5678")
        try:
            raise ValueError("canary-5678")
        except ValueError:
            get_run_logger().exception("failed")

    everything = "".join(one.message for one in sent) + capsys.readouterr().err
    assert "canary" not in everything
    assert "the key is ********" in everything
    assert mask("ab canary-5678") == "ab ********"
    record = logging.LogRecord("n", 20, "p", 1, "%s!", ("canary-5678",), None)
    assert ObfuscateApiKeyFilter().filter(record)
    assert record.getMessage() == "********!"
    assert redact_substr({"a": ["xsecretx"]}, "secret") == {"a": ["x********x"]}


def test_a_line_that_cannot_be_sent_ends_nothing(sent: list[LogRecord], capsys: pytest.CaptureFixture[str]) -> None:
    """A broken sink is reported on standard error, and the run goes on."""

    def fail(_: LogRecord) -> None:
        raise RuntimeError("sink")

    set_api_log_sink(fail)
    with flow_context():
        get_run_logger().info("hello")

    assert "RuntimeError: sink" in capsys.readouterr().err


def test_the_console_names_the_run(sent: list[LogRecord], capsys: pytest.CaptureFixture[str]) -> None:
    """Time, level, the run's name, the message; other loggers by their own name; each line once."""
    with flow_context():
        get_run_logger().info("one")
        with task_context():
            get_run_logger().error("two")
    get_logger("recorder").warning("three")
    get_logger().info("four")

    lines = capsys.readouterr().err.splitlines()
    assert [line[12:] for line in lines] == [
        " | INFO    | Flow run 'quick-otter' - one",
        " | ERROR   | Task run 'fetch-0' - two",
        " | WARNING | headrace.recorder - three",
        " | INFO    | headrace - four",
    ]
    assert lines[0][2] == lines[0][5] == ":"
    assert len(sent) == 2


def test_levels_are_coloured_for_people_only() -> None:
    """Colours appear when they are asked for, and only around levels that call for attention."""
    record = logging.LogRecord("x", logging.ERROR, "p", 1, "m", (), None)

    assert "\033[31mERROR  \033[0m" in ConsoleFormatter(colors=True).format(record)
    assert "\033" not in ConsoleFormatter(colors=False).format(record)
    handler = ConsoleHandler(io.StringIO())
    assert handler.formatter is not None
    assert "\033" not in handler.formatter.format(record)


def test_formatters_for_configurations_of_users() -> None:
    """One format each for flow runs, task runs and the rest; or JSON."""
    formatter = PrefectFormatter(
        "%(name)s %(message)s", flow_run_fmt="F %(flow_run_name)s", task_run_fmt="T %(message)s"
    )
    made = []
    for name in ("headrace.flow_runs", "prefect.task_runs", "other"):
        record = logging.LogRecord(name, 20, "p", 1, "m", (), None)
        record.flow_run_name = "fr"
        made.append(formatter.format(record))
    assert made == ["F fr", "T m", "other m"]
    try:
        raise KeyError("k")
    except KeyError:
        record = logging.LogRecord("n", 40, "p", 1, "%s", ("x",), sys.exc_info())
    fields = json.loads(JsonFormatter().format(record))
    assert (fields["message"], fields["exc_info"]["type"], fields["args"]) == ("x", "KeyError", ["x"])


def test_prints_become_log_lines_where_they_should(sent: list[LogRecord], capsys: pytest.CaptureFixture[str]) -> None:
    """Only inside of a run with `log_prints`, only to the standard streams; elsewhere `print` prints."""
    original = builtins.print
    elsewhere = io.StringIO()
    with patch_print(), patch_print():
        print("outside")
        with flow_context(log_prints=True):
            print("a", 1, sep="-")
            print()
            print("100 %s")
            print("to a file", file=elsewhere)
            with task_context(log_prints=False):
                print("not in this task")
            thread = threading.Thread(target=print, args=("in a thread without context",))
            thread.start()
            thread.join()

    assert builtins.print is original
    assert [one.message for one in sent] == ["a-1", "", "100 %s"]
    assert elsewhere.getvalue() == "to a file\n"
    assert capsys.readouterr().out == "outside\nnot in this task\nin a thread without context\n"


def test_loggers_for_runs_elsewhere(sent: list[LogRecord]) -> None:
    """A line can be written for a run that the code is not in, with the run itself or its id."""
    run = SimpleNamespace(id=FLOW_RUN, name="other")
    flow_run_logger(run).info("by run")
    flow_run_logger(flow_run_id=FLOW_RUN).getChild("deep", {"x": 1}).info("by id")
    task_run_logger(SimpleNamespace(id=TASK_RUN, name="t", flow_run_id=FLOW_RUN)).info("task")

    assert [(one.name, one.flow_run_id, one.task_run_id) for one in sent] == [
        ("headrace.flow_runs", FLOW_RUN, None),
        ("headrace.flow_runs.deep", FLOW_RUN, None),
        ("headrace.task_runs", FLOW_RUN, TASK_RUN),
    ]
    with pytest.raises(ValueError, match="flow_run_id"):
        flow_run_logger()
    assert get_worker_logger(SimpleNamespace(name="w", type="process")).logger.name == "headrace.workers.process"


def test_names_of_loggers() -> None:
    """`get_logger` puts headrace's name before others; Prefect's names are taken as they are."""
    names = [get_logger(name).name for name in (None, "headrace", "x", "headrace.x", "prefect.x")]

    assert names == ["headrace", "headrace", "headrace.x", "headrace.x", "prefect.x"]


def test_eavesdropping_keeps_what_is_said(sent: list[LogRecord]) -> None:
    """Inside of the block the lines of a logger are kept; afterwards no more."""
    with LogEavesdropper("headrace.flow_runs", level=logging.WARNING) as ears, flow_context():
        get_run_logger().info("too low")
        get_run_logger().warning("kept")
    with flow_context():
        get_run_logger().warning("too late")

    assert ears.text() == "[WARNING]: kept\n"


def test_a_file_replaces_the_configuration(tmp_path: Path) -> None:
    """A `logging.yml`, of Prefect's kind too, is used in place of the built-in configuration."""
    (tmp_path / "logging.yml").write_text(
        "version: 1\n"
        "disable_existing_loggers: false\n"
        "handlers: {api: {class: prefect.logging.handlers.APILogHandler, level: ${LEAST}}}\n"
        "loggers: {headrace.flow_runs: {level: DEBUG, handlers: [api]}}\n"
    )
    lines: list[LogRecord] = []
    set_api_log_sink(lines.append)
    with pytest.MonkeyPatch.context() as patch, temporary_settings({"home": str(tmp_path)}):
        patch.setenv("LEAST", "ERROR")
        assert setup_logging()["version"] == 1
        with flow_context():
            get_run_logger().debug("too low for the handler")
            get_run_logger().error("sent")
    set_api_log_sink(None)
    setup_logging()

    assert [one.message for one in lines] == ["sent"]


def test_ids_of_any_kind_are_understood(sent: list[LogRecord]) -> None:
    """A record may name its run by text or by UUID."""
    logging.getLogger("headrace.flow_runs").error("x", extra={"flow_run_id": FLOW_RUN})

    assert sent[0].flow_run_id == FLOW_RUN
    assert isinstance(sent[0].flow_run_id, UUID)
    assert any(isinstance(one, APILogHandler) for one in logging.getLogger("prefect.flow_runs").handlers)


def test_importing_the_loggers_is_light() -> None:
    """Asking for a run's logger imports neither asyncio nor pydantic nor rich nor yaml."""
    program = (
        "import sys, headrace.logging\nfrom headrace.logging.configuration import setup_logging\nsetup_logging()\n"
        "heavy = ('asyncio', 'pydantic', 'rich', 'yaml', 'sqlalchemy', 'logging.config')\n"
        "print([name for name in heavy if name in sys.modules])"
    )

    done: Any = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
