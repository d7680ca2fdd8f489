"""The files store that settings name."""

from gateway.files.base import Files
from gateway.files.local import LocalFiles
from gateway.files.s3 import Bucket, S3Blobs
from gateway.files.store import FileStore
from gateway.settings import GatewaySettings


def files_of(settings: GatewaySettings) -> Files:
    """A bucket where `files_url` names one, else a folder. It can be pickled, and has nothing to close."""
    if settings.files_url is None:
        return LocalFiles(settings.data_dir)
    return FileStore(S3Blobs(Bucket.at(settings.files_url, settings.files_endpoint_url, settings.files_region)))
