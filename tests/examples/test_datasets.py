"""The image sets of the examples: shapes, splits, binarisations, errors that name the remedy."""

import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image, ImageDraw

import datasets

# Where a checkout may keep the real files: beside the project, never inside it.
REAL = Path(__file__).resolve().parents[3] / "shared" / "data"


def write_mnist(file, train=60, test=12, dtype=np.uint8, **changes):
    """Writes a tiny file with the arrays of `keras.datasets.mnist`."""
    generator = np.random.default_rng(1)
    top = 256 if dtype == np.uint8 else 2
    arrays = {
        "x_train": generator.integers(0, top, (train, 28, 28)).astype(dtype),
        "y_train": generator.integers(0, 10, train),
        "x_test": generator.integers(0, top, (test, 28, 28)).astype(dtype),
        "y_test": generator.integers(0, 10, test),
    } | changes
    np.savez(file, **{name: array for name, array in arrays.items() if array is not None})
    return arrays


@pytest.fixture
def mnist(tmp_path):
    file = tmp_path / "mnist.npz"
    return file, write_mnist(file)


def assert_binary(images):
    assert images.dtype == np.float32
    np.testing.assert_array_equal(np.unique(images), [0.0, 1.0])


def test_digits_are_split_and_scaled():
    train, validation, test = datasets.load("digits", binarize=None)
    assert [len(part) for part in (train, validation, test)] == [1397, 200, 200]
    for part in (train, validation, test):
        assert part.dtype == np.float32
        assert part.shape[1] == 64
        assert (part.min(), part.max()) == (0, 1)
    from sklearn.datasets import load_digits

    original = load_digits().images.reshape(-1, 64) / 16
    together = np.concatenate([train, validation, test])
    np.testing.assert_array_equal(np.unique(original, axis=0), np.unique(together, axis=0))


def test_digits_ignore_the_path(tmp_path):
    for one, other in zip(
        datasets.load("digits"), datasets.load("digits", tmp_path / "none"), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_the_fixed_draw_is_the_same_in_every_call_and_follows_the_intensities():
    grey = datasets.load("digits", binarize=None)
    fixed = datasets.load("digits")
    for part, again in zip(fixed, datasets.load("digits", binarize="fixed"), strict=True):
        assert_binary(part)
        np.testing.assert_array_equal(part, again)
    for part, intensities in zip(fixed, grey, strict=True):
        assert np.all(part[intensities == 0] == 0)
        assert np.all(part[intensities == 1] == 1)
    # Given the intensities the sum is a fixed number, so this cannot fail by chance; it would be
    # four standard deviations off for a draw that does not follow them.
    deviation = np.sqrt(np.sum(grey[0] * (1 - grey[0])))
    assert abs(np.sum(fixed[0] - grey[0])) < 4 * deviation


def test_the_fixed_draw_covers_training_images_in_file_order_and_then_test_images(mnist):
    file, arrays = mnist
    train, validation, test = datasets.load("mnist", file)
    generator = np.random.default_rng(0)
    for images, drawn in ((arrays["x_train"], [train, validation]), (arrays["x_test"], [test])):
        intensities = images.reshape(-1, 784) / np.float32(255)
        expected = generator.random(intensities.shape, dtype=np.float32) < intensities
        np.testing.assert_array_equal(np.concatenate(drawn), expected)


def test_threshold(mnist):
    file, arrays = mnist
    train, validation, test = datasets.load("mnist", file, binarize="threshold")
    for part in (train, validation, test):
        assert_binary(part)
    together = np.concatenate([train, validation]).reshape(-1, 28, 28)
    np.testing.assert_array_equal(together, arrays["x_train"] >= 128)


def test_dynamic_leaves_only_the_training_images_grey(mnist):
    file, _ = mnist
    train, validation, test = datasets.load("mnist", file, binarize="dynamic")
    _, fixed_validation, fixed_test = datasets.load("mnist", file, binarize="fixed")
    np.testing.assert_array_equal(train, datasets.load("mnist", file, binarize=None)[0])
    np.testing.assert_array_equal(validation, fixed_validation)
    np.testing.assert_array_equal(test, fixed_test)
    assert_binary(datasets.bernoulli(train, np.random.default_rng(5)))


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "omniglot"])
def test_a_file_or_a_folder_with_the_name(tmp_path, name):
    arrays = write_mnist(tmp_path / f"{name}.npz")
    for path in (tmp_path, str(tmp_path), tmp_path / f"{name}.npz"):
        train, validation, test = datasets.load(name, path, binarize=None)
        assert (train.shape, validation.shape, test.shape) == ((50, 784), (10, 784), (12, 784))
        np.testing.assert_allclose(test * 255, arrays["x_test"].reshape(-1, 784), rtol=1e-6)
        np.testing.assert_allclose(
            np.concatenate([train, validation]) * 255,
            arrays["x_train"].reshape(-1, 784),
            rtol=1e-6,
        )


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.bool_, np.int64])
def test_images_that_are_already_between_0_and_1(tmp_path, dtype):
    arrays = write_mnist(tmp_path / "mnist.npz", dtype=dtype)
    test = datasets.load("mnist", tmp_path, binarize=None)[2]
    assert test.dtype == np.float32
    np.testing.assert_array_equal(test, arrays["x_test"].reshape(-1, 784))


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match=r"'emnist'.*digits, mnist, fashion_mnist, omniglot"):
        datasets.load("emnist")
    with pytest.raises(ValueError, match=r"'static'.*fixed, threshold, dynamic, or None"):
        datasets.load("digits", binarize="static")


