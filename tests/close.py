"""How close two computations of the same numbers must be.

A float32 matrix product is summed in an order that depends on the processor, the number of threads, the shapes and the
addresses: a loaded tensor is aligned as its file happens to be, a computed one to 64 bytes. So assert equal bits only
where values are copied, saved or loaded, or where the same program runs twice on the same memory; compare everything
else with `same_numbers`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

# Relative to the largest value. Another order of summation changes about 3e-6 after a whole tiny model (measured over
# SSE4, AVX2 and AVX512); a layer in 16 bits, a wrong epsilon or a lost token changes 1e-3 and more.
FLOAT32 = 2e-5


def same_numbers(found: Tensor, expected: Tensor, tolerance: float = FLOAT32) -> None:
    """Assert equal shape and dtype, and values within `tolerance` times the largest expected one."""
    largest = expected.detach().abs().amax().item() if expected.numel() else 0.0
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * largest)


def same_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Assert equal names, dtypes and bits, for tensors that were copied, saved or loaded."""
    assert found.keys() == expected.keys(), sorted(found.keys() ^ expected.keys())
    different = [k for k in expected if found[k].dtype != expected[k].dtype or not torch.equal(found[k], expected[k])]
    assert not different, different
