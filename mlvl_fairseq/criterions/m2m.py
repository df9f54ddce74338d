"""The objective of M2M (Pasi 2026): captions go where a frozen teacher has them in English. Images have no part in
it."""

from typing import Dict

import torch
import torch.nn.functional as F
from fairseq.criterions import register_criterion
from fairseq.dataclass import FairseqDataclass
from torch import Tensor

from mlvl_fairseq.criterions.base import Criterion, Needs, Term
from mlvl_fairseq.errors import UserError


@register_criterion("m2m", dataclass=FairseqDataclass)
class M2mCriterion(Criterion):
    """``|x / |x| - t / |t||^2`` of a caption's vector x and the teacher's vector t of the English caption beside it,
    summed over captions: fairseq divides by their number. A caption without an English partner adds nothing, and counts
    in the number."""

    needs = Needs(
        task={"langs": "languages of captions", "corpus": "corpus folder"},
        model=("fixed_teacher_space",),  # where the teacher's side trained, both would go to one point
        outputs=("text",),
    )
    logs = ("distance",)

    def features(self, model, sample: Dict) -> Dict[str, Tensor]:
        """``text`` and ``english`` [B, D]; in validation, which looks for them, also ``image``."""
        if sample.get("text_features") is None:
            raise UserError(
                "M2M needs the teacher's features of the English captions: run mlvl-prepare CORPUS --teacher TEACHER"
            )
        images = None if self.training else sample["image_features"]
        return model(**sample["net_input"], images=images, english=sample["text_features"])

    def terms(self, model, features: Dict[str, Tensor], sample: Dict) -> Dict[str, Term]:
        counts = sample.get("counts", torch.ones_like(sample["id"], dtype=torch.bool)) & sample["has_english"]
        text, english = (F.normalize(features[side][counts].float(), dim=-1) for side in ("text", "english"))
        return {"distance": Term(1.0, (text - english).pow(2).sum())}
