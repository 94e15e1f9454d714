"""How exactly a GPU calculates, and whether it does so the same way twice: a choice of the process, stated in every record.

Tensor cores multiply TF32 numbers (ten bits of fraction in place of 23) some eight times as fast as fp32 ones. torch lets
convolutions have them and matrix products not, unless it is told; here nothing is left to that. Saliency maps and their
checks are made in fp32. A gradient ascent, whose views are noisier than any rounding, may have TF32, and the command lines
that make pictures by the thousand take it; or bfloat16, which halves what has to be moved as well.

On a CPU every setting is fp32, and every run the same.
"""

import contextlib
import os
from collections.abc import Iterator

import torch
from torch import Tensor

from lsd.errors import UndefinedError

KINDS = ("fp32", "tf32", "bf16")
HALVES = (torch.bfloat16, torch.float16)

_half = False


def choose(kind: str, *, deterministic: bool = False) -> None:
    """Set the process's precision on GPUs.

    Args:
        kind: "fp32"; "tf32" for convolutions and matrix products alike; or "bf16", under which the networks of an ascent run in
            bfloat16 (`halves`), and all else is as under "tf32".
        deterministic: take the deterministic kernels that there are, and warn of what has none (the backward passes of
            interpolation and of reflection padding; views are sampled by gathering, whose backward pass has one). Call it
            before anything runs on the GPU.

    Raises:
        UndefinedError: another kind.
    """
    if kind not in KINDS:
        raise UndefinedError(f"There is no precision “{kind}”; choose one of {', '.join(KINDS)}.")
    global _half
    _half = kind == "bf16"
    torch.set_float32_matmul_precision("highest" if kind == "fp32" else "high")
    torch.backends.cudnn.allow_tf32 = kind != "fp32"
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # NVIDIA's condition for the same sums twice
    if deterministic != is_deterministic():  # torch imports its compiler for this, which takes a second
        torch.use_deterministic_algorithms(deterministic, warn_only=True)


def to_environment(kind: str, *, deterministic: bool) -> None:
    """Have the processes that this one starts, here or on a Ray cluster, `choose` the same when they ask `from_environment`."""
    os.environ |= {"LSD_PRECISION": kind, "LSD_DETERMINISTIC": str(int(deterministic))}


def from_environment() -> None:
    """`choose` what the environment says, if it says anything."""
    if "LSD_PRECISION" in os.environ:
        choose(os.environ["LSD_PRECISION"], deterministic=os.environ.get("LSD_DETERMINISTIC") == "1")


def chosen() -> str:
    """The kind that is set."""
    return "bf16" if _half else "tf32" if torch.backends.cudnn.allow_tf32 else "fp32"


def halves(device: torch.device) -> bool:
    """Whether an ascent on `device` runs its networks in bfloat16, which CPUs are slow at."""
    return _half and device.type == "cuda"


def is_deterministic() -> bool:
    """Whether deterministic kernels were asked for."""
    return torch.are_deterministic_algorithms_enabled()


def at_least_fp32(values: Tensor) -> Tensor:
    """Numbers of half the precision as float32, all others as they are."""
    return values.float() if values.dtype in HALVES else values


@contextlib.contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Within the block torch calculates on `device` in the types that its numbers have, and gradients can be had, whatever the
    caller is in: no autocast, which would round them without a word, and no inference mode, under which there are none."""
    with torch.inference_mode(False), torch.autocast(device.type, enabled=False):
        yield


def undisturbed_steps(steps: Iterator, device: torch.device) -> Iterator:
    """`undisturbed` around each step of a generator, and not around what its reader does between them."""
    with contextlib.closing(steps):
        while True:
            with undisturbed(device):
                try:
                    found = next(steps)
                except StopIteration:
                    return
            yield found


choose("fp32")  # before torch's own mixture has been used
