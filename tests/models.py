"""Small torch models with what real ones have; used all over the tests."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def seeded(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights and batch-norm statistics, as after some training; eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.3, 2, generator=generator)
            if module.affine:
                with torch.no_grad():
                    module.weight.normal_(0.8, 0.5, generator=generator)
                    module.bias.normal_(0, 0.3, generator=generator)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            with torch.no_grad():
                parameter.normal_(0, (2 / parameter[0].numel()) ** 0.5, generator=generator)
    return model.eval()


class Mixed(nn.Module):
    """Strided, padded, depthwise, grouped and dilated convolutions, add, concat, pools, flatten to linear."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU6())
        self.depthwise = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.grouped = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=2)
        self.max_pool = nn.MaxPool2d(3, 2, 1)
        self.avg_pool = nn.AvgPool2d(2, 2)
        self.dropout = nn.Dropout(0.3)
        self.hidden = nn.Linear(16 * 2 * 2, 12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.depthwise(x))
        x = torch.cat([x, self.grouped(x)], 1)
        x = self.avg_pool(self.max_pool(x))
        return self.head(self.dropout(torch.relu(self.hidden(x.flatten(1)))))


class Globals(nn.Module):
    """A convolution without activation, padding, a batch norm of its own, and a global mean."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(4, 6, (3, 2), stride=(1, 2))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.pad(self.norm(x), (1, 2, 0, 1))
        return self.head(self.conv(x).mean((2, 3)))
