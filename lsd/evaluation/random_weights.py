"""Random weights under which a whole network is alive.

timm's initialisation starts residual branches, gates and heads at zero, which would hide most of a network.
"""

import torch
from torch import nn


@torch.no_grad()
def randomize(net: nn.Module, seed: int = 0) -> nn.Module:
    """Draw every parameter and every running statistic of `net` anew, at a scale that keeps signals alive."""
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor: torch.Tensor, mean: float, std: float) -> None:
        tensor.copy_(mean + std * torch.randn(tensor.shape, generator=generator))

    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            normal(parameter, 0, 0.1)
        elif parameter.squeeze().ndim < 2:  # scales of normalisations and of residual branches, gains, temperatures
            normal(parameter, 1, 0.1)
        else:
            normal(parameter, 0, (parameter.numel() / len(parameter)) ** -0.5 * 1.4)
    for name, buffer in net.named_buffers():
        if name.endswith("running_mean"):
            normal(buffer, 0, 0.1)
        elif name.endswith("running_var"):
            buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    return net
