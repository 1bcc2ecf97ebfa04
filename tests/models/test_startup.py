"""What a process with a model need not import: torch's compiler, which takes it a second."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from aistudio.models._skeleton import without_numbers

ROOT = Path(__file__).resolve().parents[2]
ENCODES = """
import sys
import numpy as np
from aistudio.config import load_model_config
from aistudio.models import load_ranking, load_recall
model = load_recall(load_model_config("demo_recall"))
size = model.image_spec.size
model.encode_images(np.zeros((2, size, size, 3), np.uint8)), model.encode_texts(["a"])
print("torch._dynamo" in sys.modules)
asked = sys.modules["torchvision.ops.roi_align"].is_compile_supported
import torch._dynamo.utils as real
assert asked("cpu") == real.is_compile_supported("cpu")
import torch
assert torch.compile(lambda x: x + 1, backend="eager")(torch.zeros(1)).item() == 1
"""


def test_a_model_encodes_without_the_compiler_which_is_there_when_asked_for():
    run = subprocess.run([sys.executable, "-c", ENCODES], cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert (run.returncode, run.stdout) == (0, "False\n"), run.stderr[-3000:]


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(3, 4), nn.BatchNorm1d(4), nn.LSTM(4, 2)
        self.own = nn.Parameter(torch.ones(5)[1:].mul_(2).unsqueeze_(0), requires_grad=False)
        nn.init.kaiming_normal_(self.first.weight)
        nn.init.trunc_normal_(self.last.weight_hh_l0, std=0.02)


def test_a_skeleton_has_the_names_shapes_and_kinds_of_the_model():
    with without_numbers():
        skeleton = Layers()
    whole = Layers()
    seen = [[(name, p.shape, p.dtype, p.requires_grad) for name, p in m.named_parameters()] for m in (skeleton, whole)]
    assert seen[0] == seen[1] and skeleton.state_dict().keys() == whole.state_dict().keys()
    assert all(p.is_meta for p in skeleton.state_dict().values())


@pytest.mark.parametrize("fill", [nn.init.ones_, nn.init.normal_, nn.init.kaiming_uniform_])
def test_tensors_of_other_devices_are_filled_as_ever(fill):
    there = torch.full((3, 3), -7.0, device="cpu")
    with without_numbers():
        fill(there)
    assert (there != -7).any()
