"""`stableviton app`: try-on in a browser, and the same server as an HTTP service."""

from __future__ import annotations

import argparse
import copy
import functools
import logging
import os
import re
import sys
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInput, MissingDependency
from ..pipelines.places import BUNDLED_MODEL
from .arguments import add_model, parse_count, parse_number
from .consent import Consent, missing_networks
from .device import choose_device, choose_dtype
from .loading import load_pipeline
from .messages import print_message

if TYPE_CHECKING:
    import torch

    from ..pipelines.pipeline_tryon import TryOnPipeline

PORT = 8000
TOKEN_VARIABLE = "STABLEVITON_TOKEN"
MIN_TOKEN = 16  # characters
NEW_TOKEN = "new"
EXAMPLES = (
    "stableviton app --open",
    "stableviton app --model converted/ --host 0.0.0.0 --token new",
)


def add_parser(commands: Any, **options: Any) -> None:
    parser = commands.add_parser(
        "app",
        help="try-on in a browser, and over HTTP",
        description="Serve a page to try garments on, and the HTTP service that it uses (described at /openapi.json). "
        "Images stay in this process's memory and are deleted with their job; nothing is written to a disk and "
        "nothing is sent anywhere. Ctrl-C ends it.",
        **options,
    )
    network = parser.add_argument_group("network")
    network.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s: this machine only)")
    network.add_argument(
        "--port", type=parse_port, default=PORT, metavar="N", help="port (%(default)s); 0 takes one that is free"
    )
    network.add_argument(
        "--token",
        metavar="TEXT",
        help=f"what requests must bring as a bearer token, of {MIN_TOKEN} characters at least, or {NEW_TOKEN}: a "
        f"random one; needed beyond this machine; may come from the environment, as {TOKEN_VARIABLE}",
    )
    network.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="name that the server goes by as well"
    )
    network.add_argument("--open", action="store_true", help="open the page in the browser")

    bounds = parser.add_argument_group("bounds")
    bounds.add_argument("--max-queue", type=parse_count, default=32, metavar="N", help="jobs that wait (%(default)s)")
    bounds.add_argument(
        "--max-upload", type=parse_count, default=40, metavar="MIB", help="size of a request (%(default)s)"
    )
    bounds.add_argument(
        "--max-megapixels", type=parse_count, default=50, metavar="N", help="size of an image (%(default)s)"
    )
    bounds.add_argument(
        "--max-memory", type=parse_count, default=2048, metavar="MIB", help="memory of all jobs' images (%(default)s)"
    )
    bounds.add_argument(
        "--time-limit", type=parse_number, default=600, metavar="SECONDS", help="time that a job may run (%(default)g)"
    )
    bounds.add_argument(
        "--keep", type=parse_number, default=1800, metavar="SECONDS", help="time that a result is kept (%(default)g)"
    )
    bounds.add_argument(
        "--rate",
        type=parse_number,
        default=120,
        metavar="N",
        help="jobs that one address may begin in a minute (%(default)g); 0 for no bound",
    )

    model = parser.add_argument_group("model")
    add_model(
        model,
        default=BUNDLED_MODEL,
        help="bundled (the default: the small model that comes with the package), a converted folder, a released "
        "checkpoint file, or a Hub repository",
    )
    model.add_argument(
        "--workers",
        type=parse_count,
        default=1,
        metavar="N",
        help="jobs at once: on the first N CUDA devices; with --device, all N on that one (%(default)s)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    try:
        from ..serving import api, server
    except ImportError as error:
        raise MissingDependency(
            f"the app needs an extra ({error.name} is missing): pip install 'stableviton-sdk[app]'."
        ) from error
    from ..pipelines.identity import model_identity
    from ..serving.guard import LOCAL_NAMES, Access
    from ..serving.job import Limits
    from ..serving.jobs import JobEngine
    from ..serving.uploads import UploadLimits

    token = _choose_token(arguments.token)
    is_local = server.is_loopback(arguments.host)
    if not is_local and token is None:
        raise InvalidInput(
            f"--host {arguments.host} can be reached from other machines: pass --token {NEW_TOKEN} as well, or leave "
            "--host out."
        )
    devices = _choose_devices(arguments.device, arguments.workers)
    listener = server.listen(arguments.host, arguments.port)  # before the long loading
    try:
        pipelines = load_pipelines(arguments, devices)
        checkpoint_file = arguments.model if os.path.isfile(arguments.model) else None
        options = api.ServiceOptions(
            access=Access(
                token=token,
                hosts={*LOCAL_NAMES, *(name.lower() for name in (arguments.host, *arguments.allow_host))},
                any_address=not is_local,
                requests_a_minute=arguments.rate,
            ),
            uploads=UploadLimits(bytes=arguments.max_upload * 2**20, pixels=arguments.max_megapixels * 10**6),
            identity=model_identity(pipelines[0], checkpoint_file),
        )
        limits = Limits(
            queue=arguments.max_queue,
            seconds=arguments.time_limit,
            keep_seconds=arguments.keep,
            keep_bytes=arguments.max_memory * 2**20,
        )
        with JobEngine(pipelines, limits) as engine, _tracebacks_of_defects():
            address = _address(arguments.host, listener.getsockname()[1], token)
            print(f"{address} (Ctrl-C ends it)", flush=True)
            if arguments.open:
                import webbrowser

                webbrowser.open(address)
            server.make_server(api.create_app(engine, pipelines[0], options), engine).run([listener])
    finally:
        listener.close()
    print_message("stopped; nothing is left of what was uploaded")


def parse_port(text: str) -> int:
    """A port; errors are for argparse."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, from 0 to 65535")
    return int(text)


def _choose_token(given: str | None) -> str | None:
    token = os.environ.get(TOKEN_VARIABLE) if given is None else given
    if token == NEW_TOKEN:
        import secrets

        return secrets.token_urlsafe(32)
    if token is not None and not re.fullmatch(rf"[!-~]{{{MIN_TOKEN},}}", token):
        raise InvalidInput(
            f"the token must be {MIN_TOKEN} or more ASCII characters without spaces: pass --token {NEW_TOKEN} for a "
            "random one."
        )
    return token


def _choose_devices(name: str | None, workers: int) -> list[torch.device]:
    """One device for each worker."""
    import torch

    device = choose_device(name)
    if name is not None or device.type != "cuda" or workers == 1:
        return [device] * workers
    if workers > torch.cuda.device_count():
        raise InvalidInput(
            f"--workers {workers} needs as many CUDA devices, and there are {torch.cuda.device_count()}: pass fewer, "
            "or --device to share one."
        )
    return [torch.device("cuda", number) for number in range(workers)]


def load_pipelines(arguments: argparse.Namespace, devices: list[torch.device]) -> list[TryOnPipeline]:
    """A pipeline for each worker; workers of one device share theirs."""
    dtype = choose_dtype(arguments.dtype, devices[0], arguments.model)
    consent = Consent(arguments.yes)
    networks = functools.partial(missing_networks, pose=None, wanted="")
    loaded: dict[Any, TryOnPipeline] = {}
    for device in dict.fromkeys(devices):
        if loaded:
            pipeline = copy.deepcopy(next(iter(loaded.values())))
        else:
            pipeline = load_pipeline(arguments.model, arguments.checkpoint, dtype, consent, networks)
        pipeline.set_progress_bar_config(disable=True)
        loaded[device] = pipeline.to(device)
        pipeline.optimize()
    return [loaded[device] for device in devices]


def _address(host: str, port: int, token: str | None) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/" + (f"#token={token}" if token else "")


def _tracebacks_of_defects() -> Any:
    """For a while, print where a defect came from, which the command line's own lines leave out."""
    return _Tracebacks(logging.getLogger("stableviton_sdk.serving"))


class _Tracebacks(logging.Handler):
    """A handler that is a context manager, and writes tracebacks alone."""

    def __init__(self, logger: logging.Logger):
        super().__init__(logging.ERROR)
        self.logger = logger

    def __enter__(self) -> None:
        self.logger.addHandler(self)

    def __exit__(self, *_: object) -> None:
        self.logger.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            print(logging.Formatter().formatException(record.exc_info), file=sys.stderr, flush=True)
