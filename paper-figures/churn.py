"""churn.py - what changed in the maps of a study's processes from snapshot to snapshot, from a file of pairs in data/

The file is written by `dsreport --churn` and `reduce --churn`; numbers and figure are those of `dsreport --churn-from`.
"""
import hashlib
import json
import os
import shutil
import subprocess
from types import SimpleNamespace

from study import Trouble, run

KINDS = ("removed", "added", "moved")


class Churn:
    """The pairs of BASE.csv.zst, which BASE.json describes.  @scratch: a folder to unpack them into."""

    def __init__(self, base, dsreport, scratch):
        path = base + ".csv.zst"
        with open(base + ".json", encoding="utf-8") as file:
            manifest = json.load(file)
        with open(path, "rb") as file:
            if hashlib.sha256(file.read()).hexdigest() != manifest["churn"]["sha256"]:
                raise Trouble("%s is not the file that %s.json was written for: the checksum differs" % (path, base))
        self.left_out = manifest["churn"]["left_out"]
        self.settings = SimpleNamespace(**manifest["runs"][0]["settings"]) if manifest["runs"] else None
        self._dsreport, self._pairs = dsreport, os.path.join(scratch, os.path.basename(base) + ".csv")
        with open(self._pairs, "wb") as file:
            if subprocess.run(["zstd", "-dcq", "--long=27", path], stdout=file, check=False).returncode != 0:
                raise Trouble("zstd could not read %s" % path)
        said = json.loads(run([dsreport, "--churn-from", self._pairs, "--json", "-"], path))["churn"]
        self.pairs, self.processes, self.interval = said["pairs"], said["processes"], said["seconds_median"]
        self.unchanged = said["pairs_without_change"] / self.pairs
        for name, values in said["quantiles"].items():
            setattr(self, name, SimpleNamespace(**{"p" + percent: value for percent, value in values.items()}))
        changed = sum(said["kinds"][kind]["pages"] for kind in KINDS)
        for kind in KINDS:
            setattr(self, kind + "_share", said["kinds"][kind]["pages"] / changed if changed else None)

    def draw(self, path):
        folder = self._pairs + ".svg"
        run([self._dsreport, "-q", "--churn-from", self._pairs, "--svg", folder], self._pairs)
        shutil.copyfile(os.path.join(folder, "churn.svg"), path)
