"""Collections too large for one run or one machine: recognizers for data engines, shards, and other file systems."""

from ddamfn.distributed.batch import BatchRecognizer

__all__ = ["BatchRecognizer"]
