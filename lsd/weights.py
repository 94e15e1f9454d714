"""From a model's name to its configuration and weights.

Four kinds of names, and what people paste (`canonical`):

- `resnet50.a1_in1k`: a folder of that name under `LSD_MODEL_PATH`, else an installed package that holds the network
  (`lsd.packages`), else timm's own repository on the Hugging Face Hub
- `hf-hub:owner/repo` or `hf-hub:owner/repo@revision`: any repository on the Hub in timm's layout
- `local-dir:PATH`: a folder on this machine
- `demo:NAME`: one of the small models that ship with the project

All but the packages end in a folder in timm's layout (`config.json` beside a weights file). Where timm takes the weights of one of
its names from a repository of another name, only the weights are: the configuration is timm's own.
Weights are read from safetensors; pickled weights, which can run code when they are read, only where the caller opts in.
"""

import contextlib
import difflib
import functools
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lsd import disk, hub
from lsd.curated import CURATED
from lsd.demo import MODELS_DIR, demo_models
from lsd.errors import ModelError
from lsd.faults import is_network
from lsd.packages import PACKAGES, installed
from lsd.public import hub_token, model_refusal

log = logging.getLogger("lsd")

MAX_BYTES = int(os.environ.get("LSD_MAX_MODEL_BYTES", 4 * 2**30))  # of a weights file; a ViT-g in fp32 is 4 GB
_CURATED = frozenset(network.name for network in CURATED)
_PICKLES = ("pytorch_model.bin", "model.bin", "pytorch_model.pth", "model.pth")


@dataclass(frozen=True)
class Location:
    """Where one model's files lie.

    Attributes:
        name: the canonical name, by which the model is loaded again.
        config: path of config.json; None where the configuration is timm's own: of a package, and of a name of timm's whose
            weights lie in a repository of another.
        weights: path of the weights file.
        source: "demo", "local", "package" or "hub".
        repo: the repository on the Hub, the package, or the folder's name.
        revision: commit on the Hub, version of the package, None elsewhere.
    """

    name: str
    config: Path | None
    weights: Path
    source: str
    repo: str
    revision: str | None = None


def local_models() -> dict[str, Path]:
    """Folder name → folder of every model under the folders in `LSD_MODEL_PATH` (separated like PATH)."""
    found: dict[str, Path] = {}
    for root in filter(None, os.environ.get("LSD_MODEL_PATH", "").split(os.pathsep)):
        if Path(root).is_dir():
            for config in sorted(Path(root).glob("*/config.json")):
                found.setdefault(config.parent.name, config.parent)
    return found


def ready_models() -> list[str]:
    """Names of the models that load without a network: those in packages, those under `LSD_MODEL_PATH`, the demo models."""
    return list(dict.fromkeys([*installed(), *local_models(), *_demo_names()]))


def _demo_names() -> list[str]:
    return [f"demo:{name}" for name in demo_models()]


def locate(name: str, *, allow_pickle: bool = False, packages: bool = True) -> Location:
    """The files of the model called `name`; downloads them from the Hub if need be.

    Args:
        packages: whether a package may hold them.

    Raises:
        ModelError: unknown name, no network, no safetensors, larger than `MAX_BYTES`, or not on a public page's list.
    """
    found = _find(_permitted(name), allow_pickle, packages)
    if isinstance(found, Location):
        return found
    location = _on_hub(*found, allow_pickle)
    disk.touch(location.weights)
    return location


def _permitted(name: str) -> str:
    """`canonical`. Raises ModelError for what a public page does not load."""
    name = canonical(name)
    if trouble := model_refusal(name, ready_models):
        raise ModelError(trouble)
    return name


HERE, HUB, NOWHERE = "here", "hub", "nowhere"


@dataclass(frozen=True)
class Availability:
    """Whether a model can be had, as far as can be told without asking the Hub.

    Attributes:
        place: `HERE` (its files are on this machine), `HUB` (they are to be downloaded), or `NOWHERE`.
        location: where they are; None unless `HERE`.
        reason: one sentence on why it cannot be had, or not now; "" where it can.
    """

    place: str
    location: Location | None = None
    reason: str = ""

    @property
    def can_load(self) -> bool:
        """Whether it may be offered: it is here, or on a Hub that answers."""
        return not self.reason


