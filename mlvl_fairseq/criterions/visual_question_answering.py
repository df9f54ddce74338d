"""What answering questions costs: the negative log-likelihood of their answers, generated or as classes."""

from fairseq.criterions import register_criterion
from fairseq.dataclass import FairseqDataclass

from mlvl_fairseq.criterions.base import Criterion, Needs, Term


@register_criterion("visual_question_answering", dataclass=FairseqDataclass)
class VisualQuestionAnsweringCriterion(Criterion):
    """Mean over questions of the sum of the negative log-likelihoods of their answers, weighted, in nats (CCLM, section
    4.2, as ALBEF); an answer that is generated costs the sum over its tokens. Validation also logs the accuracy, in %:
    how often the chosen answer is the best one."""

    needs = Needs(task={"answers": "answers to questions"}, batch=("answer_weights", "answer_of", "gold"))
    logs = ("accuracy",)

    def features(self, model, sample):
        """``answers`` [A], log-likelihoods; in validation also ``chosen`` int64 [B], places of answers in the list."""
        found = model(**sample["net_input"])
        if "logits" in found:
            logits = found["logits"].float()
            answers = logits.log_softmax(1)[sample["answer_of"], sample["answer_ids"]]
            return {"answers": answers, "chosen": logits.argmax(1)}
        return found if self.training else {**found, "chosen": self.task.chosen(model, sample["net_input"])}

    def terms(self, model, features, sample):
        costs = -sample["answer_weights"] * features["answers"].float()
        terms = {}
        counts = sample.get("counts")
        if counts is not None:
            costs = costs * counts[sample["answer_of"]]
        terms["likelihood"] = Term(1.0, costs.sum())
        if "chosen" in features:
            right = 100.0 * (features["chosen"] == sample["gold"])
            terms["accuracy"] = Term(0.0, (right if counts is None else right * counts).sum())
        return terms

    def logged(self, features, terms):
        return {"accuracy": terms["accuracy"].value} if "accuracy" in terms else {}
