"""What differs between the releases of the official frontend, as one table.

Each field of `Rules` is one observable difference in the prompt; ``RELEASES`` says which release does what. A release
that is not listed behaves as the nearest listed one below it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final, Literal

from comfyclient.errors import ConfigError

__all__ = ["NEWEST", "RELEASES", "Rules", "release_of", "rules_for"]

_SAVE_CLASSES_127: Final = frozenset({
    "SaveImage", "SaveAnimatedWEBP", "SaveWEBM", "SaveAudio", "SaveGLB", "SaveAnimatedPNG", "CLIPSave", "VAESave",
    "ModelSave", "LoraSave", "SaveLatent",
})  # fmt: skip
_SAVE_CLASSES_149: Final = _SAVE_CLASSES_127 | {
    "SaveImageAdvanced", "SaveSVGNode", "SaveVideo", "SaveAudioMP3", "SaveAudioOpus", "SaveAudioAdvanced",
    "Save3DAdvanced", "SaveGaussianSplat", "SavePointCloud",
}  # fmt: skip
_AUDIO_CLASSES_127: Final = frozenset({"LoadAudio", "SaveAudio", "PreviewAudio", "SaveAudioMP3", "SaveAudioOpus"})


@dataclass(frozen=True, slots=True)
class Rules:
    """How one release of the frontend turns a workflow into a prompt."""

    release: str

    # Connections
    links_table: bool
    """The links table says what is connected; before, each input's own ``link`` field did."""
    muted_blocks: bool
    """A muted source gives nothing, so a linked widget keeps its value; before, the input's key was deleted."""
    host_value_overwrites: bool
    """A host's value was written into the inner widget, and stays there when the host's link gives nothing."""

    # Ids and subgraphs
    renumber: bool
    """Node ids that stand in several definitions are made unique when the file is loaded."""
    renumber_root: bool
    """So are duplicate ids of root nodes."""
    skip_inactive_root_host: bool
    """A muted or bypassed subgraph node of the root graph contributes nothing."""
    promote_by_number: bool
    """A host's input stands for the widget at the link's slot number; later, for the one whose slot holds the link."""
    proxy_widgets: bool
    """``properties.proxyWidgets`` becomes promoted inputs."""
    proxy_null: bool
    """A null in the host's values is a value, not a hole."""
    stale_host_inputs: bool
    """Host inputs that the definition lacks are kept."""
    group_nodes: Literal["expanded", "subgraph"]
    """Legacy group nodes: ids ``group:index``, or a new subgraph with new ids."""

    # Nodes and widgets
    type_renames: tuple[tuple[str, str], ...]
    unknown_numbered: bool
    """Values of unknown nodes are named ``UNKNOWN``, ``UNKNOWN_1``, …; before, all ``UNKNOWN``."""
    unknown_title: str | None
    dynamic_inputs: bool
    """Dynamic combos, autogrow lists and match types exist."""
    dynamic_groups: bool
    float_control: bool
    """FLOAT inputs and multi-select combos may have a control widget."""
    curve: Literal["socket", "wrap_lists", "typed"]
    modern_widgets: bool
    """BOUNDING_BOX, RANGE, COLORS and the other widgets of newer releases exist."""
    newest_widgets: bool
    legacy_widgets: bool
    """FILEUPLOAD, TREESELECT, MULTISELECT and SELECTBUTTON exist."""
    color_default: bool
    """COLOR takes its own default."""
    textarea_default: bool
    image_compare_stored: bool
    load_3d_buttons: Literal["always", "with model_file"]
    audio_ui_emitted: bool
    audio_classes: frozenset[str]
    preview_any_emitted: bool
    custom_combo: bool

    # Values
    duplicate_names: Literal["last", "shared", "renamed"]
    object_values: Literal["ignored", "undefined", "positional"]
    fallback_names: bool
    multiline: Literal["string_lf", "raw", "string"]
    image_folder_suffix: bool
    null_combo_first: bool
    """A combo whose value is null takes its first option after loading."""
    fix_nested: bool
    """The repairs of old sampler values apply inside subgraphs too."""
    legacy_migration: Literal["1.27", "1.49", "1.58"]
    """How the dummy values of pre-1.16 files are recognised."""
    primitive_needs_type: bool
    """A primitive's stored value counts only if its output type equals the target's."""
    primitive_feeds_host: bool
    """A primitive's value reaches a promoted input of a subgraph."""

    # Emission
    title_order: tuple[Literal["bundled", "server"], ...]
    pack_meta: bool
    """``_meta`` names the node pack (``cnr_id``, ``aux_id``, ``ver``)."""
    save_classes: frozenset[str]
    """Classes whose ``filename_prefix`` has its ``%…%`` replaced."""