def test_a_missing_file_names_the_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"mnist\.npz.*--data.*leave it out to download"):
        datasets.load("mnist", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"other\.npz"):
        datasets.load("mnist", tmp_path / "other.npz")


def test_files_of_another_kind_name_the_remedy(tmp_path):
    file = tmp_path / "mnist.npz"
    file.write_bytes(b"not an archive")
    with pytest.raises(ValueError, match=r"not an \.npz file.*savez"):
        datasets.load("mnist", file)
    write_mnist(file, x_test=None)
    with pytest.raises(ValueError, match=r"no array x_test, only x_train, y_train.*Name the"):
        datasets.load("mnist", file)
    write_mnist(file, x_test=np.zeros((12, 8, 8), np.uint8))
    with pytest.raises(ValueError, match=r"\(28, 28\) and test images of shape \(8, 8\)"):
        datasets.load("mnist", file)
    for images in (np.full((60, 28, 28), 255.0), np.full((60, 28, 28), np.nan)):
        write_mnist(file, x_train=images)
        with pytest.raises(ValueError, match=r"float64 must have values in \[0, 1\].*as uint8"):
            datasets.load("mnist", file)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "omniglot"])
def test_a_failed_download_names_the_remedy(monkeypatch, name):
    def fail(*args, **kwargs):
        raise Exception("URL fetch failure.")

    if name == "omniglot":
        monkeypatch.setattr(keras.utils, "get_file", fail)
    else:
        monkeypatch.setattr(getattr(keras.datasets, name), "load_data", fail)
    with pytest.raises(RuntimeError, match=rf"{name}: URL fetch failure.*{name}\.npz.*--data PATH"):
        datasets.load(name)


