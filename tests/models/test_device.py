"""A precision or device that is not there is refused in words, before a model is built."""

import pytest
import torch

from aistudio.errors import ConfigError
from aistudio.models._device import exact_float32, ready_device


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch):
    """`gpu(8)`: pretend a GPU of that compute capability; `gpu(None)`: none."""

    def pretend(major: int | None) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: major is not None)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: major >= 8)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (major, 5))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "Tesla T4")

    return pretend


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)],
)
def test_a_cpu_and_a_current_gpu_take_every_precision(gpu, precision: str, dtype: torch.dtype) -> None:
    gpu(9)
    assert ready_device("cpu", precision) == (torch.device("cpu"), dtype)
    assert ready_device("cuda", precision) == (torch.device("cuda"), dtype)


def test_bfloat16_on_an_old_gpu_is_refused_with_a_way_out(gpu) -> None:
    gpu(7)
    assert ready_device("cuda", "float16")[1] == torch.float16
    with pytest.raises(ConfigError, match=r"Tesla T4 \(compute capability 7.5\) has no bfloat16.*use float16"):
        ready_device("cuda", "bfloat16")


def test_a_gpu_that_is_not_there(gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu(None)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(ConfigError, match=r"engine\.device is cuda, but torch .* sees no GPU on this node"):
        ready_device("cuda", "float32")
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(ConfigError, match=r"is built for CPUs only.*or set engine\.device: cpu"):
        ready_device("cuda", "float32")


def test_convolutions_on_a_gpu_are_not_rounded_and_the_setting_is_put_back() -> None:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    with exact_float32(torch.device("cuda")):
        assert torch.backends.cudnn.enabled
        assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cudnn.benchmark
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark) == before
