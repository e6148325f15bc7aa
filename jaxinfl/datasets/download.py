"""Preparing a TensorFlow Datasets data set on disk, and failing fast when there is no network to do it with."""

import queue
import threading
import time
import urllib.parse
from collections.abc import Iterable
from typing import Any

from jaxinfl.datasets.tensorflow_stand_in import tensorflow_stand_in

PROBE_SECONDS = 8.0
"""How long the hosts of a download have to answer, all together."""

_MAX_PROBED_HOSTS = 4


class DatasetUnavailable(RuntimeError):
    """The data set exists, but is not on this machine and could not be downloaded or prepared."""


def prepare(builder: Any) -> None:
    """Download and prepare the data set of the TFDS `builder`, unless a prepared copy is in `builder.data_dir`.

    Raises:
      DatasetUnavailable: not prepared, and it did not work. After `PROBE_SECONDS` where no host of the download
        answers; TFDS by itself tries for minutes.
    """
    if builder.is_prepared():
        return
    import tensorflow_datasets as tfds

    # Data that the user must fetch by hand lies in a folder already, or TFDS says at once what to put where.
    manual = bool(builder.MANUAL_DOWNLOAD_INSTRUCTIONS)
    urls = [] if manual else _missing_urls(builder)
    if urls and (failure := unreachable(urls, PROBE_SECONDS)):
        raise _unavailable(builder, f"could not be downloaded: {failure}")
    try:
        with tensorflow_stand_in():
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(try_download_gcs=False),
                file_format="array_record",  # the one that is read at random without TensorFlow
            )
    except Exception as error:  # networks, archives, disks and 200 data sets' own code: there is no common type
        raise _unavailable(builder, f"could not be downloaded or prepared: {type(error).__name__}: {error}") from error


def _unavailable(builder: Any, failure: str) -> DatasetUnavailable:
    return DatasetUnavailable(
        f"{builder.name} {failure}. No prepared copy is in {builder.data_dir}; put one there, or point data_dir (or "
        "TFDS_DATA_DIR) at the folder that has it. To try things without a network, use the embedded digits: "
        "--preset digits, or load_dataset('digits')."
    )


def _missing_urls(builder: Any) -> list[str]:
    """The registered addresses of the download, less those whose file TFDS has kept from an earlier attempt."""
    from tensorflow_datasets.core.download import resource

    downloads = builder.data_dir_root / "downloads"
    missing = []
    for url, info in (builder.url_infos or {}).items():
        file = resource.get_dl_fname(url, info.checksum)
        if not any(resource.is_locally_cached(folder / file) for folder in (downloads / builder.name, downloads)):
            missing.append(url)
    return missing


def unreachable(urls: Iterable[str], seconds: float) -> str | None:
    """None as soon as one host of `urls` answers; else, after at most `seconds`, what went wrong.

    One is enough: data sets register addresses of mirrors and of other configurations too. Proxies count, by
    the usual environment variables.
    """
    by_host: dict[str, str] = {}
    for url in urls:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme in ("http", "https"):
            by_host.setdefault(parts.netloc, url)
    if not by_host:  # ftp and the like: cannot be asked cheaply, leave it to TFDS
        return None
    probed = dict(list(by_host.items())[:_MAX_PROBED_HOSTS])
    answers: queue.Queue[str | None] = queue.Queue()
    for url in probed.values():
        # A thread, because looking up a host name knows no timeout; daemonic, so that it cannot keep Python alive.
        threading.Thread(target=lambda url=url: answers.put(_probe(url, seconds)), daemon=True).start()
    deadline = time.monotonic() + seconds
    failures = []
    for _ in probed:
        try:
            failure = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            failures.append(f"no answer within {seconds:g} s")
            break
        if failure is None:
            return None
        failures.append(failure)
    return f"{', '.join(probed)} cannot be reached ({failures[-1]})"


def _probe(url: str, seconds: float) -> str | None:
    import requests  # a requirement of tensorflow-datasets, and what it downloads with

    try:
        response = requests.head(url, timeout=seconds / 2, allow_redirects=False)
    except requests.RequestException as error:
        return f"{type(error).__name__}: {error}"
    # A proxy's own failure. Any other status is the word of the host, which is there.
    return f"HTTP status {response.status_code}" if response.status_code in (407, 502, 503, 504) else None
