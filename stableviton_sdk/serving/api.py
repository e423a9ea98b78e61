"""The HTTP API and the page, as an ASGI application."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from .._version import __version__
from ..choices import CATEGORIES, GARMENT_PHOTOS, QUALITIES
from ..errors import TryOnError
from ..pipelines.loading import BUNDLED
from ..pipelines.places import BUNDLED_MODEL
from .answers import ErrorAnswer, Health, Info, Job, Prepared, Source, error_of
from .fields import DEFAULT_CATEGORY, DEFAULT_QUALITY, MAX_GUIDANCE, MAX_SEED, MAX_STEPS, TRY_ON_TEXTS, Fields
from .guard import Access, Guard
from .job import ENDED, Snapshot, UnknownJob
from .jobs import JobEngine
from .problems import Problem, problem_of, unexpected
from .tryon import PrepareWork, TryOnResult, TryOnWork
from .uploads import UploadLimits, UploadReader
from .warned import warnings_by_thread

if TYPE_CHECKING:
    from ..pipelines.pipeline_tryon import TryOnPipeline

PAGE = Path(__file__).parent / "page"
SAMPLES = BUNDLED / "samples"
SAMPLE_KINDS = ("person", "garment")
HEARTBEAT_SECONDS = 15.0
BUNDLED_NOTICE = (
    "This is the small bundled model, a preview for upper bodies: photos come out soft. "
    "Start with --model for another one."
)
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": "One sentence and a stable code."} for status in (422, "4XX", "5XX")
}
Pixel = Annotated[int, Query(ge=0, le=2**20, description="Of the result; 0, 0 is the upper left one.")]
IMAGE_ANSWER = {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}


@dataclass(frozen=True)
class ServiceOptions:
    """
    Args:
        access (`Access`, *optional*): Who may ask for what.
        uploads (`UploadLimits`, *optional*): Bounds of requests.
        garments (`int`, *optional*, defaults to 12): Garments that the page offers at once.
        identity (`Mapping[str, str]`, *optional*): Name and revision of the model, from `model_identity`.
    """

    access: Access = field(default_factory=Access)
    uploads: UploadLimits = field(default_factory=UploadLimits)
    garments: int = 12
    identity: Mapping[str, str] = field(default_factory=lambda: {"model": "checkpoint", "revision": ""})


def create_app(engine: JobEngine, pipeline: TryOnPipeline, options: ServiceOptions | None = None) -> Guard:
    """The service over an engine whose devices are pipelines.

    Args:
        engine (`JobEngine`): Runs the jobs; the application stops it when it ends.
        pipeline (`TryOnPipeline`): One of its pipelines, for what is said of the model.
        options (`ServiceOptions`, *optional*): Bounds, access, and the model's name.

    Returns:
        `Guard`: an ASGI application.
    """
    options = options or ServiceOptions()

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with warnings_by_thread():
            yield
            await run_in_threadpool(engine.stop)

    app = FastAPI(
        title="stableviton",
        description="Virtual try-on: a person and a garment in, the same photo with the garment on out. Every error "
        "is `{error: {code, message}}`: a stable code and one sentence.",
        version=__version__,
        docs_url=None,  # their scripts come from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        dependencies=[Security(HTTPBearer(auto_error=False, description="Where the server was given a token."))],
        responses=ERRORS,
    )
    app.add_exception_handler(Problem, _answer_problem)
    app.add_exception_handler(TryOnError, _answer_problem)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid_query)
    app.add_exception_handler(Exception, _answer_problem)
    _add_service(app, engine, UploadReader(options.uploads), options, pipeline)
    _add_jobs(app, engine)

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    app.mount("/static", StaticFiles(directory=PAGE, check_dir=False))
    if options.identity["model"] == BUNDLED_MODEL:
        app.mount("/samples", StaticFiles(directory=SAMPLES))
    return Guard(app, options.access)


def _add_service(
    app: FastAPI, engine: JobEngine, reader: UploadReader, options: ServiceOptions, pipeline: TryOnPipeline
) -> None:
    info = _describe(pipeline, options)

    @app.get("/healthz", summary="Whether the server takes work")
    def health(response: Response) -> Health:
        counts = engine.counts()
        if engine.is_stopping:
            response.status_code = 503
        status = "stopping" if engine.is_stopping else "ok"
        return Health(status=status, queued=counts["queued"], running=counts["running"])

    @app.get("/v1/info", summary="The model, its choices and the server's bounds")
    def get_info() -> Info:
        return info

    @app.post("/v1/prepare", summary="The mask of a photo", openapi_extra=_form(["person", "mask"], ["category"]))
    async def prepare(request: Request) -> Prepared:
        engine.check_room()
        async with reader.turn():
            form = await reader.read(request, ("person", "mask"), ("category",))
            category = Fields(form.texts).category
            images = await reader.decode(form, "person")
        work = PrepareWork(images["person"], images.get("mask"), category)
        del images
        result = (await _finished(engine, engine.submit(work, first=True).id)).result
        mask = await run_in_threadpool(_as_png_url, result.mask)
        return Prepared(width=result.mask.width, height=result.mask.height, mask=mask, warnings=result.warnings)

    @app.post(
        "/v1/try-on",
        summary="Queue a try-on",
        status_code=202,
        openapi_extra=_form(["person", "garment", "mask"], TRY_ON_TEXTS),
    )
    async def try_on(request: Request, response: Response) -> Job:
        engine.check_room()
        async with reader.turn():
            form = await reader.read(request, ("person", "garment", "mask"), TRY_ON_TEXTS)
            fields = Fields(form.texts)
            seed, call_options = fields.seed, fields.call_options()
            category, garment_photo = fields.category, fields.garment_photo
            images = await reader.decode(form, "person", "garment")
        work = TryOnWork(
            images["person"],
            images["garment"],
            images.get("mask"),
            category,
            garment_photo,
            seed,
            call_options,
            options.identity,
        )
        job = Job.of(engine.submit(work, details={"seed": seed}))
        response.headers["Location"] = f"/v1/jobs/{job.id}"
        return job


def _add_jobs(app: FastAPI, engine: JobEngine) -> None:
    @app.get("/v1/jobs/{id}", summary="A job as it is now")
    def get_job(id: str) -> Job:
        return Job.of(engine.get(id))

    @app.delete("/v1/jobs/{id}", summary="Cancel a job and delete it, with its images", status_code=204)
    def delete_job(id: str) -> Response:
        engine.forget(id)
        return Response(status_code=204)

    @app.get(
        "/v1/jobs/{id}/events",
        summary="A job's events as they happen",
        description="Server-sent events: `queued {place}`, `progress {step, steps, preview}` (a data URL, or null "
        "where there is no new one), then one of `done`, `failed` and `cancelled` with the job.",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
    )
    async def get_events(id: str) -> StreamingResponse:
        engine.get(id)
        return StreamingResponse(_events(engine, id), media_type="text/event-stream")

    @app.get("/v1/jobs/{id}/result", summary="The image", response_class=Response, responses={200: IMAGE_ANSWER})
    def get_result(id: str, format: Literal["png", "webp"] = "png", metadata: bool = True) -> Response:
        content = _result(engine, id).encode(format.upper(), metadata)
        headers = {"Content-Disposition": f'inline; filename="try-on.{format}"'}
        return Response(content, media_type=f"image/{format}", headers=headers)

    @app.get("/v1/jobs/{id}/source", summary="Where in the garment a pixel of the result came from")
    def get_source(id: str, x: Pixel, y: Pixel) -> Source:
        return Source(**_result(engine, id).source(x, y))

    @app.get(
        "/v1/jobs/{id}/attended",
        summary="The garment, with the places that a pixel of the result looked at",
        response_class=Response,
        responses={200: IMAGE_ANSWER},
    )
    def get_attended(id: str, x: Pixel, y: Pixel) -> Response:
        return Response(_result(engine, id).attended(x, y), media_type="image/png")


def _describe(pipeline: TryOnPipeline, options: ServiceOptions) -> Info:
    model = options.identity["model"]
    return Info(
        model=model,
        revision=options.identity["revision"],
        licence=pipeline.config.get("weights_licence"),
        notice=BUNDLED_NOTICE if model == BUNDLED_MODEL else None,
        samples=_samples() if model == BUNDLED_MODEL else None,
        categories=list(CATEGORIES),
        garment_photos=list(GARMENT_PHOTOS),
        qualities=list(QUALITIES),
        defaults={
            "category": DEFAULT_CATEGORY,
            "quality": DEFAULT_QUALITY,
            "detail": pipeline.config.default_detail,
        },
        limits={
            "upload_bytes": options.uploads.bytes,
            "pixels": options.uploads.pixels,
            "garments": options.garments,
        },
        has_token=options.access.token is not None,
    )


def _samples() -> dict[str, list[str]]:
    paths = sorted(SAMPLES.glob("*.png"))
    return {
        f"{kind}s": [f"/samples/{path.name}" for path in paths if path.name.startswith(kind)] for kind in SAMPLE_KINDS
    }


async def _finished(engine: JobEngine, id: str) -> Snapshot:
    """A short job's end, after which it is forgotten, as it is when nobody waits for it any more."""
    try:
        async with _changes(engine, id) as changed:
            while (job := engine.get(id)).status not in ENDED:
                await changed.wait()
                changed.clear()
    finally:
        with contextlib.suppress(UnknownJob):
            engine.forget(id)
    if problem := error_of(job):
        raise problem
    if job.result is None:
        raise Problem("cancelled", "the request was cancelled: send it again.")
    return job


