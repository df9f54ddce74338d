"""How far attention drifts while later languages are learned: the attention KL of Yang et al. 2024.

For an earlier step t: the attention of the end-of-text query on every token of a training caption of language t,
averaged over layers and heads, by the model after step t (p_t) and by the final model (p_final), both on the tokens of
step t's vocabulary. Reported is the mean over all tokens of all captions of ``p_final * log(p_final / p_t)``.
"""

from typing import Dict, List, Optional, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from mlvl_fairseq.continual.analyses.inputs import load_text_tower, sample_rows
from mlvl_fairseq.data.corpus import Corpus
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.inference.encoder import Encoder
from mlvl_fairseq.modules.towers.clip_text import CLIPTextTower
from mlvl_fairseq.runs.folder import RunFolder
from mlvl_fairseq.runs.result_folder import result_folder

BATCH_SIZE = 256


def attention_drift(
    run: RunFolder, max_captions: Optional[int] = None, seed: int = 1, device: str = "cpu", **frozen
) -> Dict[str, Dict[str, float]]:
    """Attention KL of every language but the last; finished ones are kept in ``<run>/analysis/attention``.

    Args:
        run: a finished sequence of at least two languages.
        max_captions: captions a language, drawn with `seed`; None: all.
        device: where to compute.
        frozen: where the checkpoints' frozen weights are, if they were moved; as for `Encoder.load`.

    Returns:
        language -> ``kl`` (nats), ``tokens`` and ``captions`` it is the mean of.

    Raises:
        UserError: no such run, a step is not finished, or the method adds parts (adapters, prompts) to the tower.
    """
    if not run.protocol.in_order or len(run.languages) < 2:
        raise UserError(f"{run.folder}: attention drifts along a sequence of at least two languages; this is none")
    corpus = Corpus(run.corpus)
    final = load_text_tower(run.final_checkpoint(), run.languages, device, **frozen)

    def drift(step: int, lang: str) -> Dict[str, float]:
        captions = corpus.captions("train", lang)
        usable = corpus.usable("train", lang)
        chosen = [captions[row] for row in usable[sample_rows(len(usable), max_captions, seed)]]
        earlier = load_text_tower(run.checkpoint(step), run.languages[: step + 1], device, **frozen)
        return drift_of_captions(earlier, final, chosen, f"{run.name} {lang}")

    settings = {"model": final.fingerprint, "max_captions": max_captions, "seed": seed}
    with result_folder(run.folder / "analysis" / "attention", settings) as results:
        return {
            lang: results.once(run.steps[step].path.name, lambda step=step, lang=lang: drift(step, lang))
            for step, lang in enumerate(run.languages[:-1])
        }


def drift_of_captions(
    earlier: Encoder, final: Encoder, captions: Sequence[str], title: Optional[str] = None
) -> Dict[str, float]:
    """``kl``, ``tokens`` and ``captions`` of one language; `title` is that of the progress bar, None shows none."""
    tokens = sorted(earlier.tokenize(captions), key=len)  # little padding
    total, count = 0.0, 0
    for start in tqdm(range(0, len(tokens), BATCH_SIZE), desc=title, disable=title is None, unit=" batches"):
        batch = tokens[start : start + BATCH_SIZE]
        after, before = (
            eos_attention(encoder.network.text, batch, earlier.tokenizer.eos) for encoder in (final, earlier)
        )
        elements = divergence_elements(after, before)
        total, count = total + float(elements.sum()), count + len(elements)
    return {"kl": total / count, "tokens": count, "captions": len(tokens)}


def divergence_elements(after: List[Tensor], before: List[Tensor]) -> Tensor:
    """float64 [all tokens]: ``p * log(p / q)`` for every element of two lists of attention rows."""
    p, q = (torch.cat([row.double().flatten() for row in rows]) for rows in (after, before))
    return torch.xlogy(p, p / q)


@torch.no_grad()
def eos_attention(tower: CLIPTextTower, tokens: List[List[int]], padding: int) -> List[Tensor]:
    """Attention of each caption's last token on all its tokens, averaged over layers and heads.

    The fused kernels that the tower runs on do not give weights away, so the one query's are computed beside them.

    Args:
        tower: with plain transformer blocks, causal.
        tokens: ids of each caption, up to its end of text. padding: the id behind it.

    Returns:
        for each caption float32 [its tokens], which sum to 1.
    """
    device = tower.positional_embedding.device
    ids = pad_sequence([torch.tensor(row) for row in tokens], batch_first=True, padding_value=padding).to(device)
    ends = torch.tensor([len(row) - 1 for row in tokens], device=device)
    rows = torch.arange(len(ends), device=device)
    behind = torch.arange(ids.shape[1], device=device) > ends[:, None]
    x = tower.token_embedding(ids) + tower.positional_embedding[: ids.shape[1]]
    mean = torch.zeros_like(ids, dtype=torch.float32)
    for block in tower.transformer.resblocks:
        query, key, _ = block.attn.project(block.ln_1(block.adapter1(x)))
        logits = torch.einsum("bhd,bhtd->bht", query[rows, :, ends], key) / query.shape[-1] ** 0.5
        weights = logits.masked_fill(behind[:, None], -torch.inf).softmax(dim=-1)
        mean += weights.mean(dim=1) / len(tower.transformer.resblocks)
        x = block(x)
    return [row[: end + 1].cpu() for row, end in zip(mean, ends)]
