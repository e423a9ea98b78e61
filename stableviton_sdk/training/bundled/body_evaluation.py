"""Scores of a body network on unseen figures: `python -m stableviton_sdk.training.bundled.body_evaluation FOLDER`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ...choices import STYLES
from ...data.synthetic import SyntheticSample, render_pair
from ...errors import NoPersonFound
from ...images import resize_mask
from ...preprocessing.analyzers.base import BodyAnalyzer
from ...preprocessing.labels import CIHP
from ...preprocessing.preprocessor import PersonPreprocessor
from .body_data import draw_empty

DENSEPOSE_LABELS = 25


class BodyScore:
    """Collects figures and what was made of them, and sums up.

    Args:
        preprocessor (`PersonPreprocessor`): Preprocessor with the analyzer to score.
    """

    def __init__(self, preprocessor: PersonPreprocessor):
        self.preprocessor = preprocessor
        self._parsing = np.zeros((len(CIHP), len(CIHP)), np.int64)  # truth, answer
        self._densepose = np.zeros((DENSEPOSE_LABELS, DENSEPOSE_LABELS), np.int64)
        self._errors: list[np.ndarray] = []
        self._joints = np.zeros(3, np.int64)  # to be seen, missed, made up
        self._masks: list[float] = []
        self._leaks: list[tuple[int, int, int]] = []  # pixels with any fabric, mostly fabric, all fabric pixels
        self._not_found = 0

    def add(self, sample: SyntheticSample) -> None:
        """Analyse a figure."""
        image = Image.fromarray(sample.person)
        try:
            analysis = self.preprocessor.analyzer()(image)
            inputs = self.preprocessor(image)
        except NoPersonFound:
            self._not_found += 1
            return
        _count(self._parsing, sample.parsing, analysis.parsing)
        _count(self._densepose, sample.densepose_labels, analysis.densepose)
        there, found = sample.keypoints[:, 2] > 0, analysis.keypoints[:, 2] > 0
        both = there & found
        self._errors.append(np.linalg.norm((sample.keypoints - analysis.keypoints)[both, :2], axis=1))
        self._joints += (there.sum(), (there & ~found).sum(), (found & ~there).sum())
        mask = np.asarray(resize_mask(inputs.frame_mask, image.size)) > 0
        self._masks.append((mask & sample.mask).sum() / (mask | sample.mask).sum())
        coverage = sample.worn_rendering.coverage
        self._leaks.append(
            ((sample.worn_mask & ~mask).sum(), ((coverage >= 0.5) & ~mask).sum(), sample.worn_mask.sum())
        )

    def summary(self) -> dict[str, float]:
        """Everything in numbers; lengths in pixels of 256 x 192."""
        errors, leaks = np.concatenate(self._errors), np.array(self._leaks)
        parsing, densepose = _ious(self._parsing), _ious(self._densepose)
        body = self._densepose[1:]
        return {
            "figures": len(self._leaks) + self._not_found,
            "not_found": self._not_found,
            "parsing_miou": float(np.nanmean(parsing)),
            "parsing_iou_upper_clothes": float(parsing[CIHP.UPPER_CLOTHES]),
            "parsing_accuracy": float(np.trace(self._parsing) / self._parsing.sum()),
            "densepose_miou": float(np.nanmean(densepose)),
            "densepose_accuracy": float(np.trace(self._densepose) / self._densepose.sum()),
            "densepose_accuracy_on_body": float(np.trace(self._densepose[1:, 1:]) / body.sum()),
            "joint_error_mean": float(errors.mean()),
            "joint_error_95th_percentile": float(np.quantile(errors, 0.95)),
            "joints_missed": float(self._joints[1] / self._joints[0]),
            "joints_made_up": float(self._joints[2] / self._joints[0]),
            "mask_iou": float(np.mean(self._masks)),
            "mask_iou_worst": float(np.min(self._masks)),
            "leak_pixels_mean": float(leaks[:, 0].mean()),
            "leak_share_of_garment": float(leaks[:, 0].sum() / leaks[:, 2].sum()),
            "leak_share_of_figures": float((leaks[:, 0] > 0).mean()),
            "solid_leak_pixels_mean": float(leaks[:, 1].mean()),
            "solid_leak_share_of_figures": float((leaks[:, 1] > 0).mean()),
        }

    def label_ious(self) -> dict[str, float]:
        """Intersection over union of every CIHP label that was seen."""
        values = _ious(self._parsing)
        return {label.name.lower(): float(values[label]) for label in CIHP if not np.isnan(values[label])}


def found_in_empty(analyzer: BodyAnalyzer, seed: int, count: int) -> float:
    """Share of images without anybody in which somebody was found all the same."""
    images = (Image.fromarray(draw_empty(seed, index)) for index in range(count))
    return sum(len(analyzer.find_people(image)[0]) for image in images) / count


def _count(table: np.ndarray, truth: np.ndarray, answer: np.ndarray) -> None:
    size = len(table)
    pairs = truth.ravel().astype(np.int64) * size + answer.ravel()
    table += np.bincount(pairs, minlength=size * size).reshape(size, size)


def _ious(table: np.ndarray) -> np.ndarray:
    """Per label; NaN for labels that the truth never had."""
    shared = np.diag(table)
    union = table.sum(axis=0) + table.sum(axis=1) - shared
    return np.where(table.sum(axis=1) > 0, shared / np.maximum(union, 1), np.nan)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the evaluation."""
    name = "python -m stableviton_sdk.training.bundled.body_evaluation"
    parser = argparse.ArgumentParser(prog=name, description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the preprocessor")
    parser.add_argument("--count", type=int, default=200, help="figures (default %(default)s)")
    parser.add_argument("--seed", type=int, default=902, help="not the training's (default %(default)s)")
    parser.add_argument("--style", choices=STYLES, default="studio", help="domain (default %(default)s)")
    options = parser.parse_args(arguments)
    preprocessor = PersonPreprocessor.from_pretrained(options.folder)
    score = BodyScore(preprocessor)
    for index in range(options.count):
        score.add(render_pair(options.seed, index, options.style))
    empty = found_in_empty(preprocessor.analyzer(), options.seed, options.count)
    report = {**score.summary(), "found_in_empty": empty, "parsing_iou": score.label_ious()}
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
