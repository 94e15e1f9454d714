"""A transformer in elementary operations, whose attention can be moved and whose gates can be held still: what tests differ by."""

import math

import torch
from torch import nn

HEADS, WIDTH, SIDE, PATCH = 2, 6, 3, 4
TOKENS = SIDE * SIDE + 1


def _weights(generator, *shape):
    return nn.Parameter(torch.randn(shape, generator=generator) / shape[-1] ** 0.5)


class Block(nn.Module):
    """x + proj(A v), and x + fc2(gelu(fc1 x)) behind it; both of normalised x.

    `fused` has the attention in torch's one call. `bump` is added to the attention weights. `held` is a list that is filled with
    what scales or gates, or, when it is full, read from: then those are constants.
    """

    def __init__(self, generator, fused):
        super().__init__()
        self.fused = fused
        self.qkv, self.proj = _weights(generator, 3 * WIDTH, WIDTH), _weights(generator, WIDTH, WIDTH)
        self.fc1, self.fc2 = _weights(generator, 2 * WIDTH, WIDTH), _weights(generator, WIDTH, 2 * WIDTH)
        self.bias1, self.bias2 = _weights(generator, 2 * WIDTH), _weights(generator, WIDTH)
        self.scale, self.shift = (nn.Parameter(1 + torch.rand(2, WIDTH, generator=generator)) for _ in range(2))
        self.bump, self.held = None, None

    def hold(self, value):
        if self.held is None:
            return value
        if self.held[0] == "write":
            self.held[1].append(value.detach())
            return value
        return self.held[1].pop(0)

    def norm(self, x, i):
        centred = x - x.mean(-1, keepdim=True)
        deviation = self.hold((centred.square().mean(-1, keepdim=True) + 1e-5).sqrt())
        return centred / deviation * self.scale[i] + self.shift[i]

    def forward(self, x):
        normed = self.norm(x, 0) if self.held else nn.functional.layer_norm(x, (WIDTH,), self.scale[0], self.shift[0])
        q, k, v = (normed @ self.qkv.T).unflatten(-1, (3, HEADS, WIDTH // HEADS)).permute(2, 0, 3, 1, 4)
        if self.fused:
            mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        else:
            attention = self.hold((q @ k.transpose(-2, -1) / math.sqrt(WIDTH // HEADS)).softmax(-1))
            attention = attention if self.bump is None else attention + self.bump
            mixed = attention @ v
        x = x + mixed.transpose(1, 2).flatten(2) @ self.proj.T
        normed = self.norm(x, 1) if self.held else nn.functional.layer_norm(x, (WIDTH,), self.scale[1], self.shift[1])
        hidden = normed @ self.fc1.T + self.bias1
        if self.held:
            hidden = hidden * self.hold(0.5 * (1 + torch.erf(hidden / math.sqrt(2))))
        else:
            hidden = nn.functional.gelu(hidden)
        return x + hidden @ self.fc2.T + self.bias2


class Transformer(nn.Module):
    """Two blocks over a class token and 3 × 3 patches of pictures of 12 × 12; reads the class token, or the mean of the patches."""

    def __init__(self, pool="token", fused=False, classes=3):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.num_prefix_tokens, self.embed_dim, self.num_features, self.global_pool = 1, WIDTH, WIDTH, pool
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.patches.weight = _weights(generator, WIDTH, 3, PATCH, PATCH)
        self.patches.bias = _weights(generator, WIDTH)
        self.positions, self.token = _weights(generator, 1, TOKENS, WIDTH), _weights(generator, 1, 1, WIDTH)
        self.blocks = nn.Sequential(*(Block(generator, fused) for _ in range(2)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, classes)
        self.head.weight, self.head.bias = _weights(generator, classes, WIDTH), _weights(generator, classes)

    def embed(self, x):
        patches = self.patches(x).flatten(2).transpose(1, 2)
        return torch.cat([self.token.expand(len(x), -1, -1), patches], 1) + self.positions

    def pooled(self, tokens):
        return tokens[:, 0] if self.global_pool == "token" else tokens[:, 1:].mean(1)

    def forward(self, x):
        last, pooled = self.blocks[-1], self.pooled(self.blocks(self.embed(x)))
        if not last.held:
            return self.head(self.norm(pooled))
        centred = pooled - pooled.mean(-1, keepdim=True)
        return self.head(centred / last.hold((centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()))

    def held_at(self, x):
        """The network as a function of pictures (N, 3, 12, 12), with all that scales or gates as it is at one picture x."""
        noted = []
        self._hold(("write", noted))
        self(x)
        self._hold(None)

        def run(images):
            self._hold(("read", list(noted)))
            logits = self(images)
            self._hold(None)
            return logits

        return run

    def _hold(self, held):
        for block in self.blocks:
            block.held = held
