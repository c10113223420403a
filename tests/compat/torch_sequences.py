"""Networks over sequences, tokens, tables and graphs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .torch_models import numbers, tokens


class Tagger(nn.Module):
    """Embedding, a recurrent layer, a label for each token."""

    def __init__(self, recurrent: type[nn.RNNBase], **options: Any) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 12)
        self.body = recurrent(12, 10, batch_first=True, **options)
        self.head = nn.Linear(20 if options.get("bidirectional") else 10, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.embed(x))[0])


class Speech(nn.Module):
    """Convolutions over a spectrogram, a GRU over time, the last state."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Sequential(nn.Conv1d(20, 16, 5, 2), nn.BatchNorm1d(16), nn.ReLU())
        self.body = nn.GRU(16, 12, batch_first=True)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.body(self.front(x).transpose(1, 2))
        return self.head(states[:, -1]).log_softmax(dim=-1)


class Bert(nn.Module):
    """Token and position embeddings, an encoder, and a head tied to the token embedding."""

    def __init__(self, *, causal: bool, tied: bool) -> None:
        super().__init__()
        self.embed, self.positions = nn.Embedding(50, 24), nn.Embedding(12, 24)
        layer = nn.TransformerEncoderLayer(24, 4, 48, activation="gelu", batch_first=True, norm_first=causal)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(24)
        self.head = nn.Linear(24, 50, bias=not tied)
        if tied:
            self.head.weight = self.embed.weight
        self.causal = causal
        self.register_buffer("mask", torch.full((12, 12), float("-inf")).triu(1))

    def forward(self, ids: Tensor) -> Tensor:
        h = self.embed(ids) + self.positions(torch.arange(12))
        h = self.body(h, mask=self.mask, is_causal=True) if self.causal else self.body(h, is_causal=False)
        return self.head(self.norm(h))


class Translator(nn.Module):
    """Encoder and masked decoder with cross-attention: two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        encoder = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        decoder = nn.TransformerDecoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(encoder, 1, enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(decoder, 1)
        self.head = nn.Linear(16, 50)
        self.register_buffer("mask", torch.full((6, 6), float("-inf")).triu(1))

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory = self.encoder(self.embed(source), is_causal=False)
        masks = {"tgt_mask": self.mask, "tgt_is_causal": True}
        return self.head(self.decoder(self.embed(target), memory, **masks))


class EinsumAttention(nn.Module):
    """Heads in a tensor of their own; every product is an einsum."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Parameter(torch.randn(3, 16, 2, 8) / 4)
        self.out = nn.Parameter(torch.randn(2, 8, 16) / 4)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (torch.einsum("bnd,dhe->bhne", x, weight) for weight in self.qkv)
        weights = (torch.einsum("bhne,bhme->bhnm", q, k) / math.sqrt(8)).softmax(dim=-1)
        return x + torch.einsum("bhnm,bhme,hed->bnd", weights, v, self.out)


class Rotary(nn.Module):
    """A Llama block: RMSNorm, rotary positions, grouped queries, gated MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ParameterList(nn.Parameter(torch.rand(16) + 0.5) for _ in range(2))
        self.q, self.kv = nn.Linear(16, 16, bias=False), nn.Linear(16, 16, bias=False)
        self.o, self.gate = nn.Linear(16, 16, bias=False), nn.Linear(16, 40, bias=False)
        self.up, self.down = nn.Linear(16, 40, bias=False), nn.Linear(40, 16, bias=False)
        angles = torch.outer(torch.arange(9).float(), 0.1 ** torch.arange(2).float())
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, x: Tensor) -> Tensor:
        n, length, _ = x.shape
        h = self._norm(x, 0)
        q = self._turn(self.q(h).view(n, length, 4, 4).transpose(1, 2))
        k, v = self.kv(h).view(n, length, 2, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        k, v = self._turn(k).repeat_interleave(2, dim=1), v.repeat_interleave(2, dim=1)
        mixed = (q @ k.transpose(-1, -2) / 2).softmax(dim=-1) @ v
        x = x + self.o(mixed.transpose(1, 2).reshape(n, length, 16))
        h = self._norm(x, 1)
        return x + self.down(functional.silu(self.gate(h)) * self.up(h))

    def _norm(self, x: Tensor, index: int) -> Tensor:
        return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-6) * self.norms[index]

    def _turn(self, x: Tensor) -> Tensor:
        even, odd = x[..., 0::2], x[..., 1::2]
        turned = (even * self.cos - odd * self.sin, even * self.sin + odd * self.cos)
        return torch.stack(turned, dim=-1).flatten(-2)


class Graph(nn.Module):
    """A graph network: gather along edges, a message, scatter to nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.message = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 8))
        self.update = nn.Linear(16, 8)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        source, target = edges[0], edges[1]
        messages = self.message(torch.cat([nodes[source], nodes[target]], dim=-1))
        received = torch.zeros_like(nodes).index_add(0, target, messages)
        return self.update(torch.cat([nodes, received], dim=-1)).tanh()