def test_keras_sets_are_read_as_keras_returns_them(monkeypatch, tmp_path):
    arrays = write_mnist(tmp_path / "mnist.npz")
    pairs = tuple((arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test"))
    monkeypatch.setattr(keras.datasets.mnist, "load_data", lambda: pairs)
    for one, other in zip(datasets.load("mnist"), datasets.load("mnist", tmp_path), strict=True):
        np.testing.assert_array_equal(one, other)


def test_labels_are_those_of_the_images(mnist):
    file, arrays = mnist
    train, validation, test = datasets.labels("mnist", file)
    np.testing.assert_array_equal(np.concatenate([train, validation]), arrays["y_train"])
    np.testing.assert_array_equal(test, arrays["y_test"])
    assert [len(part) for part in (train, validation, test)] == [50, 10, 12]

    from sklearn.datasets import load_digits

    digits = load_digits()
    known = {image.tobytes(): y for image, y in zip(digits.images, digits.target, strict=True)}
    parts = zip(datasets.load("digits", binarize=None), datasets.labels("digits"), strict=True)
    for images, labels in parts:
        assert labels.dtype == np.int32
        of_images = [known[np.float64(image * 16).tobytes()] for image in images]
        np.testing.assert_array_equal(labels, of_images)


def test_downloaded_labels(monkeypatch, mnist):
    file, arrays = mnist
    pairs = tuple((arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test"))
    monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", lambda: pairs)
    for one, other in zip(
        datasets.labels("fashion_mnist"), datasets.labels("mnist", file), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_missing_labels_name_the_remedy(tmp_path):
    write_mnist(tmp_path / "mnist.npz", y_test=None)
    with pytest.raises(ValueError, match=r"no array y_test, only .*labels y_train and y_test"):
        datasets.labels("mnist", tmp_path)
    with pytest.raises(ValueError, match="choose one of digits, mnist, fashion_mnist"):
        datasets.labels("omniglot")


def drawing(character, index):
    """A 105 x 105 drawing as Omniglot stores it: one bit per pixel, black strokes on white."""
    image = Image.new("1", (105, 105), 1)
    start = 20 + 3 * index
    ImageDraw.Draw(image).line((start, 10 + 20 * character, start, 100), fill=0, width=5)
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture
def omniglot(tmp_path, monkeypatch):
    """A small Omniglot, downloaded from a folder into a cache of its own."""
    source, home = tmp_path / "source", tmp_path / "home"
    source.mkdir()
    # Keras falls back to a folder shared by all users where the cache cannot be written.
    home.mkdir()
    hashes = {}
    for number, archive in enumerate(("images_background", "images_evaluation")):
        with zipfile.ZipFile(source / f"{archive}.zip", "w") as files:
            files.writestr(f"{archive}/", "")
            for character in range(1 + number):
                for index in range(20):
                    files.writestr(
                        f"{archive}/Alphabet/character{character + 1:02}/{index:02}.png",
                        drawing(number + character, index),
                    )
        content = (source / f"{archive}.zip").read_bytes()
        hashes[f"{archive}.zip"] = hashlib.md5(content).hexdigest()
    download = keras.utils.get_file
    monkeypatch.setattr(
        keras.utils, "get_file", lambda *a, **k: download(*a, cache_dir=str(home), **k)
    )
    monkeypatch.setattr(datasets, "_OMNIGLOT_URL", source.as_uri() + "/")
    monkeypatch.setattr(datasets, "_OMNIGLOT_MD5", hashes)
    return home / "datasets"


def test_omniglot_is_converted_once_and_split_by_drawing(omniglot, monkeypatch):
    train, validation, test = datasets.load("omniglot", binarize=None)
    assert (train.shape, validation.shape, test.shape) == ((38, 784), (7, 784), (15, 784))
    # Bright strokes on a black ground, and each of the 60 drawings in one part only.
    together = np.concatenate([train, validation, test])
    assert together.max() == 1
    assert 0 < together.mean() < 0.2
    assert len(np.unique(together, axis=0)) == 60

    with np.load(omniglot / "omniglot_28x28.npz") as arrays:
        np.testing.assert_array_equal(np.bincount(arrays["y_train"]), [15, 15, 15])
        np.testing.assert_array_equal(np.bincount(arrays["y_test"]), [5, 5, 5])
        assert arrays["x_train"].dtype == np.uint8
    # Nothing but the archives and the cache is left behind.
    assert len(list(omniglot.iterdir())) == 3

    monkeypatch.setattr(datasets, "_convert_omniglot", None)
    for one, other in zip(
        datasets.load("omniglot", binarize=None), (train, validation, test), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_a_damaged_omniglot_archive_names_the_remedy(omniglot, monkeypatch):
    monkeypatch.setitem(datasets._OMNIGLOT_MD5, "images_evaluation.zip", "0" * 32)
    with pytest.raises(RuntimeError, match=r"--data PATH"):
        datasets.load("omniglot")


def test_digits_need_no_framework():
    """Scripts print their --help and their errors before TensorFlow starts."""
    code = (
        "import sys, datasets; datasets.load('digits');"
        "sys.exit(bool({'tensorflow', 'keras', 'PIL'} & set(sys.modules)))"
    )
    folder = Path(datasets.__file__).parent
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)


def real_file(name):
    file = REAL / f"{name}.npz"
    if not file.is_file():
        pytest.skip(f"needs the real images in {file}")
    return file


@pytest.mark.parametrize(
    ("name", "sizes", "mean"),
    [
        ("mnist", (50_000, 10_000, 10_000), 0.1307),
        ("omniglot", (23_000, 1_345, 8_115), 0.0840),
    ],
)
def test_the_real_images(name, sizes, mean):
    parts = datasets.load(name, real_file(name))
    assert tuple(len(part) for part in parts) == sizes
    for part in parts:
        assert_binary(part)
    # The draw keeps the mean intensity: its standard deviation over the training set is 5e-5.
    assert np.concatenate(parts[:2]).mean(dtype=np.float64) == pytest.approx(mean, abs=2e-4)
