"""A connection to a Ray cluster: one that runs already, or one of our own that ends with the job."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

from ...data.runtime.errors import BadInput, CinefuseError, UsageError

_OBJECT_STORE = 256 * 2**20
# Ray sends nothing to anybody: no usage report, no metrics, no dashboard
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_raylet_start_wait_time_s": "180",
}
# a cluster of our own stays on this machine: the first switch, despite its name, makes all its addresses 127.0.0.1;
# its workers run at the priority of the command, where Ray would let all other programs go first
_OF_OUR_OWN = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_worker_niceness": "0"}
# on a busy machine a node may miss the half minute that Ray grants it
_STARTS = 3
# a head that stands may come back; Ray itself gives it up, and ends this process at once, after 60 seconds
_SECONDS_BETWEEN_LOOKS = 5.0
_MAX_FAILED_LOOKS = 6


@dataclass(frozen=True)
class Cluster:
    """Which Ray cluster (None: what $RAY_ADDRESS names, else one on this machine) and how many workers on it."""

    address: str | None = None
    workers: int | None = None
    send_rows: bool = False


class Connection:
    """A connection to the Ray cluster at `address` (None: what $RAY_ADDRESS names, else one of our own).

    Enter it to connect; leaving it ends every process that it started. Raises BadInput where Ray is missing or no such
    cluster is there.
    """

    def __init__(self, address: str | None, fewest_cores: int) -> None:
        if find_spec("ray") is None:
            raise BadInput("--engine ray: Ray is not installed; pip install 'cinefuse[ray]'")
        self.address = address or os.environ.get("RAY_ADDRESS") or "local"
        if "://" in self.address:
            raise UsageError(
                f"--address {self.address}: expected HOST:PORT or auto; from another machine, use `ray job submit`"
            )
        self._fewest_cores = fewest_cores
        self._folder: str | None = None
        self._looked, self._failed_looks = time.monotonic(), 0

    @property
    def own(self) -> bool:
        """Whether the cluster is one of our own, on this machine."""
        return self.address == "local"

    def __enter__(self) -> Connection:
        _prepare_environment(own=self.own)
        import ray

        self.ray: Any = ray
        _silence(ray)
        options: dict[str, Any] = {
            "address": self.address,
            "log_to_driver": False,
            "configure_logging": False,
            "logging_level": logging.CRITICAL,
        }
        if self.own:
            cores = max(os.cpu_count() or 1, self._fewest_cores)
            self._folder = tempfile.mkdtemp(prefix="cinefuse-ray-", dir=_folder_for_sockets())
            options |= {"include_dashboard": False, "num_cpus": cores, "object_store_memory": _OBJECT_STORE}
            options |= {"_node_ip_address": "127.0.0.1", "_temp_dir": self._folder}
        else:
            refuse_a_silent(self.address)
        try:
            self._connect(options)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with _own_sigterm(), suppress(Exception):
            self.ray.shutdown()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _connect(self, options: dict[str, Any]) -> None:
        left = _STARTS if self.own else 1
        while left:
            left -= 1
            try:
                with _own_sigterm(), _without_bystanders(self.ray):
                    self.ray.init(**options)
                return
            except Exception as error:  # a node that does not come up in time is a plain one
                self.ray.shutdown()
                if not left:
                    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                    raise _no_cluster(self.address, reason) from None

    def result(self, ref: Any) -> Any:
        """The return value of a worker's call; an error that it raised is raised here."""
        try:
            return self.ray.get(ref)
        except self.ray.exceptions.RayTaskError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, CinefuseError):
                raise cause from None
            if isinstance(cause, ImportError):
                raise BadInput(
                    f"a Ray worker cannot import what it needs ({cause}); install the same cinefuse on every machine"
                ) from None
            raise

    def refuse_a_lost_head(self) -> None:
        """Look, now and then, whether the head of the cluster is there. Raises CinefuseError where it is gone for good.

        Without it workers go on with their tasks for a while, but none of them can be replaced.
        """
        if self.own:
            dead = {name for name, _ in self.ray._private.worker._global_node.dead_processes()}
            if dead & {"gcs_server", "raylet"}:
                raise CinefuseError("Ray's own processes died; rows that were written stay: run the same command again")
        elif time.monotonic() - self._looked >= _SECONDS_BETWEEN_LOOKS:
            self._failed_looks = 0 if _listens(self.ray.get_runtime_context().gcs_address) else self._failed_looks + 1
            self._looked = time.monotonic()
            if self._failed_looks >= _MAX_FAILED_LOOKS:
                raise CinefuseError(
                    f"the head of the Ray cluster at {self.address} is gone; rows that were written stay: start the "
                    "cluster, then the same command again"
                )


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with suppress(OSError), socket.create_connection((host, int(port)), timeout=2):
        return True
    return False


def refuse_a_silent(address: str) -> None:
    """Raises BadInput where nobody listens: Ray itself would try for a quarter of an hour to reach the address."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise _no_cluster(address, error.strerror or str(error)) from None


def _no_cluster(address: str, reason: str) -> BadInput:
    if address == "local":
        return BadInput(f"Ray did not start on this machine: {reason}; leave out --engine ray, or run it again")
    return BadInput(
        f"no Ray cluster at {address}: {reason}; start one with `ray start --head`, or leave --address out to use this "
        "machine alone"
    )


def _prepare_environment(*, own: bool) -> None:
    """What Ray reads of the environment as it is imported; what the user has set stays."""
    wanted = _QUIET | (_OF_OUR_OWN if own else {})
    if own and not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & {*os.environ}:
        # other users of this machine reach its loopback; a token in the environment leaves no file in the home
        wanted |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    os.environ.update({name: value for name, value in wanted.items() if name not in os.environ})


def _silence(ray: Any) -> None:
    """Whatever matters is an exception too, and what Ray prints would stand between the events on standard output."""
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    ray._private.worker.print_to_stdstream = lambda *_, **__: None  # no option leaves its word on dead workers out


@contextmanager
def _without_bystanders(ray: Any) -> Iterator[None]:
    """A cluster of our own has no autoscaler and no reader of logs: processes that take their share of the cores."""
    parameter = ray._private.parameter
    complete = parameter.RayParams
    parameter.RayParams = partial(complete, no_monitor=True, include_log_monitor=False)  # `ray.init` has no such option
    try:
        yield
    finally:
        parameter.RayParams = complete


def _folder_for_sockets() -> str:
    """The folder for temporary files, unless its name is too long for a socket in it."""
    folder = tempfile.gettempdir()
    return folder if len(folder) <= 20 else "/tmp"


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """SIGTERM stays what it is, whatever a library makes of it inside."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
