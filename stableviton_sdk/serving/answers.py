"""The API's JSON answers."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from .job import Snapshot, Status
from .problems import UNEXPECTED, Problem, problem_of


class ErrorDetail(BaseModel):
    code: str = Field(description="Stable; programs may rely on it.", examples=["queue_full"])
    message: str = Field(description="One sentence: what was wrong, and what to do.")


class ErrorAnswer(BaseModel):
    error: ErrorDetail


class Defaults(BaseModel):
    category: str
    quality: str
    detail: float


class InfoLimits(BaseModel):
    upload_bytes: int = Field(description="Of a whole request.")
    pixels: int = Field(description="Of an image.")
    garments: int = Field(description="Garments that a page should offer at once.")


class Samples(BaseModel):
    persons: list[str]
    garments: list[str]


class Info(BaseModel):
    model: str = Field(description="Public name of the model.")
    revision: str
    licence: str | None = Field(description="Of its weights.")
    notice: str | None = Field(description="What users should know of it.")
    categories: list[str]
    garment_photos: list[str]
    qualities: list[str]
    defaults: Defaults
    limits: InfoLimits
    samples: Samples | None = Field(description="Paths of images for a first try, where the model has some.")
    has_token: bool = Field(description="Whether requests need a bearer token.")


class Prepared(BaseModel):
    width: int
    height: int
    mask: str = Field(description="Data URL of a PNG of the photo's size as displayed; white is repainted.")
    warnings: list[str] = Field(description="A sentence each on what is doubtful.")


class ResultSize(BaseModel):
    width: int
    height: int


class Job(BaseModel):
    id: str = Field(description="Unguessable: who has the id has the job.")
    status: Status
    place: int | None = Field(description="In the queue, from 1.")
    step: int
    steps: int | None
    seconds: float = Field(description="Time that it has been running, or ran.")
    seed: int | None
    error: ErrorDetail | None
    result: ResultSize | None
    warnings: list[str] = Field(description="When it is done: a sentence each on what is doubtful.")

    @classmethod
    def of(cls, snapshot: Snapshot) -> Job:
        """A job as it is told to clients."""
        problem = error_of(snapshot)
        result = snapshot.result
        return cls(
            id=snapshot.id,
            status=snapshot.status,
            place=snapshot.place,
            step=snapshot.step,
            steps=snapshot.steps,
            seconds=round(snapshot.seconds, 3),
            seed=snapshot.details.get("seed"),
            error=None if problem is None else ErrorDetail(code=problem.code, message=problem.message),
            result=None if result is None else ResultSize(width=result.image.width, height=result.image.height),
            warnings=[] if result is None else result.warnings,
        )


class Source(BaseModel):
    x: float | None = Field(description="Pixel of the garment's own image, upright.")
    y: float | None
    confidence: float = Field(description="From 0 to 1.")
    painted: bool = Field(description="Whether the pixel was repainted; others are the photo's own.")


class Health(BaseModel):
    status: Literal["ok", "stopping"]
    queued: int
    running: int


def error_of(snapshot: Snapshot) -> Problem | None:
    """Why a job failed; a defect was logged when it happened."""
    if snapshot.error is None:
        return None
    return problem_of(snapshot.error) or Problem("internal", UNEXPECTED)
