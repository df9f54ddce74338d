"""Adam's betas as options write them."""

from typing import Tuple

from mlvl_fairseq.errors import UserError


def parse_betas(text: str) -> Tuple[float, float]:
    """``"(0.9, 0.999)"`` -> (0.9, 0.999).

    Raises:
        UserError: these are not two numbers of at least 0 and less than 1.
    """
    try:
        first, second = (float(beta) for beta in text.strip("()[] ").split(","))
    except ValueError:
        first = second = -1.0
    if not (0 <= first < 1 and 0 <= second < 1):
        raise UserError(f"betas '{text}' are not two numbers from 0 to below 1, such as '(0.9, 0.999)'")
    return first, second