class Recommender(nn.Module):
    """Embeddings of categories beside numbers: three inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(30, 8), nn.Embedding(40, 8)
        self.body = nn.Sequential(nn.Linear(20, 24), nn.ReLU(), nn.Dropout(), nn.Linear(24, 1))

    def forward(self, user: Tensor, item: Tensor, numeric: Tensor) -> Tensor:
        u, i = self.users(user), self.items(item)
        return self.body(torch.cat([u, i, numeric], dim=-1)).sigmoid() + (u * i).sum(-1, keepdim=True)


class Experts(nn.Module):
    """A mixture of experts: stacked weights, all computed, weighted by a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(12, 4)
        self.experts = nn.Parameter(torch.randn(4, 12, 16) / 4)

    def forward(self, x: Tensor) -> Tensor:
        outputs = torch.matmul(x[None], self.experts)
        return (outputs * self.gate(x).softmax(dim=-1).t()[:, :, None]).sum(dim=0)


class Siamese(nn.Module):
    """One network on two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 8))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return functional.cosine_similarity(self.body(a), self.body(b))


class Bilinear(nn.Module):
    """A bilinear product and weight normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.product = nn.Bilinear(8, 10, 12)
        self.last = nn.utils.parametrizations.weight_norm(nn.Linear(12, 6))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.last(self.product(a, b).relu())


def several(*draws: Callable[[], tuple[Any, ...]]) -> Callable[[], tuple[Any, ...]]:
    """Draws several inputs."""
    return lambda: tuple(x for draw in draws for x in draw())


def _encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


NETWORKS = {
    "MLP": lambda: (
        nn.Sequential(nn.Linear(24, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10)),
        numbers(8, 24),
    ),
    "LSTM tagger": lambda: (Tagger(nn.LSTM), tokens(2, 9)),
    "LSTM tagger, two layers both ways": lambda: (Tagger(nn.LSTM, num_layers=2, bidirectional=True), tokens(2, 9)),
    "GRU tagger": lambda: (Tagger(nn.GRU), tokens(2, 9)),
    "RNN tagger": lambda: (Tagger(nn.RNN, nonlinearity="tanh"), tokens(2, 9)),
    "speech: convolutions and GRU": lambda: (Speech(), numbers(2, 20, 30)),
    "transformer encoder": lambda: (_encoder(), numbers(2, 7, 16)),
    "transformer encoder and decoder": lambda: (Translator(), several(tokens(2, 8), tokens(2, 6))),
    "BERT": lambda: (Bert(causal=False, tied=False), tokens(2, 12)),
    "BERT, tied": lambda: (Bert(causal=False, tied=True), tokens(2, 12)),
    "GPT": lambda: (Bert(causal=True, tied=True), tokens(2, 12)),
    "Llama block": lambda: (Rotary(), numbers(2, 9, 16)),
    "einsum attention": lambda: (EinsumAttention(), numbers(2, 6, 16)),
    "graph network": lambda: (Graph(), several(numbers(10, 8), tokens(2, 14, most=10))),
    "recommender": lambda: (
        Recommender(),
        several(tokens(6, most=30), tokens(6, most=40), numbers(6, 4)),
    ),
    "mixture of experts": lambda: (Experts(), numbers(6, 12)),
    "Siamese": lambda: (Siamese(), several(numbers(6, 16), numbers(6, 16))),
    "bilinear, weight norm": lambda: (Bilinear(), several(numbers(6, 8), numbers(6, 10))),
}
"""Name -> a function that builds the network and what draws its inputs."""
