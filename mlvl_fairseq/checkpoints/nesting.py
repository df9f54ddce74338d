"""How deep a pickle nests, known before anything is made of it: Python hashes and deletes what is nested a hundred
thousand deep by as many calls of C functions, which end the process without a word.
"""

import pickletools
from typing import BinaryIO, Dict, List

MAX_NESTING = 200  # of containers; options within a checkpoint reach a dozen
_MARK = -1
_CONTAINERS = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "LIST", "DICT", "FROZENSET"}  # made of what is on the stack
_FILLS = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS"}  # put what is on the stack into what is below
_PUTS, _GETS = {"PUT", "BINPUT", "LONG_BINPUT"}, {"GET", "BINGET", "LONG_BINGET"}


class TooDeep(ValueError):
    """The pickle nests containers deeper than `MAX_NESTING`."""


def require_shallow(file: BinaryIO) -> None:
    """Follow one pickle from where a file is to its end, with the depths of values in place of values.

    What a pickle calls (``REDUCE``) counts as deep as its arguments. A list or dictionary that is filled after it was
    put elsewhere counts as it was there: neither can be hashed.

    Raises:
        TooDeep: it nests deeper than `MAX_NESTING`. ValueError, IndexError: it is no pickle.
    """
    stack: List[int] = []
    memo: Dict[int, int] = {}
    for opcode, argument, _ in pickletools.genops(file):
        name = opcode.name
        if name == "MARK":
            stack.append(_MARK)
        elif name in _PUTS:
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in _GETS:
            stack.append(memo.get(argument, 0))
        elif name == "DUP":
            stack.append(stack[-1])
        else:
            taken = _take(stack, opcode.stack_before)
            if name in _CONTAINERS:
                depth = 1 + max(taken, default=0)
            elif name in _FILLS:
                depth = max(taken[0], 1 + max(taken[1:], default=0))
            else:
                depth = max(taken, default=0)
            if depth > MAX_NESTING:
                raise TooDeep(f"nests deeper than {MAX_NESTING} containers")
            stack.extend([depth] * len(opcode.stack_after))


def _take(stack: List[int], before: List) -> List[int]:
    """Pop what an operation takes: so many values, or all to the last mark and what it takes below."""
    fixed = len(before)
    taken: List[int] = []
    if pickletools.markobject in before:
        fixed = before.index(pickletools.markobject)
        while stack[-1] != _MARK:
            taken.append(stack.pop())
        stack.pop()
    below = [stack.pop() for _ in range(fixed)]
    return below[::-1] + taken[::-1]
