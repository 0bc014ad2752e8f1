"""How close two computations of the same thing must come.

A product of float32 matrices is summed in the order that its kernel prefers, and the kernel is chosen by processor,
number of threads, shapes and addresses: a loaded tensor stands where its file puts it, a computed one at a multiple of
64 bytes. Bits are therefore equal only where the same program runs twice on the same memory, and wherever values are
copied, saved or loaded without arithmetic. Everything else is compared with `same_numbers`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

# As a share of the largest value. Another order of summation moves the last bits, some 1e-6 after several layers; a
# layer in 16 bits, a wrong epsilon or a lost token moves 1e-3 and more.
FLOAT32 = 2e-5


def same_numbers(found: Tensor, expected: Tensor, tolerance: float = FLOAT32) -> None:
    """Assert equal shape and dtype, and values within `tolerance` times the largest expected one."""
    largest = expected.detach().abs().amax().item() if expected.numel() else 0.0
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * largest)


def same_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Assert the same names, dtypes and bits: for what is copied, saved or loaded."""
    assert found.keys() == expected.keys(), sorted(found.keys() ^ expected.keys())
    different = [k for k in expected if found[k].dtype != expected[k].dtype or not torch.equal(found[k], expected[k])]
    assert not different, different
