"""The image tower for images that are already encoded."""

import torch

from mlvl_fairseq.modules.heads import FeatureHead


def test_head_is_a_normalised_perceptron():
    torch.manual_seed(0)
    head, features = FeatureHead(input_dim=6, width=10, embed_dim=4).eval(), torch.randn(3, 6)
    x = features.double()
    x = (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    x = x @ head.c_fc.weight.double().T + head.c_fc.bias
    x = x * 0.5 * (1 + torch.erf(x / 2**0.5))
    torch.testing.assert_close(head(features).double(), x @ head.proj.weight.double().T, rtol=1e-5, atol=1e-6)


def test_dropout_only_while_training():
    torch.manual_seed(0)
    head, features = FeatureHead(16, 8, 4, dropout=0.5), torch.randn(2, 16)
    assert not torch.equal(head(features), head(features))
    head.eval()
    assert torch.equal(head(features), head(features))


def test_features_take_the_type_of_the_weights():
    head = FeatureHead(6, 10, 4).bfloat16()
    assert head(torch.randn(2, 6)).dtype == torch.bfloat16
