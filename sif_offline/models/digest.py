"""What tells two models' weights apart."""

import hashlib

import torch
from torch import nn


def weights_digest(model: nn.Module) -> str:
    """SHA-256 over the sorted state dict: names, types, shapes and bytes. Lower-case hex."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {flat.dtype} {tuple(flat.shape)}\n".encode())
        digest.update(flat.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
