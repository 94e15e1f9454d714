"""What is the machine's fault, and what is not."""

import errno

import httpx
import pytest
import torch

from lsd.errors import ModelError, UndefinedError
from lsd.faults import DEVICE, DISK, MEMORY, NETWORK, machine_fault


def answered(code):
    response = httpx.Response(code, request=httpx.Request("GET", "https://huggingface.co"))
    return httpx.HTTPStatusError("no", request=response.request, response=response)


def caused(cause):
    error = ModelError("The model cannot be had.")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize("error, fault", [
    (RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be"), DEVICE),
    (RuntimeError("CUDA driver error: unknown"), DEVICE),
    (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), DEVICE),
    (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"), DEVICE),
    (RuntimeError("HIP error: invalid device function"), DEVICE),
    (RuntimeError("No CUDA GPUs are available"), DEVICE),
    (RuntimeError("CUDA-capable device(s) is/are busy or unavailable"), DEVICE),
    (torch.AcceleratorError("whatever"), DEVICE),
    (MemoryError(), MEMORY),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), MEMORY),
    (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), MEMORY),
    (RuntimeError("MPS backend out of memory"), MEMORY),
    (OSError(errno.EIO, "Input/output error"), DISK),
    (OSError(errno.ENOSPC, "No space left on device"), DISK),
    (TimeoutError(), NETWORK),
    (ConnectionRefusedError(), NETWORK),
    (OSError(errno.ENETUNREACH, "Network is unreachable"), NETWORK),
    (httpx.ReadTimeout("slow"), NETWORK),
    (type("ReadTimeout", (Exception,), {"__module__": "httpx2"})(), NETWORK),
    (answered(503), NETWORK),
    (answered(429), NETWORK),
    (caused(httpx.ConnectError("no route")), NETWORK),
    (caused(OSError(errno.EIO, "Input/output error")), DISK),
    (answered(404), ""),
    (caused(answered(404)), ""),
    (caused(FileNotFoundError(2, "no such file")), ""),
    (UndefinedError("There is no out of memory here."), ""),
    (RuntimeError("Expected all tensors to be on the same device, but found cuda:0 and cpu!"), ""),
    (RuntimeError("mat1 and mat2 shapes cannot be multiplied (8x512 and 768x10)"), ""),
    (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear"), ""),
    (KeyError("CUDA error"), ""),
])  # fmt: skip
def test_faults(error, fault):
    assert machine_fault(error) == fault
