"""Words that arguments choose from; imports nothing heavy, so that the command line's help is there at once."""

from __future__ import annotations

from typing import Literal, get_args

Category = Literal["upper", "lower", "dress"]
GarmentPhoto = Literal["flat-lay", "model"]
PoseMethod = Literal["openpose", "dwpose"]
InitFrom = Literal["agnostic", "person", "noise"]
OutputType = Literal["pil", "np", "pt", "latent"]
OnError = Literal["raise", "skip"]
DtypeName = Literal["fp16", "bf16", "fp32"]
Quality = Literal["exact", "balanced", "fast", "turbo"]

ImageMetric = Literal["ssim", "psnr", "lpips", "ssim_region", "psnr_region"]
SetMetric = Literal["fid", "kid_x1000"]
FeatureLibrary = Literal["clean-fid", "torchmetrics"]
DataKind = Literal["viton-hd", "dress-code", "folder", "pairs", "persons", "synthetic"]
Setting = Literal["paired", "unpaired"]
Split = Literal["train", "test"]
StyleName = Literal["studio", "shifted", "photo"]

Trainable = Literal["authors", "lora", "full"]

CATEGORIES: tuple[Category, ...] = get_args(Category)
GARMENT_PHOTOS: tuple[GarmentPhoto, ...] = get_args(GarmentPhoto)
POSE_METHODS: tuple[PoseMethod, ...] = get_args(PoseMethod)
INIT_FROM: tuple[InitFrom, ...] = get_args(InitFrom)
OUTPUT_TYPES: tuple[OutputType, ...] = get_args(OutputType)
ON_ERROR: tuple[OnError, ...] = get_args(OnError)
DTYPE_NAMES: tuple[DtypeName, ...] = get_args(DtypeName)
QUALITIES: tuple[Quality, ...] = get_args(Quality)

IMAGE_METRICS: tuple[ImageMetric, ...] = get_args(ImageMetric)
SET_METRICS: tuple[SetMetric, ...] = get_args(SetMetric)
METRICS: tuple[ImageMetric | SetMetric, ...] = (*IMAGE_METRICS, *SET_METRICS)
FEATURE_LIBRARIES: tuple[FeatureLibrary, ...] = get_args(FeatureLibrary)
DATA_KINDS: tuple[DataKind, ...] = get_args(DataKind)
SETTINGS: tuple[Setting, ...] = get_args(Setting)
SPLITS: tuple[Split, ...] = get_args(Split)
STYLES: tuple[StyleName, ...] = get_args(StyleName)

TRAINABLE: tuple[Trainable, ...] = get_args(Trainable)
