"""An application on Ray Serve for as long as the process runs."""

import signal
from typing import Any

import ray
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig

__all__ = ["serve_until_stopped"]

STOPS = {signal.SIGTERM, signal.SIGINT}


def serve_until_stopped(application: Any, port: int, folder: str, *, route_prefix: str = "/") -> None:
    """Serve it on a port of this machine until a signal ends the process. `folder` is for what Ray keeps."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    # More CPUs than there are: here they only say how many actors may be placed.
    ray.init(
        address="local",
        num_cpus=16,
        object_store_memory=128 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        _temp_dir=folder,
    )
    serve.start(
        http_options=HTTPOptions(host="127.0.0.1", port=port),
        logging_config=LoggingConfig(enable_access_log=False),
    )
    quiet = LoggingConfig(enable_access_log=False, log_level="ERROR")
    serve.run(application, route_prefix=route_prefix, logging_config=quiet)
    signal.sigwait(STOPS)
    ray.shutdown()
