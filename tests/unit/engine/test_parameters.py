"""Parameters of flows: bound, validated and coerced as pydantic does, and described as JSON schema."""

import enum
from datetime import UTC, date, datetime
from typing import Any, Literal, Optional
from uuid import UUID

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import flow, task
from headrace.engine.parameters import fits, jsonable
from headrace.exceptions import ParameterBindError, ParameterTypeError, ReservedArgumentError
from headrace.utilities.callables import parameter_schema


class Model(pydantic.BaseModel):
    """A model of a user's."""

    q: int = 1


class Colour(enum.Enum):
    """An enumeration of a user's."""

    RED = "red"


HINTS: list[Any] = [
    int,
    str,
    float,
    bool,
    bytes,
    date,
    datetime,
    UUID,
    list[int],
    dict[str, int],
    set[str],
    int | None,
    int | str,
    Optional[float],  # noqa: UP045
    Literal["a", 1],
    list[int | str],
    Any,
    Model,
    Colour,
    tuple[int, str],
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-5, 5) | st.sampled_from(["a", "5", "x", "true"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "5"]), inner, max_size=2),
    max_leaves=4,
)


@given(hint=st.sampled_from(HINTS), value=VALUES)
def test_what_is_not_shown_to_pydantic_would_come_out_unchanged(hint: Any, value: Any) -> None:
    """Whenever the quick look says that a value fits, pydantic gives the same value of the same type."""
    if fits(value, hint):
        same = pydantic.TypeAdapter(hint).validate_python(value)

        assert repr(same) == repr(value)


def test_values_are_coerced() -> None:
    """Text becomes a number, a number a float, a dict a model, as annotated."""

    @flow
    def body(x: int, y: float = 1.0, m: Model | None = None, when: date | None = None) -> Any:
        return x, y, m, when

    assert body("5", 3, {"q": "7"}, "2026-01-02") == (5, 3.0, Model(q=7), date(2026, 1, 2))


def test_a_value_that_does_not_fit_fails_the_run() -> None:
    """A plain call raises, with a line for each fault; the run is recorded as Failed."""

    @flow
    def body(x: int, m: Model) -> None: ...

    with pytest.raises(ParameterTypeError) as raised:
        body("abc", {"q": "no"})
    state = body("abc", {}, return_state=True)

    assert str(raised.value).splitlines() == [
        "Flow run received invalid parameters:",
        " - x: Input should be a valid integer, unable to parse string as an integer",
        " - m.q: Input should be a valid integer, unable to parse string as an integer",
    ]
    assert state.is_failed()
    assert state.message.startswith("Validation of flow parameters failed with error: ParameterTypeError: Flow run")


def test_validation_can_be_switched_off() -> None:
    """`validate_parameters=False` passes on what is given."""

    @flow(validate_parameters=False)
    def body(x: int) -> Any:
        return x

    assert body("5") == "5"


def test_annotations_may_be_text_and_limits_may_be_given_with_them() -> None:
    """Quoted annotations are resolved; pydantic's `Field` counts in annotations and as default."""

    @flow
    def body(x: "int", n: int = pydantic.Field(default=2, gt=1)) -> Any:
        return x, n

    assert body("1") == (1, 2)
    with pytest.raises(ParameterTypeError, match="greater than 1"):
        body(1, 1)


@pytest.mark.parametrize(
    ("args", "kwargs", "fault"),
    [
        ((), {}, "missing a required argument: 'x'"),
        ((1,), {"q": 2}, "unexpected keyword argument 'q'"),
        ((1, 2, 3), {}, "too many positional arguments"),
        ((1,), {"x": 2}, "multiple values for argument 'x'"),
    ],
)
def test_arguments_that_do_not_fit_are_a_type_error(args: Any, kwargs: Any, fault: str) -> None:
    """The message names the function, the fault and what was received; no run is made."""

    def body(x: int, y: int = 1) -> None: ...

    for made in (flow(body), task(body)):
        with pytest.raises(ParameterBindError, match=fault) as raised:
            made(*args, **kwargs)
        assert isinstance(raised.value, TypeError)


def test_arguments_of_every_kind_reach_the_function() -> None:
    """Positional-only, variadic and keyword-only parameters included."""

    def body(a: Any, /, b: Any, *rest: Any, c: Any = 3, **more: Any) -> Any:
        return a, b, rest, c, more

    for made in (flow(body), task(body)):
        assert made(1, 2, 3, 4, c=5, d=6) == (1, 2, (3, 4), 5, {"d": 6})
        assert made(1, b=2) == (1, 2, (), 3, {})


@pytest.mark.parametrize("name", ["return_state", "wait_for"])
def test_reserved_names_are_refused(name: str) -> None:
    """A parameter that calling needs for itself is refused when the function is decorated."""
    namespace: dict[str, Any] = {}
    exec(f"def body({name}): ...", namespace)

    for decorate in (flow, task):
        with pytest.raises(ReservedArgumentError, match=name):
            decorate(namespace["body"])


def test_parameters_are_recorded_as_plain_data() -> None:
    """What has a JSON form is recorded in it; anything else, and what is very large, is described."""
    found = jsonable(
        {
            "m": Model(q=2),
            "at": datetime(2026, 1, 1, tzinfo=UTC),
            "s": {1},
            "o": object(),
            "large": list(range(200_000)),
        }
    )

    assert found == {
        "m": {"q": 2},
        "at": "2026-01-01T00:00:00Z",
        "s": [1],
        "o": "<builtins.object>",
        "large": "<builtins.list, 200000 long>",
    }


def test_the_schema_of_parameters() -> None:
    """Types, defaults, positions and descriptions, as deployments and forms need them."""

    def body(a, b: int, c: str = "x", m: Model = Model()) -> None:  # type: ignore[no-untyped-def]
        """Do it.

        Args:
            a: the first
            b (int): the second
              and more
        """

    schema = parameter_schema(body)

    assert schema.required == ["a", "b"]
    assert schema.properties["a"] == {"title": "a", "position": 0, "description": "the first"}
    assert schema.properties["b"]["description"] == "the second\nand more"
    assert schema.properties["b"]["type"] == "integer"
    assert schema.properties["m"] == {"title": "m", "position": 3, "$ref": "#/definitions/Model", "default": {"q": 1}}
    assert list(schema.definitions) == ["Model"]
