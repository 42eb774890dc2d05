"""What downloads leave in data/cache/<dataset>/ for the next one: partial files, and files that were accepted."""

import hashlib
import json
import os
import shutil
from pathlib import Path

from twinnet.core.provenance import sha256

VALIDATORS = {"If-None-Match": "ETag", "If-Modified-Since": "Last-Modified"}  # asked -> given


class Kept:
    """The files kept of one address; each name begins with a hash of the address, which may hold a secret."""

    def __init__(self, cache: Path, address: str) -> None:
        cache.mkdir(parents=True, exist_ok=True)
        key = hashlib.sha256(address.encode()).hexdigest()[:16]
        self.part = cache / f"{key}.part"  # what has come so far
        self._body = cache / f"{key}.body"  # what was accepted
        self._facts = cache / f"{key}.json"

    @property
    def body(self) -> Path | None:
        """The accepted file of an earlier download, where it still has the bytes that were accepted."""
        try:
            return self._body if sha256(self._body) == self._read().get("sha256") else None
        except FileNotFoundError:
            return None

    @property
    def conditions(self) -> dict[str, str]:
        """Headers that ask for the file only if it is another one than the accepted."""
        facts = self._read()
        return {asked: facts[given] for asked, given in VALIDATORS.items() if given in facts}

    def keep(self, file: Path, validators: dict[str, str]) -> None:
        """Keep a file that was accepted; without new validators those of the same bytes stay."""
        digest = sha256(file)
        if not validators and self._read().get("sha256") == digest:
            return
        shutil.copyfile(file, self.part)
        self._facts.write_text(json.dumps({"sha256": digest, **validators}))
        os.replace(self.part, self._body)

    def forget(self) -> None:
        for path in (self.part, self._body, self._facts):
            path.unlink(missing_ok=True)

    def _read(self) -> dict[str, str]:
        try:
            return dict(json.loads(self._facts.read_text()))
        except (FileNotFoundError, ValueError):
            return {}
