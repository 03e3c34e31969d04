"""What users meet when other libraries fail."""

from __future__ import annotations

import pytest
import torch

from kiss3d_cli.core.errors import OutOfMemory, from_exception


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("unable to mmap 5 bytes from file <x>: Cannot allocate memory (12)"),
        MemoryError(),
    ],
)
def test_every_library_that_runs_out_of_memory_is_understood(error: BaseException) -> None:
    assert isinstance(from_exception(error), OutOfMemory)


def test_other_faults_stay_faults() -> None:
    assert from_exception(RuntimeError("CUDA error: an illegal memory access was encountered")) is None