async def _events(engine: JobEngine, id: str) -> AsyncIterator[str]:
    """A job's server-sent events, from now to its end."""
    job, sent = None, None
    try:
        async with _changes(engine, id) as changed:
            while True:
                changed.clear()
                job = engine.get(id)
                if job.status in ENDED:
                    yield _event(job.status, Job.of(job).model_dump())
                    return
                state = (job.status, job.place, job.step, job.preview)
                if state != sent and job.status == "queued":
                    yield _event("queued", {"place": job.place})
                elif state != sent:
                    is_new = sent is None or job.preview != sent[3]
                    data = {"step": job.step, "steps": job.steps, "preview": job.preview if is_new else None}
                    yield _event("progress", data)
                sent = state
                try:
                    await asyncio.wait_for(changed.wait(), HEARTBEAT_SECONDS)
                except TimeoutError:
                    yield ": still there\n\n"  # tells proxies that the connection lives, and us if it doesn't
    except UnknownJob:  # deleted meanwhile
        known = {} if job is None else Job.of(job).model_dump()
        yield _event("cancelled", {**known, "id": id, "status": "cancelled", "place": None})


@contextlib.asynccontextmanager
async def _changes(engine: JobEngine, id: str) -> AsyncIterator[asyncio.Event]:
    """An event that is set whenever a job changes."""
    loop, changed = asyncio.get_running_loop(), asyncio.Event()

    def tell() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(changed.set)

    leave = engine.follow(id, tell)
    try:
        yield changed
    finally:
        leave()


