"""Jinja's immutable sandbox, limited to JSON values, with fields before methods; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn, cast

import jinja2
from jinja2 import nodes
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from bridge.core.budget import BUDGET, Budget
from bridge.core.errors import EvaluationError
from bridge.core.event import JSON
from bridge.core.fields import Path, child, missing_message
from bridge.core.json_values import MISSING, is_number, json_type
from bridge.core.regex import CompiledRegex
from bridge.expressions.filters import CALLABLE, REGEXES, TESTS
from bridge.expressions.syntax_functions import LIMIT, VALUE, charge_copy, charge_text
from bridge.expressions.values import Missing, TextLimit, require_present

#: The longest whole number in a calculation, in bits, as longer ones take more work.
_MAX_BITS = 1024


class Sandbox(ImmutableSandboxedEnvironment):
    """Parses, compiles and evaluates expressions.

    `undefined` is the type of a missing field: Missing, or MissingInCondition.
    """

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%"})
    intercepted_unops = frozenset({"+", "-"})

    def __init__(self, undefined: type[Missing]) -> None:
        # Delimiters that no YAML file can contain, so that Jinja's own have no meaning.
        super().__init__(
            variable_start_string="\x00{", variable_end_string="}\x00",
            block_start_string="\x00%", block_end_string="%\x00",
            comment_start_string="\x00#", comment_end_string="#\x00",
            undefined=undefined, optimized=False, cache_size=0,
        )  # fmt: skip
        self.globals.clear()
        self.filters = dict(CALLABLE)
        self.tests = dict(TESTS)
        #: Compiled regular expressions by their text, filled when the table loads.
        self.regexes: dict[str, CompiledRegex] = {}

    def parse_one(self, text: str) -> nodes.Expr:
        """Parse one expression. Raises jinja2.TemplateSyntaxError."""
        parser = Parser(self, text, state="variable")
        expression = parser.parse_expression()
        if not parser.stream.eos:
            token = parser.stream.current
            raise jinja2.TemplateSyntaxError(f"unexpected {token.value!r}", token.lineno)
        expression.set_environment(self)
        return expression

    def compile_one(self, expression: nodes.Expr) -> jinja2.Template:
        """Compile one rewritten expression."""
        body: list[nodes.Node] = [nodes.Assign(nodes.Name("result", "store"), expression, lineno=1)]
        return self.from_string(nodes.Template(body, lineno=1))

    def evaluate(self, template: jinja2.Template, scope: Mapping[str, JSON], budget: Budget) -> JSON:
        """Evaluate a compiled expression to a value that may be or contain a Missing. Raises OverBudget."""
        names = {**scope, BUDGET: budget, LIMIT: TextLimit(), REGEXES: self.regexes}
        context = template.new_context(names, shared=True)
        for _ in template.root_render_func(context):
            pass
        return context.vars["result"]

    # Called by Jinja's compiled code and its own filters.

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, Missing):
            return obj
        inner = child(obj, argument)
        if inner is not MISSING:
            return inner

        def why() -> str:
            # Jinja's filters pass no context here, so no budget can pay for a detailed message.
            scope = {VALUE: obj, BUDGET: Budget(detailed_messages=0)}
            return missing_message(Path(VALUE, VALUE, (argument,)), scope)

        return cast(type[Missing], self.undefined)(why=why)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        require_present(left), require_present(right)
        if is_number(left) and is_number(right):
            if any(isinstance(side, int) and side.bit_length() > _MAX_BITS for side in (left, right)):
                raise EvaluationError(f"{operator} needs whole numbers of at most {_MAX_BITS:,} bits")
            try:
                return super().call_binop(context, operator, left, right)
            except ArithmeticError as error:
                raise EvaluationError(str(error)) from error
        if operator == "+" and isinstance(left, str) and isinstance(right, str):
            charge_text(context, len(left) + len(right))
            return left + right
        if operator == "+" and isinstance(left, list) and isinstance(right, list):
            charge_copy(context, len(left) + len(right))
            return left + right
        raise EvaluationError(f"{operator} does not support {json_type(left)} and {json_type(right)}")

    def call_unop(self, context: Context, operator: str, arg: Any) -> Any:
        if not is_number(require_present(arg)):
            raise EvaluationError(f"{operator} does not support {json_type(arg)}")
        return super().call_unop(context, operator, arg)

    def call(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise EvaluationError("objects have no methods")
