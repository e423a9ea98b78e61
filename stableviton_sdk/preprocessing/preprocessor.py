"""`PersonPreprocessor`: a photo in, everything that the try-on network needs to know about it out."""

from __future__ import annotations

import copy
import math
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import ConfigMixin
from PIL import Image
from transformers import ImageProcessingMixin

from ..choices import CATEGORIES, POSE_METHODS, Category
from ..errors import InvalidInput, NoPersonFound, WeightsUnavailable
from ..hub.download import fetch_file
from ..images import ImageLike, load_image, load_photo
from ..validation import check_choice, is_number
from .analyzers.base import BodyAnalyzer
from .analyzers.compact import WEIGHTS as COMPACT_WEIGHTS
from .analyzers.compact import CompactAnalyzer
from .analyzers.networks import LazyNetworks
from .analyzers.photo import WEIGHTS as PHOTO_WEIGHTS
from .analyzers.photo import PhotoAnalyzer
from .boxes import check_box, choose_person
from .frame import Frame, choose_frame
from .inputs import TryOnInputs
from .masks.agnostic import agnostic_mask

ANALYSIS_PIXELS = 768 * 1024  # the analysis works at this many pixels, in the frame's proportions
MAX_PERSON_SIDE = 4096  # pixels, where `aspect` says how large the network works
# Sources of the weights of the analyzers that go by a name.
ANALYZERS = {"photo": PHOTO_WEIGHTS, "compact": COMPACT_WEIGHTS}
FORMER_NAMES = {"figure": "compact"}  # in saved configurations


