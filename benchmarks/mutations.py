"""Small changes of Python source that a test suite should notice. `mutants.py` makes them and runs the tests.

A mutation replaces one piece of the text, so that its diff is what a slip of the hand would be. Left alone are names,
strings (messages, help, docstrings), annotations, log calls and what only words a message.
"""

import ast
import hashlib
from dataclasses import dataclass
from typing import Dict, Iterator, List, Optional, Tuple

COMPARISONS = {
    "==": ["!="], "!=": ["=="], "<": ["<=", ">="], "<=": ["<", ">"], ">": [">=", "<="], ">=": [">", "<"],
    "is": ["is not"], "is not": ["is"], "in": ["not in"], "not in": ["in"],
}  # fmt: skip
OPERATORS = {
    "+": ["-"], "-": ["+"], "*": ["/"], "/": ["*"], "//": ["*"], "%": ["*"], "**": ["*"], "@": ["*"], "&": ["|"],
    "|": ["&"], "and": ["or"], "or": ["and"],
}  # fmt: skip
SYMBOLS = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Is: "is",
    ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in", ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/",
    ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**", ast.MatMult: "@", ast.BitAnd: "&", ast.BitOr: "|",
    ast.And: "and", ast.Or: "or",
}  # fmt: skip
WORDS_ONLY = {"help", "metadata", "desc", "unit", "title", "about", "postfix"}  # keywords that nothing is computed from
MESSAGES = {"logger", "logging", "warnings", "print"}  # calls of these
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass(frozen=True)
class Mutation:
    """One change of a file.

    Attributes:
        function: dotted name of the function it is in; '' at the top of a module or class.
        line: of the file as it is. kind: what sort of change, for people. start, end, new: which bytes become what.
        id: the same however far lines have moved.
    """

    path: str
    function: str
    line: int
    kind: str
    start: int
    end: int
    new: str
    id: str

    def apply(self, text: str) -> Optional[str]:
        """The mutated file; None: it would not compile, or be the same program."""
        old = text.encode()
        new = (old[: self.start] + self.new.encode() + old[self.end :]).decode()
        try:
            compile(new, self.path, "exec")
        except (SyntaxError, ValueError):
            return None
        return None if ast.dump(ast.parse(new)) == ast.dump(ast.parse(text)) else new


def functions_of(tree: ast.AST) -> Iterator[Tuple[str, ast.AST]]:
    """Functions that have a name, with the dotted name of each."""
    pending: List[Tuple[str, ast.AST]] = [("", tree)]
    while pending:
        prefix, parent = pending.pop()
        for node in ast.iter_child_nodes(parent):
            named = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            name = f"{prefix}{node.name}." if named else prefix
            if isinstance(node, FUNCTIONS[:2]):
                yield name[:-1], node
            pending.append((name, node))


def mutations(path: str, text: str) -> List[Mutation]:
    """All mutations of a file, in the order of its lines; not each compiles (:meth:`Mutation.apply`)."""
    return sorted(_Finder(path, text).found, key=lambda mutation: mutation.start)


