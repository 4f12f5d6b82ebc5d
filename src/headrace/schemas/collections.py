"""Collections: what is known of the packages that extend headrace and Prefect."""

from typing import Any

from headrace.schemas.endpoint import Endpoint

READ_VIEW_CONTENT = Endpoint("GET", "/collections/views/{view}", returns=dict[str, Any])