class PersonPreprocessor(ConfigMixin, ImageProcessingMixin):
    """Frames a person in a photo, analyses their body, and derives agnostic mask and DensePose image.

    A component of the pipeline: saved in and loaded with it, as a configuration without weights (those that came with
    the folder stay with it). Networks load on first use, and stay until `unload`. Calls from several threads are safe;
    they take turns.

    Args:
        analyzer (`str` or `BodyAnalyzer`, *optional*, defaults to `"photo"`):
            Who analyses the body. `"photo"`: human parsing, pose and DensePose networks. `"compact"`: the bundled
            small network, trained on rendered figures. An object of your own that follows [`BodyAnalyzer`] works too,
            but isn't saved.
        weights (`dict`, *optional*):
            Other sources of the analyzer's weights than the known ones, by name: a local path; or None for weights
            to do without (`"human_parsing_atr"`, which finds the neck, can be spared for upper bodies); or a
            dictionary with `repo_id`, `filename` and, optionally, `repo_type` and `sha256`; or one with `file`, the
            name of a file in the folder that the preprocessor is loaded from.
        pose (`str`, *optional*, defaults to `"openpose"`): `"openpose"` or `"dwpose"`, where the analyzer has both.
    """

    config_name = "preprocessor_config.json"

    def __init__(
        self,
        analyzer: str | BodyAnalyzer = "photo",
        weights: Mapping[str, Any] | None = None,
        pose: str = "openpose",
    ):
        own = None if isinstance(analyzer, str) or analyzer is None else analyzer
        if own is not None and not isinstance(own, BodyAnalyzer):
            raise InvalidInput(
                f"analyzer is a {type(own).__name__}: pass a name, or an object with find_people(image) and "
                "__call__(image, *, person_box=None)."
            )
        if own is not None and weights:
            raise InvalidInput(
                "weights are for analyzers that go by a name: give your own analyzer its weights itself."
            )
        name = None if own is not None else FORMER_NAMES.get(analyzer, analyzer)
        self.register_to_config(analyzer=name, weights=_check_weights(name, weights), pose=pose)
        self._analyzer = own
        self._folder: Path | None = None
        self._reset()

    def __call__(
        self,
        person: ImageLike,
        *,
        category: Category = "upper",
        person_box: tuple[float, float, float, float] | None = None,
        pose: str | None = None,
        mask_dilation: float = 0.0,
        zoom_to_person: bool = False,
        aspect: tuple[int, int] = (3, 4),
        device: Any = None,
        analyzer: BodyAnalyzer | None = None,
    ) -> TryOnInputs:
        """Prepare one photo.

        A photo that has the network's proportions is taken whole. Another one is cropped to them around the person,
        or padded where no crop can hold the person.

        Args:
            person (`ImageLike`): Photo of a person, of any size and proportions.
            category (`str`, *optional*, defaults to `"upper"`): `"upper"`, `"lower"` or `"dress"`.
            person_box (`tuple[float, float, float, float]`, *optional*):
                Left, top, right, bottom of the person meant, in pixels of the upright photo. By default the largest
                and most central one.
            pose (`str`, *optional*): `"openpose"` or `"dwpose"`; by default what the preprocessor was made with.
            mask_dilation (`float`, *optional*, defaults to 0.0):
                Widen the mask by this share of the shoulder distance, 0 to 1, against the old garment's outline.
            zoom_to_person (`bool`, *optional*, defaults to `False`):
                Zoom in on a person who fills less than half of the frame, instead of keeping as much of the photo as
                possible.
            aspect (`tuple[int, int]`, *optional*, defaults to `(3, 4)`):
                Width to height of the frame; pixels that the network works at do as well.
            device (`str` or `torch.device`, *optional*): Device of the networks; the CPU by default.
            analyzer (`BodyAnalyzer`, *optional*): Body analyzer to use for this call.

        Returns:
            `TryOnInputs`

        Raises:
            `InvalidInput`: if the photo or an option can't be used.
            `NoPersonFound`: if the photo shows nobody, or too little of them.
            `WeightsUnavailable`: if a network's weights can't be had.
        """
        check_choice("category", category, CATEGORIES)
        if not is_number(mask_dilation, 0, 1):
            raise InvalidInput(
                f"mask_dilation is {mask_dilation!r}: pass a share of the shoulder distance, from 0 to 1."
            )
        size = _analysis_size(aspect)
        photo = load_photo(person, name="person")
        if analyzer is None:
            analyzer = self.analyzer(device, pose)
        with self._lock:
            frame, box = self._choose_frame(photo, analyzer, person_box, tuple(aspect), zoom_to_person)
            image = load_image(frame.crop(photo, size), srgb=True)
            analysis = analyzer(image, person_box=box)
        if analysis.parsing.shape != (image.height, image.width):
            raise InvalidInput(
                f"the analyzer returned maps of shape {analysis.parsing.shape} for a {size[0]} x {size[1]} image: "
                "they must have the image's height and width."
            )
        repaint = agnostic_mask(analysis.parsing, analysis.keypoints, category=category, dilation=mask_dilation)
        if not repaint.any():
            raise NoPersonFound(
                "nothing of the body part to repaint is in the photo: pass one that shows it, or a mask of your own."
            )
        from .densepose.render import draw_labels

        mask = Image.fromarray(repaint.astype(np.uint8) * np.uint8(255))
        # a network that works at more pixels than the analysis gets a person of its own resolution
        person_size = tuple(aspect) if size[0] < aspect[0] and max(aspect) <= MAX_PERSON_SIDE else size
        shown = image if person_size == size else load_image(frame.crop(photo, person_size), srgb=True)
        return TryOnInputs(
            photo=photo,
            frame=frame,
            frame_person=shown,
            frame_mask=mask,
            frame_densepose=draw_labels(analysis.densepose),
            parsing=analysis.parsing,
            keypoints=(analysis.keypoints / (*size, 1)).astype(np.float32),
        )

    def analyzer(self, device: Any = None, pose: str | None = None) -> BodyAnalyzer:
        """The body analyzer, its networks not loaded yet unless they were used before on this device.

        Args:
            device (`torch.device` or `str`, *optional*): Where its networks compute; the CPU by default.
            pose (`str`, *optional*): `"openpose"` or `"dwpose"`; the preprocessor's own choice by default.

        Raises:
            `InvalidInput`: if the preprocessor was loaded without the analyzer that it was saved with.
        """
        if self._analyzer is not None:
            return self._analyzer
        name = self.config["analyzer"]
        if name is None:
            raise InvalidInput(
                "this preprocessor was saved with an analyzer of its maker's own, which isn't in the folder: "
                "pass analyzer=, or make it anew."
            )
        pose = self.config["pose"] if pose is None else pose
        check_choice("pose", pose, POSE_METHODS)
        device = "cpu" if device is None else str(device)
        with self._models_lock:
            networks = self._models.setdefault(device, LazyNetworks(self._path_of, device))
        return PhotoAnalyzer(networks, pose) if name == "photo" else CompactAnalyzer(networks)

    def silhouette(self, device: Any = None) -> Callable[[Image.Image], np.ndarray] | None:
        """A function from an RGB image to every pixel's probability of showing a person, float32 (H, W) in [0, 1].

        Args:
            device (`torch.device` or `str`, *optional*): Where its networks compute; the CPU by default.

        Returns:
            `Callable`, or None where the analyzer has no such function.
        """
        analyzer = self.analyzer(device)
        silhouette = getattr(analyzer, "silhouette", None)
        if silhouette is None:
            return None

        def silhouette_in_turn(image: Image.Image) -> np.ndarray:
            with self._lock:
                return silhouette(image)

        return silhouette_in_turn

    def parser(self, device: Any = None) -> Callable[[Image.Image], np.ndarray]:
        """A function from an RGB image to its CIHP label map, uint8 (H, W), to cut garments out of photos with.

        Args:
            device (`torch.device` or `str`, *optional*): Where its networks compute; the CPU by default.
        """
        analyzer = self.analyzer(device)
        parse = getattr(analyzer, "parse", None) or (lambda image: analyzer(image).parsing)

        def parse_in_turn(image: Image.Image) -> np.ndarray:
            with self._lock:
                return parse(image)

        return parse_in_turn

    def unload(self) -> None:
        """Let go of all loaded networks, to give their memory back; they load again when they're needed."""
        with self._models_lock:
            self._models.clear()

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any
    ) -> None:
        """Save the configuration, and the weights that came with the folder it was loaded from.

        Args:
            save_directory (`str` or `os.PathLike`): Folder to write.
            push_to_hub (`bool`, *optional*, defaults to `False`): Upload it too, as `ConfigMixin` does.
            kwargs: See `ConfigMixin.save_config`.
        """
        target = Path(save_directory)
        target.mkdir(parents=True, exist_ok=True)
        for name, source in self.config["weights"].items():
            if source is not None and "file" in source:
                path = self._path_of(name)
                if path.resolve() != (target / source["file"]).resolve():
                    shutil.copyfile(path, target / source["file"])
        self.save_config(os.fspath(save_directory), push_to_hub=push_to_hub, **kwargs)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], subfolder: str | None = None, **kwargs: Any
    ) -> PersonPreprocessor:
        """Load from a folder, or the configuration from a repository on the Hub.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): The folder, or a repository's name.
            subfolder (`str`, *optional*): Folder inside it.
            kwargs: Options of the download, or of the constructor, which go before the saved ones.
        """
        config, kwargs = cls.load_config(
            os.fspath(pretrained_model_name_or_path), subfolder=subfolder, return_unused_kwargs=True, **kwargs
        )
        preprocessor = cls.from_config(config, **kwargs)
        folder = Path(pretrained_model_name_or_path, subfolder or "")
        preprocessor._folder = folder.resolve() if folder.is_dir() else None
        return preprocessor

    def __repr__(self) -> str:
        name = self.config["analyzer"] or type(self._analyzer).__name__
        return f"{type(self).__name__}(analyzer={name!r}, pose={self.config['pose']!r})"

    def __getstate__(self) -> dict[str, Any]:
        """For copies and other processes: everything but the loaded networks and the locks."""
        return {name: value for name, value in vars(self).items() if name not in ("_models", "_models_lock", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._reset()

    def _reset(self) -> None:
        self._models: dict[str, LazyNetworks] = {}
        self._models_lock = threading.Lock()
        self._lock = threading.RLock()  # networks run one at a time: together they would only need more memory

    def _choose_frame(
        self,
        photo: Image.Image,
        analyzer: BodyAnalyzer,
        person_box: Any,
        aspect: tuple[int, int],
        zoom_to_person: bool,
    ) -> tuple[Frame, tuple[float, float, float, float] | None]:
        """The frame, and the person's box in pixels of the image to analyse, where it is known."""
        whole = choose_frame(photo.size, aspect)
        if person_box is None:
            if whole.box == (0, 0, *photo.size) and not zoom_to_person:
                return whole, None  # looking for people first would run the same network twice
            boxes, scores = analyzer.find_people(load_image(photo, srgb=True))
            box = boxes[choose_person(boxes, scores, photo.size)]
        else:
            box = check_box(person_box, photo.size)
        frame = choose_frame(photo.size, aspect, tuple(float(edge) for edge in box), zoom_to_person=zoom_to_person)
        scale = np.divide(_analysis_size(aspect), frame.size)
        corners = (np.reshape(box, (2, 2)) - frame.box[:2]) * scale
        return frame, tuple(corners.ravel().tolist())

    def _path_of(self, name: str) -> Path | None:
        source = self.config["weights"][name]
        if source is None:
            return None
        if "file" in source:
            if self._folder is None:
                raise WeightsUnavailable(
                    f"the weights {name!r} belong to the folder that the preprocessor is loaded from: "
                    "use PersonPreprocessor.from_pretrained(folder)."
                )
            return resolve_weights(local_path=self._folder / source["file"])
        return resolve_weights(
            source.get("repo_id"),
            source.get("filename"),
            source.get("repo_type", "model"),
            source.get("sha256"),
            source.get("path"),
        )


def resolve_weights(
    repo_id: str | None = None,
    filename: str | None = None,
    repo_type: str = "model",
    sha256: str | None = None,
    local_path: str | os.PathLike[str] | None = None,
) -> Path:
    """Path of a weights file: the local one if given, else from the Hub's cache, downloaded on first use.

    Raises:
        `WeightsUnavailable`: one sentence on what failed.
    """
    if local_path is None:
        return fetch_file(repo_id, filename, repo_type=repo_type, sha256=sha256)
    path = Path(local_path)
    if not path.is_file():
        raise WeightsUnavailable(f"there is no file {path}: check the path in `weights`.")
    return path


def _check_weights(analyzer: str | None, weights: Mapping[str, Any] | None) -> dict[str, Any]:
    """Sources of all weights of an analyzer, in the form that is saved."""
    if analyzer is None:
        return {}
    if analyzer not in ANALYZERS:
        raise InvalidInput(
            f"analyzer is {analyzer!r}: pass one of {', '.join(map(repr, ANALYZERS))}, or an object of your own."
        )
    sources = copy.deepcopy(ANALYZERS[analyzer])
    for name, source in (weights or {}).items():
        if name not in sources:
            raise InvalidInput(f"weights has no {name!r} for the {analyzer!r} analyzer: it has {', '.join(sources)}.")
        if isinstance(source, (str, os.PathLike)):
            source = {"path": os.path.abspath(source)}
        if source is not None and not _is_source(source):
            raise InvalidInput(
                f"weights[{name!r}] is {source!r}: pass a path, None, or a dictionary with repo_id and filename."
            )
        sources[name] = None if source is None else dict(source)
    return sources


def _is_source(source: Any) -> bool:
    if not isinstance(source, Mapping) or not all(isinstance(value, str) for value in source.values()):
        return False
    if "file" in source:
        return set(source) == {"file"} and source["file"] == os.path.basename(source["file"]) != ""
    return set(source) == {"path"} or {"repo_id", "filename"} <= set(source) <= {
        "repo_id",
        "filename",
        "repo_type",
        "sha256",
    }


def _analysis_size(aspect: tuple[int, int]) -> tuple[int, int]:
    """Width and height that a frame is analysed at: as many pixels as 768 x 1024, in whole pixels."""
    if len(aspect) != 2 or not all(isinstance(side, (int, np.integer)) and side > 0 for side in aspect):
        raise InvalidInput(f"aspect is {aspect!r}: pass width and height as whole numbers, such as (3, 4).")
    ratio = aspect[0] / aspect[1]
    if not 0.2 <= ratio <= 5:
        raise InvalidInput(f"aspect is {aspect[0]}:{aspect[1]}: pass a less extreme one, from 1:5 to 5:1.")
    height = round(math.sqrt(ANALYSIS_PIXELS / ratio))
    return round(height * ratio), height
