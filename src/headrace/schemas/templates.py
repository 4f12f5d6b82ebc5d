"""Templates of automations: whether they can be read."""

from types import NoneType
from typing import Any

from headrace.schemas.endpoint import Endpoint

VALIDATE_TEMPLATE = Endpoint("POST", "/templates/validate", body=Any, returns=NoneType, status=204)
VALIDATE_AUTOMATION_TEMPLATE = Endpoint(
    "POST", "/automations/templates/validate", body=Any, returns=NoneType, status=204
)
