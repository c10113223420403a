"""Networks over images, volumes and signals."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .torch_models import numbers


class Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.shortcut(x))


class Inverted(nn.Module):
    """MobileNet: expansion, depthwise convolution, squeeze and excitation, projection."""

    def __init__(self, width: int, activation: type[nn.Module], excite: bool) -> None:
        super().__init__()
        inner = 3 * width
        self.before = nn.Sequential(nn.Conv2d(width, inner, 1), nn.BatchNorm2d(inner), activation())
        self.depthwise = nn.Sequential(
            nn.Conv2d(inner, inner, 3, 1, 1, groups=inner, bias=False), nn.BatchNorm2d(inner), activation()
        )
        squeeze = (nn.AdaptiveAvgPool2d(1), nn.Conv2d(inner, 6, 1), nn.ReLU(), nn.Conv2d(6, inner, 1), nn.Hardsigmoid())
        self.excite = nn.Sequential(*squeeze) if excite else None
        self.after = nn.Sequential(nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        h = self.depthwise(self.before(x))
        if self.excite is not None:
            h = h * self.excite(h)
        return x + self.after(h)


class Shuffle(nn.Module):
    """ShuffleNet: grouped 1x1 convolutions, channels shuffled between them."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.first = nn.Conv2d(width, width, 1, groups=groups)
        self.depthwise = nn.Conv2d(width, width, 3, 1, 1, groups=width)
        self.second = nn.Conv2d(width, width, 1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.relu(self.first(x))
        n, c, height, width = h.shape
        h = h.view(n, self.groups, c // self.groups, height, width).transpose(1, 2).reshape(n, c, height, width)
        return functional.relu(x + self.second(self.depthwise(h)))


class Dense(nn.Module):
    """DenseNet: every layer sees all layers before it."""

    def __init__(self, inputs: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(inputs + i * growth), nn.ReLU(), nn.Conv2d(inputs + i * growth, growth, 3, 1, 1)
            )
            for i in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], dim=1)
        return x


class UNet(nn.Module):
    """One level down by pooling, up again by a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.middle = nn.Sequential(nn.Conv2d(8, 16, 3, 1, 1), nn.ReLU())
        self.up = nn.ConvTranspose2d(16, 8, 2, 2)
        self.end = nn.Sequential(nn.Conv2d(16, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        wide = self.down(x)
        return self.end(torch.cat([wide, self.up(self.middle(functional.max_pool2d(wide, 2)))], dim=1))


class Decoder(nn.Module):
    """Up by interpolation."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 16, 3, 2, 1)
        self.up = nn.Conv2d(16, 3, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.interpolate(functional.silu(self.down(x)), scale_factor=2.0, mode="bilinear")
        return torch.sigmoid(self.up(h))


class Variational(nn.Module):
    """The mean path of a variational autoencoder, which returns three outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh())
        self.mean, self.spread = nn.Linear(32, 6), nn.Linear(32, 6)
        self.decode = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 64), nn.Sigmoid())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.encode(x)
        mean = self.mean(h)
        return self.decode(mean), mean, self.spread(h).exp()


class Causal(nn.Module):
    """A temporal convolutional network: dilated, padded on one side."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(8, 8, 3, dilation=2**i) for i in range(3))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = x + functional.gelu(layer(functional.pad(x, (2 * 2**i, 0))))
        return self.head(x.transpose(1, 2))


class Pyramid(nn.Module):
    """A detection head on two scales: boxes and scores."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.LeakyReLU(0.1), nn.Conv2d(8, 16, 3, 2, 1))
        self.deep = nn.Conv2d(16, 16, 3, 2, 1)
        self.lateral = nn.Conv2d(16, 16, 1)
        self.boxes, self.scores = nn.Conv2d(16, 4, 1), nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.stem(x)
        deep = self.deep(fine)
        fine = self.lateral(fine) + functional.interpolate(deep, scale_factor=2.0, mode="nearest")
        levels = (fine, deep)
        boxes = torch.cat([self.boxes(level).flatten(2) for level in levels], dim=2).transpose(1, 2)
        scores = torch.cat([self.scores(level).flatten(2) for level in levels], dim=2).transpose(1, 2)
        return boxes.exp(), scores.sigmoid()


class Best(nn.Module):
    """A detection head that keeps the best boxes: TopK and Gather."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1), nn.ReLU())
        self.boxes, self.scores = nn.Conv2d(12, 4, 1), nn.Conv2d(12, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.body(x)
        boxes, scores = self.boxes(h).flatten(2), self.scores(h).flatten(1)
        best, places = scores.topk(5)
        return boxes.gather(2, places[:, None].expand(-1, 4, -1)), best


class PatchAttention(nn.Module):
    """A vision transformer: patches, a class token, learnt positions."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 24, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 24))
        self.positions = nn.Parameter(torch.randn(1, 17, 24))
        layer = nn.TransformerEncoderLayer(24, 3, 48, activation="gelu", batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(24, 7)

    def forward(self, x: Tensor) -> Tensor:
        h = self.patches(x).flatten(2).transpose(1, 2)
        h = torch.cat([self.token.expand(h.shape[0], -1, -1), h], dim=1) + self.positions
        return self.head(self.body(h)[:, 0])


class Mixer(nn.Module):
    """MLP-Mixer: across patches, then across channels."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(2))
        self.across = nn.Sequential(nn.Linear(16, 24), nn.GELU(), nn.Linear(24, 16))
        self.within = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.patches(x).flatten(2).transpose(1, 2)
        h = h + self.across(self.norms[0](h).transpose(1, 2)).transpose(1, 2)
        h = h + self.within(self.norms[1](h))
        return self.head(h.mean(dim=1))


def _classifier(*body: nn.Module, width: int) -> nn.Module:
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 6))