_R158: Final = Rules(
    release="1.58",
    links_table=True,
    muted_blocks=True,
    host_value_overwrites=False,
    renumber=True,
    renumber_root=True,
    skip_inactive_root_host=True,
    promote_by_number=False,
    proxy_widgets=True,
    proxy_null=True,
    stale_host_inputs=False,
    group_nodes="subgraph",
    type_renames=(),
    unknown_numbered=True,
    unknown_title="",
    dynamic_inputs=True,
    dynamic_groups=True,
    float_control=True,
    curve="typed",
    modern_widgets=True,
    newest_widgets=True,
    legacy_widgets=False,
    color_default=True,
    textarea_default=True,
    image_compare_stored=False,
    load_3d_buttons="with model_file",
    audio_ui_emitted=False,
    audio_classes=_AUDIO_CLASSES_127 | {"SaveAudioAdvanced"},
    preview_any_emitted=False,
    custom_combo=True,
    duplicate_names="renamed",
    object_values="positional",
    fallback_names=True,
    multiline="string",
    image_folder_suffix=False,
    null_combo_first=True,
    fix_nested=True,
    legacy_migration="1.58",
    primitive_needs_type=True,
    primitive_feeds_host=False,
    title_order=("server", "bundled"),
    pack_meta=True,
    save_classes=_SAVE_CLASSES_149,
)

_R149: Final = replace(
    _R158,
    release="1.49",
    links_table=False,
    renumber_root=False,
    proxy_null=False,
    unknown_title=None,
    dynamic_groups=False,
    curve="wrap_lists",
    newest_widgets=False,
    textarea_default=False,
    duplicate_names="shared",
    object_values="undefined",
    fallback_names=False,
    multiline="raw",
    legacy_migration="1.49",
    primitive_needs_type=False,
    title_order=("bundled", "server"),
    pack_meta=False,
)

_R127: Final = replace(
    _R149,
    release="1.27",
    muted_blocks=False,
    host_value_overwrites=True,
    renumber=False,
    skip_inactive_root_host=False,
    promote_by_number=True,
    proxy_widgets=False,
    stale_host_inputs=True,
    group_nodes="expanded",
    type_renames=(
        ("T2IAdapterLoader", "ControlNetLoader"),
        ("ConditioningAverage ", "ConditioningAverage"),
        ("SDV_img2vid_Conditioning", "SVD_img2vid_Conditioning"),
    ),
    unknown_numbered=False,
    dynamic_inputs=False,
    float_control=False,
    curve="socket",
    modern_widgets=False,
    legacy_widgets=True,
    color_default=False,
    image_compare_stored=True,
    load_3d_buttons="always",
    audio_ui_emitted=True,
    audio_classes=_AUDIO_CLASSES_127,
    preview_any_emitted=True,
    custom_combo=False,
    duplicate_names="last",
    object_values="ignored",
    multiline="string_lf",
    image_folder_suffix=True,
    null_combo_first=False,
    fix_nested=False,
    legacy_migration="1.27",
    primitive_feeds_host=True,
    save_classes=_SAVE_CLASSES_127,
)

RELEASES: Final[dict[str, Rules]] = {rules.release: rules for rules in (_R127, _R149, _R158)}
"""The known releases, oldest first."""

NEWEST: Final = "1.58"


def rules_for(release: str | None) -> Rules:
    """The rules of a release (``"1.49"``, ``"1.49.6"``), by default those of the newest known one.

    An unknown release behaves as the nearest known one below, one older than all as the oldest.

    Raises:
        ConfigError: That is no version number.
    """
    if release is None:
        return RELEASES[NEWEST]
    parts = re.match(r"v?(\d+)\.(\d+)", release)
    if parts is None:
        known = ", ".join(RELEASES)
        raise ConfigError(f"{release!r} is no release of the frontend", hint=f"give one like 1.58 (known: {known})")
    wanted = int(parts[1]), int(parts[2])
    chosen = _R127
    for rules in RELEASES.values():
        major, minor = rules.release.split(".")
        if (int(major), int(minor)) <= wanted:
            chosen = rules
    return chosen


def release_of(version: str | None) -> str | None:
    """A version that an instance names, if it is one: what a server says is nobody's mistake here."""
    try:
        rules_for(version)
    except ConfigError:
        return None
    return version
