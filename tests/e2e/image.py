"""An OCI image made of busybox-static, as an archive that podman and containerd load.

Source: OCI image layout specification 1.0.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from typing import Any

BUSYBOX = "/bin/busybox"
NAME = "docker.io/local/busybox:1"
_OCI = "application/vnd.oci.image"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def write(path: str) -> None:
    """Write the archive."""
    files: dict[str, bytes] = {}

    def blob(kind: str, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        files[f"blobs/sha256/{digest}"] = content
        return {"mediaType": f"{_OCI}.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    layer = blob("layer.v1.tar", _root())
    config = {
        "architecture": _ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": {"Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_OCI}.manifest.v1+json",
        "config": blob("config.v1+json", json.dumps(config).encode()),
        "layers": [layer],
    }
    entry = blob("manifest.v1+json", json.dumps(manifest).encode())
    named = {"io.containerd.image.name": NAME, "org.opencontainers.image.ref.name": NAME}
    index = {"schemaVersion": 2, "manifests": [{**entry, "annotations": named}]}
    files["index.json"] = json.dumps(index).encode()
    files["oci-layout"] = json.dumps({"imageLayoutVersion": "1.0.0"}).encode()
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            _add(archive, name, content)


def _root() -> bytes:
    """The root file system: busybox under every name it has."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive, open(BUSYBOX, "rb") as busybox:
        for directory in ("bin", "proc", "sys", "dev", "tmp"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        _add(archive, "bin/busybox", busybox.read())
        listed = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True)
        for name in set(listed.stdout.split()) - {"busybox"}:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o755
    archive.addfile(entry, io.BytesIO(content))
