"""Whether an error is the machine's: its device, memory, disk or network gave up, and the same work may do later or elsewhere."""

import errno
import re

from lsd.errors import LSDError
from lsd.memory import is_out_of_memory

DEVICE, MEMORY, DISK, NETWORK = "device", "memory", "disk", "network"

# How torch and the drivers below it begin what they say of a device, whatever the exception's type.
_DEVICE = re.compile(
    r"\b(cuda|hip|rocm|mps|xpu|nccl|nvml|cudnn|cublas|cusolver|cusparse|cufft|miopen|rocblas|mkldnn)\w*"
    r"( runtime| driver| initialization| kernel)? (error|failure|failed)"
    r"|\b(cudnn|cublas|cusolver|cusparse|cufft|miopen|rocblas)_status_"
    r"|device-side assert|illegal memory access|unspecified launch failure|uncorrectable ecc"
    r"|no (nvidia|cuda|hip)[\w-]* (driver|gpus?|device)|no \w+-capable device|device\S* .{0,20}(busy or unavailable|lost)",
    re.IGNORECASE,
)
# A library that says that it cannot do something at all says so on every device.
_CANNOT = re.compile(r"_status_(not_supported|bad_param|invalid_value|arch_mismatch)", re.IGNORECASE)
_TRANSPORTS = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "aiohttp", "botocore", "aiobotocore")
_NETWORK = tuple(
    getattr(errno, name)
    for name in (
        *("ENETDOWN", "ENETUNREACH", "ENETRESET", "ECONNABORTED", "ECONNRESET", "ENOTCONN", "ETIMEDOUT"),
        *("ECONNREFUSED", "EHOSTDOWN", "EHOSTUNREACH"),
    )
    if hasattr(errno, name)
)
_NAMED_WRONGLY = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError)


def machine_fault(error: BaseException) -> str:
    """`DEVICE`, `MEMORY`, `DISK` or `NETWORK` if that is what failed; "" if the work itself is wrong, and would be anywhere."""
    inner: BaseException | None = error
    while inner is not None:
        if found := _fault(inner, inner is error):
            return found
        inner = inner.__cause__
    return ""


def is_network(error: BaseException | None) -> bool:
    """Whether somebody at the other end of a connection did not answer, or could not for now."""
    code = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(code, int):
        return code in (408, 425, 429) or code >= 500
    if isinstance(error, ConnectionError | TimeoutError) or getattr(error, "errno", None) in _NETWORK:
        return True
    # A client's own errors, but for what it says of its use; httpx and botocore have bases that are no OSError.
    modules = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return bool(modules & set(_TRANSPORTS)) and not isinstance(error, ValueError | TypeError)


def _fault(error: BaseException, outermost: bool) -> str:
    if is_out_of_memory(error):
        return MEMORY
    names = {kind.__name__ for kind in type(error).__mro__}
    text = str(error)
    if "AcceleratorError" in names or (isinstance(error, RuntimeError) and _DEVICE.search(text)):
        return "" if _CANNOT.search(text) else DEVICE
    if isinstance(error, LSDError):
        return ""
    if is_network(error):
        return NETWORK
    if isinstance(error, OSError) and getattr(error, "response", None) is None:
        # What an error of ours was made from can be a name that leads nowhere: that is so on every machine.
        return DISK if outermost or not isinstance(error, _NAMED_WRONGLY) else ""
    return ""
