"""Configurations: checked as a whole, every problem reported at once; and the options that every training has."""

from __future__ import annotations

import difflib
import json
import reprlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from ...errors import InvalidInput, MissingDependency, SeveralProblems

try:
    from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
    from pydantic import Field as Field
    from pydantic import ValidationInfo as ValidationInfo
    from pydantic import field_validator as field_validator
except ImportError as error:
    raise MissingDependency("training needs the package pydantic: pip install 'stableviton-sdk[train]'.") from error

WANTED = {
    "int_type": "pass a whole number",
    "int_from_float": "pass a whole number",
    "float_type": "pass a number",
    "finite_number": "pass a finite number",
    "bool_type": "pass true or false",
    "string_type": "pass a text",
    "list_type": "pass a list",
    "tuple_type": "pass a list",
    "dict_type": "pass a mapping",
    "model_type": "pass a mapping of options",
    "literal_error": "pass {expected}",
    "greater_than": "pass a number above {gt}",
    "greater_than_equal": "pass a number from {ge}",
    "less_than": "pass a number below {lt}",
    "less_than_equal": "pass a number up to {le}",
    "too_short": "pass {min_length} values",
    "too_long": "pass {max_length} values",
}


def _number(value: Any) -> Any:
    """YAML 1.1 reads `1e-4` as a text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Number = Annotated[float, BeforeValidator(_number)]
NotNegative = Annotated[Number, Field(ge=0)]
Probability = Annotated[Number, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Precision = Annotated[
    Literal["no", "bf16", "fp16"],
    BeforeValidator(lambda value: "no" if value is False else value),  # as YAML 1.1 reads no
]


class Config(BaseModel):
    """Base of all configurations: frozen, of the declared types, without unknown options.

    Raises:
        `InvalidInput`: naming every unknown, missing or unfit option, with the likely intention.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def __init__(self, **options: Any):
        try:
            super().__init__(**options)
        except ValidationError as error:
            raise _translated(type(self), error) from None

    # as pydantic marks its own: a configuration inside another is checked together with it
    __init__.__pydantic_base_init__ = True

    @classmethod
    def from_mapping(cls, content: Any) -> Self:
        """The configuration that nested mappings say, such as a YAML file's content.

        Raises:
            `InvalidInput`: naming every unknown, missing or unfit option, with the likely intention.
        """
        try:
            # JSON, as YAML, has lists for tuples and mappings for configurations; all other types are strict
            return cls.model_validate_json(json.dumps(content, default=str))
        except ValidationError as error:
            raise _translated(cls, error) from None

    @classmethod
    def default_of(cls, name: str) -> Any:
        """Default of an option.

        Args:
            name (`str`): Its name, with those of the options that it is part of before it: `"loss.ssim_weight"`.

        Returns:
            The value, or None where there is no such option or it has to be given.
        """
        first, _, rest = name.partition(".")
        field = cls.model_fields.get(first)
        if field is None or field.is_required():
            return None
        default = field.get_default(call_default_factory=True)
        if not rest:
            return default
        return default.default_of(rest) if isinstance(default, Config) else None

    @classmethod
    def from_first_layout(cls, stored: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
        """Options of a checkpoint of the first layout, under today's names; those that it lacks are as `now`."""
        return {**now, **stored}

    def replace(self, **changes: Any) -> Self:
        """A copy with other values of some options.

        Raises:
            `InvalidInput`: if they don't fit.
        """
        return type(self)(**{**dict(self), **changes})

    def as_mapping(self) -> dict[str, Any]:
        """The nested mappings that `from_mapping` reads, as JSON and YAML hold them."""
        return self.model_dump(mode="json")


class LoopConfig(Config):
    """Options of every training. The defaults are the authors'."""

    steps: Count = 100_000
    """Optimizer steps."""
    batch_size: Count = 32
    """Items of a step on each device."""
    learning_rate: NotNegative = 1e-4
    """Learning rate of AdamW, after the warm-up."""
    weight_decay: NotNegative = 0.01
    """Weight decay of AdamW."""
    schedule: Literal["constant", "cosine"] = "constant"
    """The learning rate after its warm-up: constant, or half a cosine down to zero."""
    warmup_steps: CountOrZero = 0
    """Steps of a linear warm-up of the learning rate."""
    max_grad_norm: NotNegative = 1.0
    """Norm that gradients are clipped to."""
    ema_decay: Annotated[Number, Field(ge=0, lt=1)] | None = 0.9999
    """Largest decay of the weights' moving average, which is what is kept in the end; null for none."""
    mixed_precision: Precision = "no"
    """`"no"`, `"bf16"` or `"fp16"`: what forward passes compute in; weights stay float32."""
    seed: CountOrZero = 0
    """Seed that order, augmentation and noise follow from, together with the step."""
    workers: CountOrZero = 4
    """Processes that read data."""
    checkpoint_every: Count = 1000
    """Steps between two checkpoints."""
    keep_checkpoints: Count = 3
    """Checkpoints that stay; older ones are deleted."""
    checkpoint_file_mb: Count = 4000
    """Largest file of a checkpoint."""
    log_every: Count = 10
    """Steps between two lines of metrics."""
    cpu: bool = False
    """Train on the CPU even where there is something better."""


def refusal(problems: Sequence[str]) -> InvalidInput:
    """The error that names all problems of a configuration."""
    return SeveralProblems("the training configuration can't be used", problems)


def _translated(kind: type[Config], error: ValidationError) -> InvalidInput:
    return refusal([_sentence(kind, problem) for problem in error.errors(include_url=False)])


def _sentence(kind: type[Config], problem: Mapping[str, Any]) -> str:
    """One of pydantic's problems in our words."""
    *outer, last = problem["loc"] or ("the configuration",)
    name, value = _dotted(problem["loc"]), reprlib.repr(problem["input"])
    if problem["type"] == "value_error":  # a validator's own sentence
        return str(problem["ctx"]["error"])
    if problem["type"] == "extra_forbidden":
        known = _options_at(kind, outer)
        close = difflib.get_close_matches(str(last), known, n=1)
        return f"there is no option {name}: " + (
            f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}."
        )
    if problem["type"] == "missing":
        if isinstance(last, int):
            return f"{_dotted(outer)} is {value}: pass one value more."
        return f"the option {name} is missing."
    wanted = WANTED.get(problem["type"], problem["msg"]).format_map(problem.get("ctx", {}))
    return f"{name} is {value}: {wanted}."


def _dotted(path: Sequence[str | int]) -> str:
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return name.removeprefix(".") or "the configuration"


def _options_at(kind: type[Config], path: Sequence[str]) -> list[str]:
    """Names of the options of a configuration inside another."""
    for name in path:
        annotation = kind.model_fields[name].annotation
        kind = next(
            part for part in (annotation, *get_args(annotation)) if isinstance(part, type) and issubclass(part, Config)
        )
    return list(kind.model_fields)
