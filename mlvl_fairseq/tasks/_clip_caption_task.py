"""Caption tasks whose vocabulary is CLIP's, grown by languages."""

from typing import List

from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.data.corpus.vocabularies import vocabulary_folder
from mlvl_fairseq.data.dictionary import ClipDictionary
from mlvl_fairseq.data.text import Vocabulary, clip_vocabulary
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.tasks._caption_task import CaptionTask, CaptionTaskConfig


class ClipCaptionTask(CaptionTask):
    """Base of the tasks that train CLIP models.

    Args:
        cfg, corpus: see :class:`CaptionTask`.
        vocabulary: the languages that CLIP's vocabulary is grown by, in order.

    Raises:
        UserError: the vocabulary has not been prepared.
    """

    trains_image_tower = False
    default_freeze = ""
    prepare_option = "--order"

    def __init__(self, cfg: CaptionTaskConfig, corpus: Corpus, vocabulary: List[str]):
        folder = vocabulary_folder(corpus, vocabulary)
        self._prepare = f"make it with: mlvl-prepare {corpus.folder} {self.prepare_option} {','.join(vocabulary)}"
        if not (folder / "dict.txt").exists():
            raise UserError(f"no vocabulary in {folder}; {self.how_to_prepare()}")
        super().__init__(cfg, corpus, vocabulary, self.load_dictionary(str(folder / "dict.txt")))
        self._keep_vocabulary(Vocabulary.load(folder), folder / "dict.txt")

    @classmethod
    def load_dictionary(cls, filename) -> ClipDictionary:
        """Read ``dict.txt``; this is also what ``fairseq-preprocess --task ...`` uses."""
        return ClipDictionary.load(filename)

    def _keep_vocabulary(self, tokens: Vocabulary, path) -> None:
        """The vocabulary behind the dictionary goes into the checkpoints, so that they can be used on their own."""
        self.state.merge_state_dict({"vocabulary": tokens.additions(clip_vocabulary())})
        if self.dictionary.symbols != tokens.tokens:
            raise DataError("differs from vocab.json beside it; run mlvl-prepare again", path)

    def how_to_prepare(self) -> str:
        return self._prepare

    @property
    def image_feature_dim(self) -> int:
        """Dimension of the image features the corpus was given; 0: it has pictures only."""
        if not self.corpus.has_features("train", "inputs"):
            return 0
        return self.corpus.features("train", "inputs").shape[1]
