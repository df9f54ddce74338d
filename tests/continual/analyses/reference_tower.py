"""CLIP's text tower once more, in float64, one caption at a time, from a state dict: shares no code with ours."""

import math

import torch


def encode(weights, tokens, heads):
    """float64 (feature [embed_dim], attention [layers, heads, T, T]) of one caption that ends with its last token."""
    size = len(tokens)
    x = weights["token_embedding.weight"][tokens] + weights["positional_embedding"][:size]
    attention = []
    for layer in range(sum(name.endswith("attn.in_proj_weight") for name in weights)):
        block = {name.partition(f"resblocks.{layer}.")[2]: w for name, w in weights.items() if f".{layer}." in name}
        q, k, v = _linear(_norm(x, block, "ln_1"), block["attn.in_proj_weight"], block["attn.in_proj_bias"]).chunk(3, 1)
        mixed, rows = [], []
        for q_h, k_h, v_h in zip(q.chunk(heads, 1), k.chunk(heads, 1), v.chunk(heads, 1)):
            logits = q_h @ k_h.T / math.sqrt(q_h.shape[1])
            powers = (logits - logits.max()).exp() * torch.ones(size, size).tril()
            rows.append(powers / powers.sum(1, keepdim=True))
            mixed.append(rows[-1] @ v_h)
        attention.append(torch.stack(rows))
        x = x + _linear(torch.cat(mixed, 1), block["attn.out_proj.weight"], block["attn.out_proj.bias"])
        hidden = _linear(_norm(x, block, "ln_2"), block["mlp.c_fc.weight"], block["mlp.c_fc.bias"])
        hidden = hidden / (1 + (-1.702 * hidden).exp())
        x = x + _linear(hidden, block["mlp.c_proj.weight"], block["mlp.c_proj.bias"])
    last = _norm(x[-1:], {"ln.weight": weights["ln_final.weight"], "ln.bias": weights["ln_final.bias"]}, "ln")
    return (last @ weights["text_projection"])[0], torch.stack(attention)


def double_weights(module):
    """A module's parameters in float64, as new leaves."""
    return {name: p.detach().double().requires_grad_() for name, p in module.named_parameters()}


def _linear(x, weight, bias):
    return x @ weight.T + bias


def _norm(x, weights, name):
    centred = x - x.mean(1, keepdim=True)
    return (
        centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt() * weights[f"{name}.weight"]
        + weights[f"{name}.bias"]
    )
