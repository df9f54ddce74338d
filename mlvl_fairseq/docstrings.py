"""What things say of themselves: lists of names show it, so that no list has to be kept."""

import inspect
import re


def summary(thing) -> str:
    """The first sentence of a docstring (of a module, class or function), or its first line, without markup; '' where
    there is none. A class's is its own, not one that it inherits."""
    own = thing.__dict__.get("__doc__") if inspect.isclass(thing) else thing.__doc__
    first = inspect.cleandoc(own or "").split("\n\n")[0].replace("/\n", "/")  # an address goes on in the next line
    paragraph = " ".join(first.split())
    plain = re.sub(r":\w+:`~?([\w.]+\.)?(\w+)`", r"\2", paragraph).replace("``", "").replace("`", "")
    return re.split(r"(?<=[^.]\.)\s(?=[A-Z])|:$", plain, maxsplit=1)[0].rstrip(".:")
