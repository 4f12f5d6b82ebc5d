"""What can go wrong when something is deployed."""

from headrace.exceptions import HeadraceError


class DeploymentError(HeadraceError, ValueError):
    """A deployment is not described rightly; the message says where, and how to mend it."""


class DeploymentApplyError(HeadraceError, RuntimeError):
    """The API refused a deployment."""


class StepExecutionError(HeadraceError):
    """A step of building, pushing or pulling failed; its cause is the error of the step itself."""
