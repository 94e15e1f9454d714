"""Values that no control of a page sends, and texts that nobody means well with."""

from benchmarks.hostile.page import file_data

MARKUP = "<script>window.hostile=1</script><img src=x onerror=window.hostile=1>\"'><b>"
NUMBERS = (float("nan"), float("inf"), -float("inf"), 1e308, -1, 2**63, 10**400, 0.5)
NESTED: list = []
for _ in range(200):
    NESTED = [NESTED]

TEXTS = (
    "", " ", "\x00", "\ud800", "\u202etxt.exe", "x" * 100_000, "1e999", "NaN", "²", "-0", "%00%ff%zz", "../../../etc/passwd",
    "a/../../b", "__class__", "{0.__class__}", "'; DROP TABLE rows; --", "\n\r\nSet-Cookie: a=b", MARKUP,
)  # fmt: skip
MODELS = (
    " local-dir:/etc", "local-dir:/etc/passwd", "local_dir:/", "hf-hub:../..", "hf-hub:..%2f..", "hf-hub:a/b@../../c",
    "demo:../../lsd",
    "https://huggingface.co/../../etc", "file:///etc/passwd", "hf-hub:owner/name", "../models", "resnet18.\x00", "timm/../x.y",
)  # fmt: skip


def values(secrets: str, elsewhere: str) -> list:
    """One of each kind.

    Args:
        secrets: a file that was never uploaded.
        elsewhere: an address within the page's network.
    """
    files = (
        file_data(secrets), file_data("/etc/passwd"), file_data(elsewhere), file_data("", url=elsewhere),
        file_data("x.png", url=elsewhere, is_stream=True), {"path": secrets}, file_data("../" * 30 + "etc/passwd"),
        file_data("\x00"), file_data("/dev/zero"), {"url": elsewhere, "meta": {"_type": "gradio.FileData"}},
    )  # fmt: skip
    shapes = (
        None,
        True,
        [],
        {},
        [None],
        [[]],
        NESTED,
        {"value": {}},
        {"__type__": "update"},
        [MARKUP] * 5000,
        {"a": {"b": [1]}},
    )
    return [*shapes, *NUMBERS, *TEXTS, *MODELS, *files]
