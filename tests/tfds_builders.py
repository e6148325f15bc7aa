"""Small data sets of TensorFlow Datasets, registered by being defined, and files where TFDS keeps its downloads."""

import io
import json
import pathlib

import numpy as np
import pytest

from tests.example_images import arrays, png, random_images

tfds = pytest.importorskip("tensorflow_datasets")

# The progress bars of a preparation are closed by the garbage collector.
tfds_progress_cut_short = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class JaxinflTiny(tfds.core.GeneratorBasedBuilder):
    """A data set of 6 + 4 images of one size, made from arrays, which TFDS encodes with `tf.image.encode_png`."""

    VERSION = tfds.core.Version("1.0.0")
    shape = (4, 5, 3)

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=self.shape),
            "label": tfds.features.ClassLabel(names=["cat", "dog", "eel"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples("train"), "test": self._generate_examples("test")}

    def _generate_examples(self, split):
        given = arrays()
        for i, (image, label) in enumerate(zip(given[f"{split}_inputs"], given[f"{split}_targets"], strict=True)):
            yield i, {"image": image[..., : self.shape[-1]], "label": int(label)}


class JaxinflGray(JaxinflTiny):
    """A data set of images with one channel, whose size is not declared."""

    VERSION = tfds.core.Version("1.0.0")
    shape = (None, None, 1)


class JaxinflTransparent(JaxinflTiny):
    """A data set of images with color and transparency."""

    VERSION = tfds.core.Version("1.0.0")
    shape = (4, 5, 4)


VARYING = {"train": [(30, 40), (60, 20), (16, 16)], "validation": [(9, 9)], "test": [(8, 9)]}


class JaxinflVarying(JaxinflTiny):
    """A data set of PNG files of varying size, with a validation split."""

    VERSION = tfds.core.Version("1.0.0")
    shape = (None, None, 3)

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in VARYING}

    def _generate_examples(self, split):
        for i, (height, width) in enumerate(VARYING[split]):
            yield i, {"image": io.BytesIO(png(random_images(1, height, width)[0])), "label": i}


class JaxinflUnlabelled(JaxinflTiny):
    """A data set whose test split has no labels, as in imagenet2012."""

    VERSION = tfds.core.Version("1.0.0")

    def _generate_examples(self, split):
        for i, example in super()._generate_examples(split):
            yield i, example | ({"label": -1} if split == "test" else {})


class JaxinflBroken(JaxinflTiny):
    VERSION = tfds.core.Version("1.0.0")

    def _generate_examples(self, split):
        raise OSError("the disk is on fire")
        yield


class JaxinflDepth(JaxinflTiny):
    """A data set of images with 16 bits."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(4, 5, 1), dtype=np.uint16),
            "label": tfds.features.ClassLabel(num_classes=3),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))


def put_archive(data_dir, name, url_part, content):
    """Put a file where TFDS keeps the download of `name` whose address ends with `url_part`."""
    from tensorflow_datasets.core.download import resource

    ((url, info),) = [
        item for item in tfds.builder(name, data_dir=data_dir).url_infos.items() if item[0].endswith(url_part)
    ]
    path = data_dir / "downloads" / name / resource.get_dl_fname(url, info.checksum)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    pathlib.Path(f"{path}.INFO").write_text(json.dumps({"original_fname": url.rsplit("/", 1)[1]}))