class _Finder(ast.NodeVisitor):
    def __init__(self, path: str, text: str):
        self.path, self.bytes, self.function = path, text.encode(), ""
        self.starts = [0]
        for line in self.bytes.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.found: List[Mutation] = []
        self.seen: Dict[Tuple[str, ...], int] = {}
        self.visit(ast.parse(text))

    # Places in the text.
    def start(self, node) -> int:
        return self.starts[node.lineno - 1] + node.col_offset

    def end(self, node) -> int:
        return self.starts[node.end_lineno - 1] + node.end_col_offset

    def source(self, node) -> str:
        return self.bytes[self.start(node) : self.end(node)].decode()

    def replace(self, kind: str, start: int, end: int, new: str) -> None:
        """Note a mutation."""
        line = self.bytes.count(b"\n", 0, start) + 1
        around = self.bytes[self.starts[line - 1] : self.starts[line]].decode().strip()
        key = (self.path, self.function, kind, around, self.bytes[start:end].decode(), new)
        self.seen[key] = self.seen.get(key, -1) + 1
        name = hashlib.sha256("\0".join((*key, str(self.seen[key]))).encode()).hexdigest()[:10]
        self.found.append(Mutation(self.path, self.function, line, kind, start, end, new, name))

    def put(self, kind: str, node, new: str) -> None:
        self.replace(kind, self.start(node), self.end(node), new)

    def between(self, kind: str, left, right, symbol: str, others: List[str]) -> None:
        """Replace the operator that stands between two operands."""
        start, end = self.end(left), self.start(right)
        gap = self.bytes[start:end].decode()
        for other in others:
            self.replace(kind, start, end, gap.replace(symbol, other, 1))

    # What is walked through.
    def visit_FunctionDef(self, node) -> None:
        for decorator in node.decorator_list:
            if "no_grad" in self.source(decorator):
                self.replace("no_grad removed", self.start(decorator) - 1, self.end(decorator), "")
        outer = self.function
        self.function = f"{outer}.{node.name}".lstrip(".")
        self.visit(node.args)
        for statement in node.body:
            self.visit(statement)
        self.function = outer

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node) -> None:
        outer = self.function
        self.function = f"{outer}.{node.name}".lstrip(".")
        for statement in node.body:
            self.visit(statement)
        self.function = outer

    def visit_arguments(self, node) -> None:
        for default in (*node.defaults, *filter(None, node.kw_defaults)):
            self.visit(default)

    def visit_AnnAssign(self, node) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_JoinedStr(self, node) -> None:
        """Messages."""

    visit_Import = visit_ImportFrom = visit_JoinedStr

    # Statements.
    def visit_Raise(self, node) -> None:
        self.put("raise dropped", node, "pass")

    def visit_Assert(self, node) -> None:
        self.put("assert dropped", node, "pass")

    def visit_Expr(self, node) -> None:
        if isinstance(node.value, ast.Call) and not _is_message(node.value):
            self.put("call dropped", node, "pass")
            self.visit(node.value)
        elif isinstance(node.value, (ast.Yield, ast.YieldFrom)):
            self.visit(node.value)

    def visit_Assign(self, node) -> None:
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets):
            return
        if all(isinstance(target, (ast.Attribute, ast.Subscript)) for target in node.targets):
            self.put("assignment dropped", node, "pass")
        self.generic_visit(node)

    def visit_AugAssign(self, node) -> None:
        self.put("assignment dropped", node, "pass")
        symbol = SYMBOLS.get(type(node.op), "")
        for other in OPERATORS.get(symbol, []):
            self.between("operator", node.target, node.value, f"{symbol}=", [f"{other}="])
        self.generic_visit(node)

    def visit_Delete(self, node) -> None:
        self.put("del dropped", node, "pass")

    def visit_Continue(self, node) -> None:
        self.put("continue to break", node, "break")

    def visit_Break(self, node) -> None:
        self.put("break to continue", node, "continue")

    def visit_Return(self, node) -> None:
        if node.value is not None and not _is_none(node.value):
            self.put("returns None", node.value, "None")
            self.visit(node.value)

    def visit_With(self, node) -> None:
        first, last = node.items[0], node.items[-1]
        if len(node.items) == 1 and "no_grad" in self.source(first.context_expr):
            end = self.end(last.context_expr)
            self.replace("no_grad removed", self.start(node), end, "if True")
        self.generic_visit(node)

    def negate(self, node) -> None:
        if not isinstance(node.test, ast.UnaryOp):  # else the operator goes, below
            self.put("condition negated", node.test, f"not ({self.source(node.test)})")
        self.generic_visit(node)

    visit_If = visit_While = visit_IfExp = negate

    def visit_comprehension(self, node) -> None:
        for test in node.ifs:
            self.put("condition negated", test, f"not ({self.source(test)})")
        self.generic_visit(node)

    # Expressions.
    def visit_Compare(self, node) -> None:
        operands = [node.left, *node.comparators]
        for left, right, operator in zip(operands, operands[1:], node.ops):
            symbol = SYMBOLS[type(operator)]
            self.between("comparison", left, right, symbol, COMPARISONS[symbol])
        self.generic_visit(node)

    def visit_BinOp(self, node) -> None:
        symbol = SYMBOLS.get(type(node.op), "")
        if symbol in OPERATORS and not (_is_text(node.left) or _is_text(node.right)):
            self.between("operator", node.left, node.right, symbol, OPERATORS[symbol])
        self.generic_visit(node)

    def visit_BoolOp(self, node) -> None:
        symbol = SYMBOLS[type(node.op)]
        for left, right in zip(node.values, node.values[1:]):
            self.between("operator", left, right, symbol, OPERATORS[symbol])
        self.generic_visit(node)

    def visit_UnaryOp(self, node) -> None:
        self.put("sign or not dropped", node, self.source(node.operand))
        self.generic_visit(node)

    def visit_Constant(self, node) -> None:
        value = node.value
        if isinstance(value, bool):
            self.put("constant", node, str(not value))
        elif isinstance(value, (int, float)):
            for changed in (value + 1, value - 1):
                self.put("constant", node, f"({changed!r})" if changed < 0 else repr(changed))

    def visit_Slice(self, node) -> None:
        for bound in filter(None, (node.lower, node.upper)):
            self.put("bound dropped", bound, "")
        self.generic_visit(node)

    def visit_Call(self, node) -> None:
        if _is_message(node):
            return
        parts = sorted([*node.args, *node.keywords], key=self.start)
        if isinstance(node.func, ast.Attribute) and not parts:
            self.put("method dropped", node, self.source(node.func.value))
        if len(node.args) > 1 and not any(isinstance(argument, ast.Starred) for argument in node.args[:2]):
            first, second = (self.source(argument) for argument in node.args[:2])
            gap = self.bytes[self.end(node.args[0]) : self.start(node.args[1])].decode()
            start, end = self.start(node.args[0]), self.end(node.args[1])
            self.replace("arguments swapped", start, end, second + gap + first)
        for before, part in zip([None, *parts], parts):
            if isinstance(part, ast.keyword) and part.arg and part.arg not in WORDS_ONLY:
                start = self.start(part) if before is None else self.end(before)
                self.replace("keyword dropped", start, self.end(part), "")
        self.visit(node.func)
        for part in parts:
            if not (isinstance(part, ast.keyword) and part.arg in WORDS_ONLY):
                self.visit(part)


def _is_message(call: ast.Call) -> bool:
    """A call that only tells people something."""
    function = call.func
    while isinstance(function, ast.Attribute):
        function = function.value
    return isinstance(function, ast.Name) and function.id in MESSAGES


def _is_text(node) -> bool:
    return isinstance(node, ast.JoinedStr) or isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_none(node) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
