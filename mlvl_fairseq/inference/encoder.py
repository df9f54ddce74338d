"""A trained or official CLIP, ready to encode captions and images: the plugin's Python interface.

encoder = Encoder.load("checkpoint_best.pt")
encoder.encode_texts(["ein roter Ball"]) @ encoder.encode_features(features).T
"""

from dataclasses import dataclass
from typing import List, Optional, Sequence

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from mlvl_fairseq.checkpoints.clip_weights import read_clip_weights
from mlvl_fairseq.checkpoints.plugin_checkpoint import PluginState, is_plugin_checkpoint, read_plugin_state
from mlvl_fairseq.data.feature_extraction import collate_images
from mlvl_fairseq.data.images import ImageDataset, clip_transform
from mlvl_fairseq.data.tokenizer import ClipTokenizer, clip_vocabulary
from mlvl_fairseq.errors import DataError, UserError
from mlvl_fairseq.inference.run_folder import RunFolder
from mlvl_fairseq.modules.clip_text import CLIPTextTower
from mlvl_fairseq.modules.feature_head import FeatureHead
from mlvl_fairseq.modules.text_adapters import TextAdapter


@dataclass
class Encoder:
    """Towers, tokenizer and origin of a model.

    Attributes:
        text: text tower. vision: image tower, None where the checkpoint and its origin have none.
        head: head on given image features, None where there is none.
        tokenizer: cuts captions as training did.
        fingerprint: sha256 of the weights; two encoders with the same one give the same features.
        languages: the languages learned in sequence; empty for a model that was not trained so.
        source: the file or folder it was read from.
        adapter: what languages add to the text tower, None: nothing.
    """

    text: CLIPTextTower
    vision: Optional[nn.Module]
    head: Optional[FeatureHead]
    tokenizer: ClipTokenizer
    fingerprint: str
    languages: List[str]
    source: str
    adapter: Optional[TextAdapter] = None

    @classmethod
    def load(cls, path, init_from=None, device: str = "cpu") -> "Encoder":
        """Read an official CLIP file, a Hugging Face folder, or a checkpoint of this plugin.

        Args:
            path: file or folder.
            init_from: where a checkpoint's frozen weights are, if they were moved since training.
            device: where to compute.

        Raises:
            DataError: the file is missing, damaged, refused, or of no known format.
            UserError: frozen weights differ, or it is the folder of a run, which holds several models.
        """
        RunFolder.refuse(path)
        state = read_plugin_state(path, init_from) if is_plugin_checkpoint(path) else None
        weights = state.weights if state else read_clip_weights(path)
        additions = state.vocabulary if state else None
        vocabulary = clip_vocabulary().with_additions(additions) if additions else clip_vocabulary()
        if len(vocabulary) != weights.text_config.vocab_size:
            raise DataError(
                f"has {weights.text_config.vocab_size} token embeddings for a vocabulary of {len(vocabulary)}", path
            )
        encoder = cls(
            text=weights.text_tower(),
            vision=weights.vision_tower() if weights.vision_config else None,
            head=_build_head(state),
            tokenizer=ClipTokenizer(vocabulary),
            fingerprint=state.fingerprint if state else weights.fingerprint,
            languages=state.languages if state else [],
            source=str(path),
            adapter=state.adapter if state else None,
        )
        return encoder._to(device)

    def _to(self, device: str) -> "Encoder":
        for module in (self.text, self.adapter, self.vision, self.head):
            if module is not None:
                module.to(device).eval()
        return self

    @property
    def device(self) -> torch.device:
        return self.text.positional_embedding.device

    @property
    def embed_dim(self) -> int:
        return self.text.text_projection.shape[1]

    @property
    def max_length(self) -> int:
        return self.text.context_length

    def tokenize(self, captions: Sequence[str]) -> List[List[int]]:
        """Token ids with BOS and EOS; longer captions are cut to the context length and keep their EOS."""
        keep, bos, eos = self.max_length - 2, self.tokenizer.bos, self.tokenizer.eos
        return [[bos, *ids[:keep], eos] for ids in self.tokenizer.encode_batch(captions)]

    @torch.no_grad()
    def encode_texts(
        self,
        captions: Sequence[str],
        lang: Optional[str] = None,
        batch_size: int = 256,
        progress: Optional[str] = None,
    ) -> np.ndarray:
        """Encode captions of one language.

        Args:
            captions: texts.
            lang: their language; models with an adapter for each language need it, and do without adapter where it
                is unknown or was not learned.
            batch_size: captions a batch.
            progress: title of a progress bar; None shows none.

        Returns:
            float32 [captions, embed_dim], not normalised.
        """
        tokens = self.tokenize(captions)
        features = np.empty((len(captions), self.embed_dim), np.float32)
        order = np.argsort([len(ids) for ids in tokens], kind="stable")  # little padding: neighbours are alike
        starts = range(0, len(order), batch_size)
        for start in tqdm(starts, desc=progress, disable=progress is None, unit=" batches"):
            rows = order[start : start + batch_size]
            features[rows] = self.text_features([tokens[row] for row in rows], lang).cpu().numpy()
        return features

    def text_features(self, tokens: List[List[int]], lang: Optional[str] = None) -> torch.Tensor:
        """One batch of :meth:`tokenize`'s lists to features [B, embed_dim] on the encoder's device, differentiable."""
        lengths = torch.tensor([len(ids) for ids in tokens])
        batch = torch.full((len(tokens), int(lengths.max())), self.tokenizer.eos)
        for row, ids in zip(batch, tokens):
            row[: len(ids)] = torch.tensor(ids)
        batch, ends = batch.to(self.device), (lengths - 1).to(self.device)
        if self.adapter is None:
            return self.text(batch, ends)
        return self.adapter(self.text, batch, ends, lang).features

    @torch.no_grad()
    def encode_images(self, images: torch.Tensor) -> np.ndarray:
        """Pictures [B, 3, H, W] to float32 [B, embed_dim], not normalised.

        Raises:
            UserError: the model has no image tower.
        """
        if self.vision is None:
            raise UserError(f"{self.source} has no image tower; give image features instead of images")
        return self.vision(images.to(self.device)).cpu().numpy()

    def encode_image_files(self, root, names: Sequence[str], batch_size: int = 64, num_workers: int = 0) -> np.ndarray:
        """Image files under `root` to float32 [names, embed_dim], with CLIP's preprocessing and a progress bar.

        Raises:
            UserError: the model has no image tower. DataError: a file cannot be read.
        """
        if self.vision is None:
            raise UserError(f"{self.source} has no image tower; give image features instead of images")
        images = ImageDataset(root, names, clip_transform(self.vision.image_size))
        batches = DataLoader(images, batch_size, num_workers=num_workers, collate_fn=collate_images)
        features = []
        for batch in tqdm(batches, desc="images", unit=" batches"):
            for problem in filter(None, batch.problems):
                raise DataError(problem)
            features.append(self.encode_images(batch.pixels))
        return np.concatenate(features)

    @torch.no_grad()
    def encode_features(self, features, batch_size: int = 4096) -> np.ndarray:
        """Given image features [n, dims] to float32 [n, embed_dim]: through the model's head; a model without head
        takes features of its own space as they are.

        Raises:
            UserError: the dimension fits neither.
        """
        expected = self.head.ln_pre.normalized_shape[0] if self.head else self.embed_dim
        if features.shape[1] != expected:
            raise UserError(f"{self.source} takes image features of {expected} dimensions, not {features.shape[1]}")
        if self.head is None:
            return np.asarray(features, np.float32)
        starts = range(0, len(features), batch_size)
        parts = (np.asarray(features[start : start + batch_size], np.float32) for start in starts)
        return np.concatenate([self.head(torch.from_numpy(part).to(self.device)).cpu().numpy() for part in parts])


def _build_head(state: Optional[PluginState]) -> Optional[FeatureHead]:
    if state is None or not state.head:
        return None
    width, input_dim = state.head["c_fc.weight"].shape
    head = FeatureHead(input_dim, width, state.head["proj.weight"].shape[0])
    head.load_state_dict(state.head)
    return head
