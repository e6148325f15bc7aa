"""Preparation of a TensorFlow Datasets data set on disk, which fails in seconds where there is no network."""

import queue
import threading
import time
import urllib.parse
from collections.abc import Iterable
from typing import Any

from jaxinfl.datasets.tensorflow_stand_in import tensorflow_stand_in

PROBE_SECONDS = 8.0
"""Seconds within which one of the hosts of a download must answer."""

_MAX_PROBED_HOSTS = 4


class DatasetUnavailable(RuntimeError):
    """The data set exists, but is not on this machine and could not be downloaded or prepared."""


def prepare(builder: Any) -> None:
    """Download and prepare the data set of the TFDS `builder`, unless a prepared copy is in `builder.data_dir`.

    Raises:
      DatasetUnavailable: the data set could not be prepared. Where no host of the download answers, this takes
        `PROBE_SECONDS`; TFDS by itself tries for minutes.
    """
    if builder.is_prepared():
        return
    import tensorflow_datasets as tfds

    # Data that the user must fetch by hand lies in a folder already, or TFDS says at once what to put where.
    manual = bool(builder.MANUAL_DOWNLOAD_INSTRUCTIONS)
    urls = [] if manual else _missing_urls(builder)
    if urls and (failure := why_unreachable(urls, PROBE_SECONDS)):
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
        f"{builder.name} {failure}. There is no prepared copy in {builder.data_dir}: put one there, or point data_dir (or "
        "TFDS_DATA_DIR) at the folder that has it. The embedded digits need no network: take --preset digits, or "
        "load_dataset('digits')."
    )


def _missing_urls(builder: Any) -> list[str]:
    """List the registered addresses of the download, except those whose file TFDS kept from an earlier attempt."""
    from tensorflow_datasets.core.download import resource

    downloads = builder.data_dir_root / "downloads"
    missing = []
    for url, info in (builder.url_infos or {}).items():
        file = resource.get_dl_fname(url, info.checksum)
        if not any(resource.is_locally_cached(folder / file) for folder in (downloads / builder.name, downloads)):
            missing.append(url)
    return missing


def why_unreachable(urls: Iterable[str], seconds: float) -> str | None:
    """Return None as soon as one host of `urls` answers; else, after at most `seconds`, say what went wrong.

    One host is enough: data sets register addresses of mirrors and of other configurations, too. Proxies are used, as the
    usual environment variables name them.
    """
    by_host: dict[str, str] = {}
    for url in urls:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme in ("http", "https"):
            by_host.setdefault(parts.netloc, url)
    if not by_host:  # addresses such as ftp cannot be asked cheaply, so they are left to TFDS
        return None
    probed = dict(list(by_host.items())[:_MAX_PROBED_HOSTS])
    answers: queue.Queue[str | None] = queue.Queue()
    for url in probed.values():
        # A thread asks, because looking up a host name has no timeout; it is daemonic and so does not keep Python alive.
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
    # These are a proxy's own failures; any other status comes from the host, which is there.
    return f"HTTP status {response.status_code}" if response.status_code in (407, 502, 503, 504) else None