def scheme(name: str) -> str:
    """What stands before the colon of a model's name, as `locate` reads it: "demo", "local-dir", "hf-hub", or ""."""
    before, colon, _ = canonical(name).partition(":")
    return before if colon else ""


_ADDRESS = re.compile(
    r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(?:models/)?((?!datasets/|spaces/)[^/?#]+/[^/?#]+)(?:/(?:tree|blob|resolve)/([^/?#]+))?(?:[/?#].*)?"
)
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(?:@[\w./-]+)?")


def canonical(name: str) -> str:
    """The name by which `locate` knows the model that somebody means: by its address on the Hub, as "owner/repository", by
    timm's own repository ("timm/resnet50.a1_in1k"), or by a name that timm has given up ("tv_resnet50").

    The Hub is not asked, a folder under `LSD_MODEL_PATH` keeps its name, and what is no name stays as it is.
    """
    name = name.strip()
    meant = _meant(name)
    # Every use of a model comes by here, so the disk is looked at only where a folder could have a say.
    return name if meant != name and name in local_models() else meant


@functools.lru_cache(maxsize=4096)
def _meant(name: str) -> str:
    if address := _ADDRESS.fullmatch(name):
        repo, revision = address.groups()
        name = f"{repo}@{revision}" if revision and revision != "main" else repo
    before, colon, rest = name.partition(":")
    if colon and before in ("hf_hub", "local_dir"):
        name = f"{before.replace('_', '-')}:{rest}"
    if _REPOSITORY.fullmatch(name):
        name = f"hf-hub:{name}"
    if name.startswith("hf-hub:timm/") and _is_timms(known := name.removeprefix("hf-hub:timm/")):
        name = known
    return name if ":" in name or "." in name else _successor(name)  # timm has given up no name with a tag


def _is_timms(name: str) -> bool:
    """Whether timm has weights of that very name in its own repository of that name."""
    import timm

    if "." not in name or not timm.is_model(name.partition(".")[0]):
        return False
    try:
        config = timm.get_pretrained_cfg(name, allow_unregistered=False)
    except (RuntimeError, ValueError):
        return False
    return config is not None and config.hf_hub_id == f"timm/{name}"


def _successor(name: str) -> str:
    """What timm calls now what it called so before; the name itself of all others."""
    import timm

    return timm.models.get_deprecated_models().get(name) or name


def availability(name: str) -> Availability:
    """Whether the model called `name` can be had; nothing is loaded, and no network asked."""
    try:
        found = _find(_permitted(name), allow_pickle=False, packages=True)
        if not isinstance(found, Location):
            if cached := _in_hub_cache(*found):
                return Availability(HERE, cached)
            reason = f"{name} is on the Hugging Face Hub, which is out of reach from here." if _hub_is_silent() else ""
            return Availability(HUB, reason=reason)
    except ModelError as error:
        return Availability(NOWHERE, reason=str(error))
    return Availability(HERE, found)


def _find(name: str, allow_pickle: bool, packages: bool) -> Location | tuple[str, str, str | None]:
    """A model's files on this machine, or else (name, repository, revision) on the Hub."""
    scheme, _, rest = name.partition(":")
    if scheme == "demo":
        if name not in _demo_names():
            raise ModelError(f"There is no model {name}; the demo models are {', '.join(_demo_names())}.")
        return _in_folder(name, MODELS_DIR / rest, "demo", allow_pickle)
    if scheme == "local-dir":
        return _in_folder(name, Path(os.path.expanduser(rest)), "local", allow_pickle)
    if scheme == "hf-hub":
        repo, _, revision = rest.partition("@")
        return name, repo, revision or None
    local = local_models()
    if name in local:
        return _in_folder(name, local[name], "local", allow_pickle)
    name, repo = _timm_repo(name)
    return (packages and _in_package(name)) or (name, repo, None)


def _in_package(name: str) -> Location | None:
    package = PACKAGES.get(name)
    file = package and package.weights()
    return Location(name, None, file, "package", package.distribution, package.version) if file else None


def _in_folder(name: str, folder: Path, source: str, allow_pickle: bool) -> Location:
    config = folder / "config.json"
    try:
        there = config.is_file()
    except OSError:  # longer than any path
        there = False
    if not there:
        raise ModelError(f"{name}: there is no config.json in that folder; it must be in timm's local-dir layout.")
    weights = next(iter(sorted(folder.glob("*.safetensors"), key=lambda file: file.name != "model.safetensors")), None)
    if weights is None and allow_pickle:
        weights = next((folder / f for f in _PICKLES if (folder / f).is_file()), None)
    if weights is None:
        raise ModelError(
            f"{name}: there is no safetensors file in that folder; convert the weights to model.safetensors."
        )
    _check_size(name, weights.stat().st_size)
    return Location(name, config, weights, source, folder.resolve().name)


def _timm_repo(name: str) -> tuple[str, str]:
    """(name with its tag, repository on the Hub) of a name in timm's registry."""
    if name in _CURATED:  # what a page opens with is told without timm, which takes seconds to import
        return name, f"timm/{name}"
    import timm

    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        raise ModelError(
            f"There is no model called “{name}”.{_suggestion(name)} Ready here: {', '.join(ready_models())}."
        )
    try:
        config = timm.get_pretrained_cfg(name, allow_unregistered=False)
    except (RuntimeError, ValueError) as error:
        tags = timm.list_models(architecture + ".*", pretrained=True)
        likely = sorted(tags, key=lambda tag: not tag.startswith(name))[:8]
        raise ModelError(f"timm has no weights {name}; it has {', '.join(likely) or 'none for that model'}.") from error
    if config is None or not config.has_weights:
        raise ModelError(f"timm has no pretrained weights for {name}; choose a name from `python -m lsd models`.")
    if not config.hf_hub_id:
        raise ModelError(
            f"{name} is not on the Hugging Face Hub in safetensors; choose another from `python -m lsd models`."
        )
    if "." not in name and config.tag:
        name = f"{name}.{config.tag}"
    return name, config.hf_hub_id


def _suggestion(name: str) -> str:
    import timm

    close = difflib.get_close_matches(name, [*ready_models(), *timm.list_models(), *timm.list_pretrained()], n=3)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def _on_hub(name: str, repo: str, revision: str | None, allow_pickle: bool) -> Location:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    for filename in ("model.safetensors", *(_PICKLES[:1] if allow_pickle else ())):
        try:
            with _listening_to_the_hub():
                metadata = get_hf_file_metadata(
                    hf_hub_url(repo, filename, revision=revision), timeout=10, token=hub_token()
                )
        except GatedRepoError as error:
            raise ModelError(
                f"{name} is gated: accept its terms on the Hub and log in with `hf auth login`."
            ) from error
        except HFValidationError as error:
            raise ModelError(
                f"“{repo}” is not the name of a repository on the Hub; write hf-hub:owner/name."
            ) from error
        except RepositoryNotFoundError as error:
            raise ModelError(f"There is no public repository {repo} on the Hugging Face Hub.") from error
        except RevisionNotFoundError as error:
            raise ModelError(f"{repo} has no revision “{revision}” on the Hugging Face Hub.") from error
        except EntryNotFoundError:
            continue
        except Exception as error:  # any failure of the network or of the Hub: what was downloaded before still serves
            if cached := _in_hub_cache(name, repo, revision, filename):
                return cached
            raise ModelError(
                f"{name} cannot be downloaded: the Hugging Face Hub is out of reach; ready here: {_ready()}."
            ) from error
        size, commit = metadata.size or 0, metadata.commit_hash or revision
        _check_size(name, size)
        with disk.room(0 if isinstance(try_to_load_from_cache(repo, filename, revision=commit), str) else size, name):
            return _download(name, repo, filename, commit)
    raise ModelError(f"{repo} has no model.safetensors; pickled weights are not read.")


def _download(name: str, repo: str, filename: str, revision: str | None) -> Location:
    try:
        with _listening_to_the_hub():
            fetched = {"revision": revision, "token": hub_token()}
            config = hub.download(repo, "config.json", **fetched) if _is_its_own(repo, name) else None
            weights = hub.download(repo, filename, **fetched)
    except Exception as error:  # the Hub's own errors, those of its transport, a full disk
        raise ModelError(
            f"{name} could not be downloaded ({hub.reason(error)}); try again, or choose {_ready()}."
        ) from error
    return Location(name, config, weights, "hub", repo, revision)


def _is_its_own(repo: str, name: str) -> bool:
    """Whether the config.json of a repository tells of the network of that name.

    timm has networks that share another's weights (CLIP's towers with QuickGELU and without), and some whose weights lie in
    repositories that are laid out for other libraries.
    """
    return bool(scheme(name)) or repo.rpartition("/")[2] == name


_SILENCE = 300  # seconds for which a Hub that gave no answer is taken to give none
_silent_since: float | None = None


@contextlib.contextmanager
def _listening_to_the_hub() -> Iterator[None]:
    """Remember whether the Hub answers: any answer about a repository is one, a failing server or no connection is none."""
    global _silent_since
    try:
        yield
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is not None and status < 500:
            _silent_since = None
        elif is_network(error) or is_network(error.__cause__):
            _silent_since = time.monotonic()
        raise
    _silent_since = None


def _hub_is_silent() -> bool:
    """Whether the Hub is switched off here (HF_HUB_OFFLINE), or gave no answer a moment ago."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE or (_silent_since is not None and time.monotonic() - _silent_since < _SILENCE)


def _in_hub_cache(name: str, repo: str, revision: str | None, filename: str = "model.safetensors") -> Location | None:
    """What was downloaded before, None if nothing was."""
    from huggingface_hub import hf_hub_download

    own = _is_its_own(repo, name)
    for known in (revision, *_snapshots(repo)) if revision is None else (revision,):
        kept = {"revision": known, "local_files_only": True}
        try:
            config = Path(hf_hub_download(repo, "config.json", **kept)) if own else None
            weights = Path(hf_hub_download(repo, filename, **kept))
        except (OSError, ValueError):  # none, or not a repository's name
            continue
        return Location(
            name, config, weights, "hub", repo, weights.parent.name
        )  # …/snapshots/<commit>/model.safetensors
    return None


def _snapshots(repo: str) -> list[str]:
    """The commits of a repository that were downloaded, the latest first: what was asked for by its commit has no branch there."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}" / "snapshots"
    return [path.name for path in sorted(folder.glob("*"), key=lambda path: path.stat().st_mtime, reverse=True)]


def forget_damaged(location: Location) -> bool:
    """Whether a file that was downloaded is not what the Hub gave; it is deleted then, so that it is fetched again.

    The Hub's client keeps a large file under its SHA-256.
    """
    blob = location.weights.resolve()
    if location.source != "hub" or not re.fullmatch("[0-9a-f]{64}", blob.name) or weights_sha256(location) == blob.name:
        return False
    log.warning("The weights of %s were damaged where they were kept; they are fetched again.", location.name)
    blob.unlink(missing_ok=True)
    location.weights.unlink(missing_ok=True)
    return True


def _ready() -> str:
    return ", ".join(ready_models())


def _check_size(name: str, size: int) -> None:
    if size > MAX_BYTES:
        raise ModelError(
            f"{name} is too large: its weights take {size / 2**30:.1f} GiB and at most {MAX_BYTES / 2**30:.1f} GiB are "
            "loaded here (LSD_MAX_MODEL_BYTES)."
        )


def read_config(location: Location) -> dict:
    """The model's config.json, or where there is none what timm would write.

    Raises:
        ModelError: not JSON, or without an architecture.
    """
    if location.config is None:
        import timm

        known = timm.get_pretrained_cfg(location.name)
        return {"architecture": known.architecture, "pretrained_cfg": known.to_dict()}
    try:
        config = json.loads(location.config.read_text("utf-8"))
        architecture = config["architecture"]
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise ModelError(f"{location.name}: its config.json is damaged or names no architecture.") from error
    if not isinstance(architecture, str):
        raise ModelError(f"{location.name}: its config.json names no architecture.")
    return config


@functools.lru_cache(maxsize=256)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    import hashlib

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_sha256(location: Location) -> str:
    """SHA-256 of the weights file, in hex; computed once for each state of the file.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        return _sha256(location.weights, *file_state(location.weights))
    except OSError as error:
        raise ModelError(f"{location.name}: its weights file cannot be read: {error.strerror}.") from error


def file_state(path: Path) -> tuple[int, int]:
    """Size and time of a file, which change when it does. Raises OSError."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
