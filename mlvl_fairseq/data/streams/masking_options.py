"""How many tokens of the texts of streams are masked: options of a task."""

from dataclasses import dataclass, field

from mlvl_fairseq.data.masking import Masking
from mlvl_fairseq.data.text import Tokenizer
from mlvl_fairseq.data.text.sentencepiece import MASK
from mlvl_fairseq.errors import UserError


@dataclass
class MaskingOptions:
    mask_probability: float = field(
        default=0.4, metadata={"help": "share of a text's tokens that is masked, <s> and </s> counted"}
    )
    max_masks: int = field(default=12, metadata={"help": "mask at most so many tokens of a caption", "least": 1})
    mask_span_probability: float = field(
        default=0.2, metadata={"help": "probability that several tokens in a row are masked where one would be"}
    )
    longest_mask_span: int = field(default=3, metadata={"help": "longest row of such tokens", "least": 2})
    mask_special: bool = field(
        default=False, metadata={"help": "mask </s>, too, and let special tokens stand in for others, as published"}
    )


def masking_of(options: MaskingOptions, tokenizer: Tokenizer) -> Masking:
    """What options say; they can be a task's. Raises UserError: the tokenizer has no mask, or options are none."""
    dictionary = tokenizer.dictionary
    mask = dictionary.index(MASK)
    if mask == dictionary.unk():
        raise UserError(f"the tokenizer has no {MASK}: give an XLM-R folder (--tokenizer-folder)")
    return Masking(
        mask,
        len(tokenizer),
        (tokenizer.bos, tokenizer.eos, tokenizer.pad, mask),
        options.mask_probability,
        options.max_masks,
        options.mask_span_probability,
        options.longest_mask_span,
        options.mask_special,
    )
