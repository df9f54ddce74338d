"""Folders of sentence-transformers: loaded, and written module by module."""

from pathlib import Path

from mlvl_fairseq.export.base import Stock


def by_sentence_transformers(folder: Path) -> Stock:
    """A folder by ``SentenceTransformer``."""
    import torch
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    kinds = model.modalities

    def encode(inputs):
        return model.encode(list(inputs), show_progress_bar=False)

    def tokens(captions):
        batch = model.preprocess(list(captions))
        return [ids[mask].tolist() for ids, mask in zip(batch["input_ids"], batch["attention_mask"].bool())]

    @torch.no_grad()
    def pixels(batch):
        given = {"pixel_values": torch.from_numpy(batch), "modality": "image"}
        return model(given)["sentence_embedding"].numpy()

    if "image" not in kinds:
        return Stock(encode, tokens=tokens)
    return Stock(encode, pixels, {"its own": encode}, tokens)
