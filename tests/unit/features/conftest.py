"""What the tests of feature visualization share: the small trained models that ship with the package."""

from collections.abc import Callable

import pytest

from lsd.models import ImageModel, get_model, load_model


@pytest.fixture(scope="session")
def demo() -> Callable[[str], ImageModel]:
    """`demo(name)`: the trained model demo:NAME."""
    return lambda name: get_model(f"demo:{name}").cpu()


@pytest.fixture(scope="session")
def precise() -> ImageModel:
    """demo:resnet in double precision."""
    return load_model("demo:resnet", device="cpu").double()
