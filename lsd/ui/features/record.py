"""A finished run of the tab as one small file, and back. No Gradio here.

The file is a zip. `manifest.json` and the finished pictures are those of the download, so `python -m lsd features --from`
takes them, too; `ascent.json` holds what else the page shows; and the steps on the way are WebP pictures.
"""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image

from lsd.errors import LSDError
from lsd.features import bundle
from lsd.features.bundle import Request
from lsd.features.judge import Verdict
from lsd.features.pictures import Job, Picture, Snapshot
from lsd.features.units import parse
from lsd.models import ImageModel
from lsd.ui.features.runs import Cooking, Lane, Session, files

FORMAT = 1
_MANIFEST, _ASCENT = "manifest.json", "ascent.json"
_QUALITY = 75  # of the steps on the way, which are looked at in passing


def to_bytes(session: Session, steps: Mapping[int, np.ndarray], model: ImageModel) -> bytes:
    """A finished session as a file's bytes.

    Args:
        session: of a single column, without a photo.
        steps: step → pictures, uint8 (N, H, W, 3): what the column showed at the steps that it keeps frames of.
        model: the column's.
    """
    (lane,) = session.lanes
    ascent = {
        "format": FORMAT, "cooking": vars(lane.cooking), "seconds": session.seconds,
        "spent": sum(picture.seconds for picture in lane.pictures),
        "scores": [picture.score for picture in lane.pictures], "traces": lane.traces, "readings": lane.readings,
    }  # fmt: skip
    bundled = files(session, {model.name: model})
    contents = {name: bundled[name] for name in (_MANIFEST, *(bundle.file_name(p.job) for p in lane.pictures))}
    contents[_ASCENT] = json.dumps(ascent).encode()
    contents |= {f"{step:04}.webp": _webp(pixels) for step, pixels in steps.items() if step < lane.step}
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return data.getvalue()


def from_bytes(data: bytes) -> Session:
    """The session in a file of `to_bytes`, as a run leaves it.

    Raises:
        LSDError: damaged, or of another format.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _session({name: archive.read(name) for name in archive.namelist()})
    except LSDError:
        raise
    except Exception as error:  # whatever a damaged file makes zipfile, json or Pillow raise
        raise LSDError(f"that file is damaged ({type(error).__name__}).") from error


def _session(contents: Mapping[str, bytes]) -> Session:
    manifest, ascent = bundle.read_manifest(contents[_MANIFEST]), json.loads(contents[_ASCENT])
    if ascent["format"] != FORMAT:
        raise LSDError(f"that file has format {ascent['format']}, and this program reads format {FORMAT}.")
    request, results = Request.from_dict(manifest["request"]), manifest["results"]
    pictures = tuple(
        _picture(result, score, trace, contents)
        for result, score, trace in zip(results, ascent["scores"], ascent["traces"], strict=True)
    )
    lane = Lane(request.model, request, Cooking(**ascent["cooking"]), results[0]["title"], spent=ascent["spent"])
    steps = {int(name[:-5]): _pixels(data, len(pictures)) for name, data in contents.items() if name.endswith(".webp")}
    steps[max(len(p.trace) for p in pictures)] = np.stack([p.pixels for p in pictures])
    film = bundle.Film()
    for step in sorted(steps):  # through the hands of a live run, which keeps of it what it keeps of any
        lane.take(_snapshot(step, steps[step], pictures, request.recipe.steps, last=step == max(steps)), film)
    judges = list(results[0]["verifiers"])
    if results[0]["top"] is not None:
        lane.own = [_verdict(request.model, result["top"]) for result in results]
    lane.others = [[_verdict(name, result["verifiers"][name]) for result in results] for name in judges]
    lane.spread, lane.readings = manifest["spreads"].get(request.units[0]), ascent["readings"]
    return Session("", [lane], None, judges, ascent["seconds"], manifest)


def _picture(result: dict, score: float, trace: Sequence[float], contents: Mapping[str, bytes]) -> Picture:
    pixels = np.array(Image.open(io.BytesIO(contents[result["file"]])).convert("RGB"))
    if bundle.pixels_sha256(pixels) != result["sha256"]:
        raise LSDError(f"that file is damaged: {result['file']} is not the picture that its manifest tells of.")
    job = Job(parse(result["unit"]), result["seed"])
    notes = tuple(result.get("notes", ()))  # records of before have none
    return Picture(job, pixels, score, tuple(trace), result["status"], result["restarts"], result["seconds"], notes)


def _snapshot(step: int, pixels: np.ndarray, pictures: tuple[Picture, ...], steps: int, *, last: bool) -> Snapshot:
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    scores = torch.tensor([picture.trace[:step][-1] for picture in pictures])
    count = len(pictures)
    jobs = tuple(picture.job for picture in pictures)
    return Snapshot(jobs, images, scores, step, steps, count if last else 0, count, pictures if last else ())


def _verdict(model: str, top: Sequence[dict]) -> Verdict:
    return Verdict(model, tuple((one["index"], one["name"], one["probability"]) for one in top))


def _webp(pixels: np.ndarray) -> bytes:
    """Pictures (N, H, W, 3), one below the other."""
    buffer = io.BytesIO()
    Image.fromarray(pixels.reshape(-1, *pixels.shape[2:])).save(buffer, "WEBP", quality=_QUALITY, method=6)
    return buffer.getvalue()


def _pixels(data: bytes, count: int) -> np.ndarray:
    """The inverse of `_webp`, but for what it has lost."""
    whole = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    return whole.reshape(count, -1, *whole.shape[1:])
