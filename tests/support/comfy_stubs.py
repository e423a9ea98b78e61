"""Stand-ins of the parts of ComfyUI's interface that the nodes use: schemas are kept, nothing is computed."""

import importlib.util
import sys
import types
from dataclasses import dataclass, field
from typing import Any

from support.paths import ROOT

NODES = ROOT / "examples" / "comfyui"
PACKAGE = "stableviton_nodes"


class Interrupted(Exception):
    """What ComfyUI ends a run with."""


class _Port:
    def __init__(self, id=None, **options):
        self.id = id
        self.options = options


def _port_type(name):
    kinds = {kind: type(kind, (_Port,), {"io_type": name}) for kind in ("Input", "Output")}
    return type(name, (), kinds)


@dataclass
class _Schema:
    node_id: str
    display_name: str
    category: str
    description: str = ""
    inputs: list = field(default_factory=list)
    outputs: list = field(default_factory=list)
    hidden: list = field(default_factory=list)


class _Node:
    hidden = types.SimpleNamespace(unique_id="7")


class _Output:
    def __init__(self, *values: Any):
        self.values = values


class ComfyStubs:
    """ComfyUI as the nodes see it, and what they told it.

    Args:
        models_dir: ComfyUI's folder of models.
    """

    def __init__(self, models_dir):
        self.progress = []  # (node, step, steps, preview)
        self.interrupt_after = None  # steps
        self.freed = []
        self.emptied = 0
        io = types.SimpleNamespace(
            ComfyNode=_Node,
            Schema=_Schema,
            NodeOutput=_Output,
            Custom=_port_type,
            Hidden=types.SimpleNamespace(unique_id="UNIQUE_ID"),
            **{name: _port_type(name.upper()) for name in ("Boolean", "Combo", "Float", "Image", "Int", "Mask")},
        )
        management = types.SimpleNamespace(
            get_torch_device=lambda: "cpu",
            should_use_fp16=lambda device: False,
            free_memory=lambda size, device: self.freed.append(size),
            soft_empty_cache=self._empty,
            throw_exception_if_processing_interrupted=self._interrupt,
        )
        utils = types.SimpleNamespace(ProgressBar=self._bar)
        self.modules = {
            "comfy_api": types.ModuleType("comfy_api"),
            "comfy_api.v0_0_2": _module("comfy_api.v0_0_2", io=io, ComfyExtension=object),
            "comfy": _module("comfy", model_management=management, utils=utils),
            "folder_paths": _module("folder_paths", models_dir=str(models_dir), folder_names_and_paths={}),
        }

    def load(self, monkeypatch):
        """The nodes' package, imported as ComfyUI imports it: from its folder."""
        for name, module in self.modules.items():
            monkeypatch.setitem(sys.modules, name, module)
        for name in ("", ".nodes", ".models", ".tensors"):
            monkeypatch.delitem(sys.modules, PACKAGE + name, raising=False)
        spec = importlib.util.spec_from_file_location(
            PACKAGE, NODES / "__init__.py", submodule_search_locations=[str(NODES)]
        )
        package = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, PACKAGE, package)
        spec.loader.exec_module(package)
        return package

    def _empty(self):
        self.emptied += 1

    def _interrupt(self):
        if self.interrupt_after is not None and len(self.progress) >= self.interrupt_after:
            raise Interrupted

    def _bar(self, total, node_id):
        def update_absolute(value, preview):
            self.progress.append((node_id, value, total, preview))

        return types.SimpleNamespace(update_absolute=update_absolute)


def _module(name, **contents):
    module = types.ModuleType(name)
    vars(module).update(contents)
    return module