def _event(name: str, data: Mapping[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


def _result(engine: JobEngine, id: str) -> TryOnResult:
    job = engine.get(id)
    if problem := error_of(job):
        raise problem
    if not isinstance(job.result, TryOnResult):
        raise Problem("not_done", f"the job is {job.status} and has no result: wait for its end.")
    return job.result


def _as_png_url(mask: Any) -> str:
    file = io.BytesIO()
    mask.convert("1").save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


async def _answer_problem(_: Request, error: Exception) -> JSONResponse:
    problem = problem_of(error) or unexpected(error)
    return JSONResponse(problem.as_json(), problem.status, headers=problem.headers)


async def _answer_http_error(request: Request, error: HTTPException) -> JSONResponse:
    """Starlette's own: for paths and methods that there are not."""
    if error.status_code == 405:
        problem = Problem("method_not_allowed", "this address doesn't know the method: see /openapi.json.")
    elif error.status_code == 404:
        problem = Problem("not_found", "there is nothing at this address: see /openapi.json.")
    else:
        problem = Problem("bad_request", "the request can't be read: see /openapi.json.")
    return JSONResponse(problem.as_json(), problem.status, headers=error.headers)


async def _answer_invalid_query(_: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    name, reason = str(first["loc"][-1]), first["msg"].rstrip(".").lower()
    problem = Problem("invalid_field", f"{name} can't be used ({reason}): see /openapi.json.")
    return JSONResponse(problem.as_json(), problem.status)


def _form(files: list[str], texts: list[str] | tuple[str, ...]) -> dict[str, Any]:
    """OpenAPI's description of a multipart form."""
    described: dict[str, Any] = {
        "person": "Photo of a person.",
        "garment": "Image of the garment.",
        "mask": "White = repainted, of the whole photo; derived where it isn't sent.",
    }
    known = {
        "category": {"type": "string", "enum": list(CATEGORIES), "default": DEFAULT_CATEGORY},
        "garment_photo": {"type": "string", "enum": list(GARMENT_PHOTOS), "default": GARMENT_PHOTOS[0]},
        "quality": {"type": "string", "enum": list(QUALITIES), "default": DEFAULT_QUALITY},
        "detail": {"type": "number", "minimum": 0, "maximum": 1},
        "seed": {"type": "integer", "minimum": 0, "maximum": MAX_SEED},
        "steps": {"type": "integer", "minimum": 1, "maximum": MAX_STEPS},
        "guidance_scale": {"type": "number", "minimum": 0, "maximum": MAX_GUIDANCE, "default": 1},
    }
    properties = {
        name: {"type": "string", "contentMediaType": "application/octet-stream", "description": described[name]}
        for name in files
    } | {name: known[name] for name in texts}
    schema = {"type": "object", "properties": properties, "required": [name for name in files if name != "mask"]}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
