"""How deep a pickle nests, known before anything is made of it: Python hashes and deletes what is nested a hundred
thousand deep by as many calls of C functions, which end the process without a word.
"""

import pickletools
from typing import Any, BinaryIO, Dict, List

MAX_NESTING = 200  # of containers; options within a checkpoint reach a dozen
_MARK = -1
_CONTAINERS = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "LIST", "DICT", "FROZENSET"}  # made of what is on the stack
_FILLS = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS"}  # put what is on the stack into what is below
_OPERATIONS = {operation.code.encode("latin1"): operation for operation in pickletools.opcodes}
# What nearly all of a checkpoint's operations are, read without pickletools, which takes five times as long: values
# that are not made of others, by the bytes of their argument, or of the number of its bytes; and the memo.
_SIZES = {None: 0, pickletools.TAKEN_FROM_ARGUMENT1: 1, pickletools.TAKEN_FROM_ARGUMENT4U: 4}
_VALUES = {
    code: (_SIZES.get(size, size), size in _SIZES and size is not None)
    for code, operation in _OPERATIONS.items()
    for size in [operation.arg and operation.arg.n]
    if not operation.stack_before and len(operation.stack_after) == 1 and (size in _SIZES or size >= 0)
}
_PUTS, _GETS = {b"q": 1, b"r": 4}, {b"h": 1, b"j": 4}  # bytes of the place
for _code in (b"(", *_GETS):
    del _VALUES[_code]


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
    read = file.read
    while True:
        code = read(1)
        if code in _VALUES:
            size, is_counted = _VALUES[code]
            if is_counted:
                size = int.from_bytes(read(size), "little")
            if size and len(read(size)) < size:
                raise ValueError("it ends within a value")
            stack.append(0)
        elif code in _PUTS:
            memo[int.from_bytes(read(_PUTS[code]), "little")] = stack[-1]
        elif code in _GETS:
            stack.append(memo.get(int.from_bytes(read(_GETS[code]), "little"), 0))
        elif code in _OPERATIONS:
            operation = _OPERATIONS[code]
            _follow(operation, operation.arg and operation.arg.reader(file), stack, memo)
            if operation.name == "STOP":
                return
        else:
            raise ValueError("no such operation")


def _follow(operation: pickletools.OpcodeInfo, argument: Any, stack: List[int], memo: Dict[int, int]) -> None:
    """One of the rarer operations."""
    name = operation.name
    if name == "MARK":
        stack.append(_MARK)
    elif name == "PUT":
        memo[argument] = stack[-1]
    elif name == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif name == "GET":
        stack.append(memo.get(argument, 0))
    elif name == "DUP":
        stack.append(stack[-1])
    else:
        taken = _take(stack, operation.stack_before)
        if name in _CONTAINERS:
            depth = 1 + max(taken, default=0)
        elif name in _FILLS:
            depth = max(taken[0], 1 + max(taken[1:], default=0))
        else:
            depth = max(taken, default=0)
        if depth > MAX_NESTING:
            raise TooDeep(f"nests deeper than {MAX_NESTING} containers")
        stack.extend([depth] * len(operation.stack_after))


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
