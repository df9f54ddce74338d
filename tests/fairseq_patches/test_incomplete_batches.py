import numpy as np
import pytest
from fairseq.data import data_utils


@pytest.mark.parametrize("size, expected", [(20, [8, 8, 4]), (16, [8, 8]), (5, [5])])
@pytest.mark.parametrize("as_vector", [False, True])
def test_last_batch_is_kept(size, expected, as_vector):
    lengths = np.full(size, 3)
    order = np.arange(size)[::-1].copy()
    batches = data_utils.batch_by_size(
        order,
        None if as_vector else lengths.__getitem__,
        num_tokens_vec=lengths if as_vector else None,
        max_sentences=10,
        required_batch_size_multiple=8,
    )
    assert [len(batch) for batch in batches] == expected
    assert [index for batch in batches for index in batch] == order.tolist()
