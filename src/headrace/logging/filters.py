"""Keeping secrets out of log lines.  # S12"""

import logging
from typing import Any

from headrace.settings.secret import STARS, mask


def redact_substr(obj: Any, substr: str) -> Any:
    """`obj` with a text replaced by stars wherever it occurs in its strings: in lists, tuples, sets and dicts too."""
    if isinstance(obj, str):
        return obj.replace(substr, STARS)
    if isinstance(obj, list | tuple | set | frozenset):
        return type(obj)(redact_substr(one, substr) for one in obj)
    if isinstance(obj, dict):
        return {redact_substr(key, substr): redact_substr(value, substr) for key, value in obj.items()}
    return obj


class ObfuscateApiKeyFilter(logging.Filter):
    """Replaces known secrets in what is logged; for logging configurations of users' own."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask the message; the record is always kept."""
        message = record.getMessage()
        masked = mask(message)
        if masked is not message:
            record.msg, record.args = masked, ()
        return True
