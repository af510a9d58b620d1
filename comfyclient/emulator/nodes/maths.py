"""ComfyMathExpression: arithmetic from text, evaluated over Python's syntax tree and nothing else."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Final

from comfyclient.emulator.nodes.registry import Call, node

__all__ = ["evaluate"]

_MAX_EXPONENT: Final = 4000
_MAX_LENGTH: Final = 10_000

_BINARY: Final[dict[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.RShift: operator.rshift,
}
_UNARY: Final[dict[type[ast.unaryop], Callable[[Any], Any]]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
    ast.Invert: operator.invert,
}
_COMPARE: Final[dict[type[ast.cmpop], Callable[[Any, Any], Any]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def _power(base: Any, exponent: Any) -> Any:
    if abs(exponent) > _MAX_EXPONENT or (
        isinstance(base, int) and base.bit_length() * abs(exponent) > 64 * _MAX_EXPONENT
    ):
        raise ValueError(f"Exponent {exponent} exceeds maximum allowed ({_MAX_EXPONENT})")
    return base**exponent


def _sum(*values: Any) -> Any:
    return sum(values[0]) if len(values) == 1 and isinstance(values[0], list) else sum(values)


_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "sum": _sum, "min": min, "max": max, "abs": abs, "round": round, "pow": _power, "sqrt": math.sqrt,
    "ceil": math.ceil, "floor": math.floor, "log": math.log, "log2": math.log2, "log10": math.log10,
    "sin": math.sin, "cos": math.cos, "tan": math.tan, "int": int, "float": float,
}  # fmt: skip


def evaluate(expression: str, names: Mapping[str, Any]) -> int | float:
    """The value of an arithmetic expression.

    Args:
        expression: Numbers, names, ``+ - * / // % **``, comparisons, ``and or not``, ``x if c else y``, functions.
        names: The values of names.

    Raises:
        ValueError: It is empty, too long, uses anything else, or its result is no finite number.
    """
    if not expression.strip():
        raise ValueError("Expression cannot be empty.")
    if len(expression) > _MAX_LENGTH:
        raise ValueError(f"Expression longer than {_MAX_LENGTH} characters.")
    try:
        tree = ast.parse(expression.strip(), mode="eval")
        result = _value(tree.body, names)
    except SyntaxError as error:
        raise ValueError(f"Math Expression '{expression}': {error.msg}") from None
    except RecursionError:
        raise ValueError("Expression nested too deep.") from None
    if not isinstance(result, int | float):
        raise ValueError(  # noqa: TRY004 - what the server raises
            f"Math Expression '{expression}' must evaluate to a numeric result, got {type(result).__name__}: {result!r}"
        )
    return _finite(expression, result)


def _finite(expression: str, result: float) -> int | float:
    try:
        finite = math.isfinite(result)
    except OverflowError:
        raise ValueError(
            f"Math Expression '{expression}' produced a result too large to represent as a float: {result}"
        ) from None
    if not finite:
        raise ValueError(f"Math Expression '{expression}' produced a non-finite result: {result}")
    return result


def _number(value: Any) -> int | float:
    """Keeps texts and lists from being multiplied beyond measure."""
    if not isinstance(value, int | float):
        raise ValueError(f"{value!r} is no number")  # noqa: TRY004 - one kind of error for all that is wrong
    return value


def _value(tree: ast.expr, names: Mapping[str, Any]) -> Any:
    match tree:
        case ast.Constant(value=int() | float() | str() as value):
            return value
        case ast.Name(id=name):
            if name not in names:
                raise ValueError(f"'{name}' is not defined for expression")
            return names[name]
        case ast.UnaryOp(op=sign, operand=inner):
            return _UNARY[type(sign)](_value(inner, names))
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left, names), _value(right, names))
        case ast.BinOp(left=left, op=ast.LShift(), right=right):
            return _value(left, names) * _power(2, _value(right, names))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _BINARY:
            return _BINARY[type(sign)](_number(_value(left, names)), _number(_value(right, names)))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(_value(argument, names) for argument in arguments))
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return _value(body if _value(test, names) else orelse, names)
        case _:
            return _logic(tree, names)


def _logic(tree: ast.expr, names: Mapping[str, Any]) -> Any:
    match tree:
        case ast.BoolOp(op=ast.And(), values=parts):
            return all(_value(part, names) for part in parts)
        case ast.BoolOp(values=parts):
            return any(_value(part, names) for part in parts)
        case ast.Compare(left=left, ops=signs, comparators=others) if all(type(sign) in _COMPARE for sign in signs):
            values = [_value(part, names) for part in (left, *others)]
            return all(_COMPARE[type(sign)](*pair) for sign, pair in zip(signs, pairwise(values), strict=True))
        case ast.Subscript(value=inner, slice=index):
            return _value(inner, names)[_value(index, names)]
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_value(part, names) for part in parts]
        case _:
            raise ValueError(f"{type(tree).__name__} is not allowed in an expression")


@node("ComfyMathExpression")
def _math_expression(call: Call) -> tuple[Any, ...]:
    values = call.group("values")
    result = evaluate(call.inputs["expression"], values | {"values": list(values.values())})
    return float(result), int(result), bool(result)
