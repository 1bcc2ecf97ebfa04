"""transform.py against OpenCV, Pillow, CLIP's own processor and, where they are there, the golden numbers."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aistudio.config import ImageSpec
from aistudio.images.opencv import fixed_point
from aistudio.images.transform import resize, shrink


def _noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (height // 3 + 1, width // 3 + 1, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def _fixed_point(rgb: np.ndarray, n: int) -> np.ndarray:
    """OpenCV's INTER_LINEAR on uint8, written out: 11-bit weights, two roundings (see its resize.cpp)."""

    def weights(size, clamp):
        scale = 1 / (n / size)
        f = np.array([np.float32((i + 0.5) * scale - 0.5) for i in range(n)], np.float32)
        s = np.floor(f).astype(int)
        f = f - s.astype(np.float32)
        if clamp:
            f[s < 0], s[s < 0] = 0, 0
            f[s >= size - 1], s[s >= size - 1] = 0, size - 1
        w1, w0 = np.rint(f * np.float32(2048)).astype(int), np.rint((np.float32(1) - f) * np.float32(2048)).astype(int)
        return np.clip(s, 0, size - 1), np.clip(s + 1, 0, size - 1), w0, w1

    left, right, a0, a1 = weights(rgb.shape[1], True)
    top, bottom, b0, b1 = weights(rgb.shape[0], False)
    wide = rgb.astype(int)
    h = wide[:, left] * a0[None, :, None] + wide[:, right] * a1[None, :, None]
    v = ((b0[:, None, None] * (h[top] >> 4)) >> 16) + ((b1[:, None, None] * (h[bottom] >> 4)) >> 16)
    return np.clip((v + 2) >> 2, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("width", "height"), [(300, 200), (160, 120), (1, 1), (1, 500), (223, 225), (640, 31)])
def test_opencv_bilinear_is_exact(width: int, height: int) -> None:
    rgb = _noise(width, height)
    got = resize(rgb, ImageSpec())
    assert got.dtype == np.uint8
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(got, _fixed_point(rgb, 224))


def test_same_size_is_passed_through() -> None:
    rgb = _noise(224, 224)
    np.testing.assert_array_equal(resize(rgb, ImageSpec()), rgb)


def test_golden_pixels(shared_dir: Path) -> None:
    public = shared_dir / "golden/public"
    cases = json.loads((public / "cases.json").read_text())
    with np.load(public / "expected.npz") as expected:
        crcs = expected["pixel_uint8_crc32"]
    assert len(cases["images"]) == len(crcs) > 0
    for case, crc in zip(cases["images"], crcs, strict=True):
        with Image.open(public / case["file"]) as image:
            rgb = np.asarray(image.convert("RGB"))
        for got in (resize(rgb, ImageSpec()), fixed_point(rgb, 224)):  # with OpenCV, and without
            assert zlib.crc32(got.tobytes()) == crc, case["file"]


@pytest.mark.parametrize(("width", "height"), [(300, 200), (200, 300), (224, 224), (97, 331), (1000, 70), (225, 223)])
@pytest.mark.parametrize("shortest", [None, 256])
def test_center_crop_equals_clip(width: int, height: int, shortest: int | None) -> None:
    transformers = pytest.importorskip("transformers")
    processor_class = getattr(transformers, "CLIPImageProcessorPil", None)
    if processor_class is None:
        pytest.skip("this transformers has no Pillow-backed CLIP processor")
    processor = processor_class(
        size={"shortest_edge": shortest or 224}, do_rescale=False, do_normalize=False, crop_size=224
    )
    image = Image.fromarray(_noise(width, height))
    want = processor(image, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    got = resize(image, ImageSpec(resize="pil_bicubic_center_crop", resize_shortest=shortest))
    np.testing.assert_array_equal(got, want.astype(np.uint8))


def test_center_crop_of_a_thin_image_stays_small_and_agrees() -> None:
    """Beyond an aspect of 16 only the part that is kept gets resized; only rounding may change by that."""
    spec = ImageSpec(resize="pil_bicubic_center_crop")
    image = Image.fromarray(_noise(20, 20 * 17))
    whole = image.resize((224, 224 * 17), Image.Resampling.BICUBIC)
    top = (224 * 17 - 224) // 2
    want = np.asarray(whole.crop((0, top, 224, top + 224))).astype(int)
    difference = np.abs(resize(image, spec).astype(int) - want)
    assert difference.max() <= 4
    assert difference.mean() < 0.5
    assert resize(Image.new("RGB", (1, 200_000)), spec).shape == (224, 224, 3)  # 10 Gpixel if done naively


@pytest.mark.parametrize("name", ["bicubic", "bilinear"])
def test_squash(name: str) -> None:
    image = Image.fromarray(_noise(300, 200))
    want = image.resize((64, 64), Image.Resampling[name.upper()])
    spec = ImageSpec.model_validate({"size": 64, "resize": f"pil_{name}"})
    np.testing.assert_array_equal(resize(np.asarray(image), spec), np.asarray(want))


def test_crop_needs_something_to_crop_from() -> None:
    with pytest.raises(ValueError, match="resize_shortest 100 is smaller than size 224"):
        resize(_noise(300, 200), ImageSpec(resize="pil_bicubic_center_crop", resize_shortest=100))


@pytest.mark.parametrize(
    ("size", "want"), [((1600, 800), (160, 80)), ((800, 1600), (80, 160)), ((90, 50), (90, 50)), ((5000, 1), (160, 1))]
)
def test_shrink(size: tuple[int, int], want: tuple[int, int]) -> None:
    assert shrink(_noise(*size), 160).shape == (want[1], want[0], 3)


def test_opencv_is_told_to_use_one_thread() -> None:
    cv2 = pytest.importorskip("cv2")
    cv2.setNumThreads(2)
    resize(_noise(30, 20), ImageSpec())
    assert cv2.getNumThreads() == 1


@pytest.mark.parametrize("size", [(803, 641), (2049, 1031), (320, 200)])
def test_shrink_is_the_mean_of_what_each_pixel_covers(size: tuple[int, int]) -> None:
    cv2 = pytest.importorskip("cv2")
    width, height = size
    ramp = np.add.outer(np.linspace(0, 120, height), np.linspace(0, 120, width)).astype(np.uint8)
    rgb = np.dstack([ramp, 255 - ramp, ramp // 2])
    got = shrink(rgb, 160)
    want = cv2.resize(rgb, (got.shape[1], got.shape[0]), interpolation=cv2.INTER_AREA)
    assert np.abs(got.astype(int) - want).max() <= 2


@pytest.mark.parametrize("size", [(300, 227), (227, 300), (224, 224), (90, 70), (1000, 225), (223, 451)])
def test_bilinear_centre_crop_is_torchvisions(size: tuple[int, int]) -> None:
    from torchvision.transforms import v2

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    theirs = v2.CenterCrop(224)(v2.Resize(224, interpolation=v2.InterpolationMode.BILINEAR)(image))
    ours = resize(image, ImageSpec(size=224, resize="torchvision_bilinear_center_crop"))
    np.testing.assert_array_equal(ours, np.asarray(theirs))