def _normalised(norm: nn.Module) -> nn.Module:
    return _classifier(nn.Conv2d(3, 12, 3, 1, 1), norm, nn.ReLU(), nn.Conv2d(12, 12, 3, 1, 1), width=12)


IMAGE = numbers(2, 3, 16, 16)

NETWORKS = {
    "CNN": lambda: (
        _classifier(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.ReLU(), width=16),
        IMAGE,
    ),
    "ResNet": lambda: (_classifier(nn.Conv2d(3, 8, 3, 1, 1), Residual(8, 8), Residual(8, 16, 2), width=16), IMAGE),
    "MobileNetV2": lambda: (_classifier(nn.Conv2d(3, 8, 3, 2), Inverted(8, nn.ReLU6, False), width=8), IMAGE),
    "MobileNetV3": lambda: (_classifier(nn.Conv2d(3, 8, 3, 2), Inverted(8, nn.Hardswish, True), width=8), IMAGE),
    "ShuffleNet": lambda: (_classifier(nn.Conv2d(3, 12, 3, 2), Shuffle(12, 3), Shuffle(12, 3), width=12), IMAGE),
    "DenseNet": lambda: (_classifier(nn.Conv2d(3, 8, 3, 2), Dense(8, 4, 3), width=20), IMAGE),
    "U-Net": lambda: (UNet(), IMAGE),
    "encoder and decoder with interpolation": lambda: (Decoder(), IMAGE),
    "convolutional autoencoder": lambda: (
        nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.ELU(),
            nn.Conv2d(8, 4, 3, 2, 1),
            nn.ELU(),
            nn.ConvTranspose2d(4, 8, 4, 2, 1),
            nn.ELU(),
            nn.ConvTranspose2d(8, 3, 4, 2, 1),
        ),
        IMAGE,
    ),
    "variational autoencoder": lambda: (Variational(), numbers(4, 8, 8)),
    "GroupNorm": lambda: (_normalised(nn.GroupNorm(3, 12)), IMAGE),
    "InstanceNorm": lambda: (_normalised(nn.InstanceNorm2d(12, affine=True)), IMAGE),
    "LayerNorm over images": lambda: (_normalised(nn.LayerNorm([16, 16])), IMAGE),
    "PReLU": lambda: (_normalised(nn.PReLU(12)), IMAGE),
    "LocalResponseNorm": lambda: (_normalised(nn.LocalResponseNorm(3)), IMAGE),
    "PixelShuffle": lambda: (nn.Sequential(nn.Conv2d(3, 12, 3, 1, 1), nn.PixelShuffle(2)), IMAGE),
    "grouped, dilated convolutions": lambda: (
        nn.Sequential(nn.Conv2d(3, 12, 3), nn.ReLU(), nn.Conv2d(12, 12, 3, groups=4, dilation=2, padding=2)),
        IMAGE,
    ),
    "reflection padding": lambda: (nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(3, 8, 3)), IMAGE),
    "temporal convolutions": lambda: (Causal(), numbers(2, 8, 20)),
    "convolutions over volumes": lambda: (
        nn.Sequential(
            nn.Conv3d(1, 6, 3, 1, 1), nn.BatchNorm3d(6), nn.ReLU(), nn.MaxPool3d(2), nn.ConvTranspose3d(6, 2, 2, 2)
        ),
        numbers(2, 1, 6, 8, 8),
    ),
    "feature pyramid": lambda: (Pyramid(), IMAGE),
    "detection, the best boxes": lambda: (Best(), IMAGE),
    "vision transformer": lambda: (PatchAttention(), IMAGE),
    "MLP-Mixer": lambda: (Mixer(), IMAGE),
}
"""Name -> a function that builds the network and what draws its inputs."""
