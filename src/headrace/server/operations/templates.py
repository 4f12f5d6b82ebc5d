"""Checking templates of automations: they are read, and never carried out here.  # S7"""

from typing import Any

from headrace.schemas.templates import VALIDATE_AUTOMATION_TEMPLATE, VALIDATE_TEMPLATE
from headrace.server.operations.arguments import detail, invalid
from headrace.server.operations.registry import implements
from headrace.server.store.transaction import Tx

LONGEST = 65_536
DEEPEST_LOOPS = 2


@implements(VALIDATE_TEMPLATE, access="automations:read")
def validate_template(tx: Tx, body: Any) -> None:  # noqa: ARG001  nothing is read
    """Refuse a template that cannot be read, or that nests its loops too deeply; an absent one is empty."""
    if body in ({}, None):
        return
    if not isinstance(body, str):
        raise invalid(detail("string_type", ["body"], "Input should be a valid string"))
    if fault := fault_of_template(body):
        raise invalid(detail("template_error", ["body"], fault))


@implements(VALIDATE_AUTOMATION_TEMPLATE, access="automations:read")
def validate_automation_template(tx: Tx, body: Any) -> None:
    """The same, by another address."""
    validate_template(tx, body)


def fault_of_template(template: str) -> str | None:
    """What is wrong with a template; None when nothing is."""
    from jinja2 import TemplateSyntaxError  # 40 ms, which a start need not pay
    from jinja2.nodes import For
    from jinja2.sandbox import SandboxedEnvironment

    def depth(node: Any) -> int:
        return max((depth(one) for one in node.iter_child_nodes()), default=0) + isinstance(node, For)

    if len(template) > LONGEST:
        return f"The template has {len(template)} characters; it may have {LONGEST}."
    try:
        deep = depth(SandboxedEnvironment().parse(template))
    except TemplateSyntaxError as error:
        return f"line {error.lineno}: {error.message}"
    except RecursionError:
        return "The template is nested too deeply."
    if deep > DEEPEST_LOOPS:
        return f"The template nests loops {deep} deep; it may nest {DEEPEST_LOOPS}."
    return None
