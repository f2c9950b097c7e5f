"""Train both teachers and save their weights. For a trained network, save its state dict only."""

import torch
from safetensors.torch import save_file

from my_data import load
from my_models import build, build_prepared

images, labels = (torch.as_tensor(values) for values in load()["train"])
for network, name in ((build(), "teacher"), (build_prepared(), "prepared")):
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    for _ in range(8):
        for index in torch.randperm(len(labels)).split(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(images[index][:, None]), labels[index]).backward()
            optimizer.step()
    save_file(network.state_dict(), f"{name}.safetensors")
