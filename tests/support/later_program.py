"""Version N+1 of this program: a copy of it with one more schema release.

Its migration adds a table, an index and two columns, one of them to the refs that every push writes. Put
`environment()` on top of a node's, and the node is of that version at its next start.
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import mainstay

_MIGRATION = """
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("ledger", "{last}")]
    operations = [
        migrations.AddField("ref", "note", models.TextField(null=True)),
        migrations.AddField("repository", "heat", models.IntegerField(db_default=7)),
        migrations.CreateModel("Thing", [("id", models.BigAutoField(primary_key=True))]),
        migrations.AddIndex("repository", models.Index(fields=["heat"], name="ledger_heat")),
    ]
"""


@dataclass(frozen=True)
class Program:
    """A whole copy of the source, of a later release."""

    source: Path

    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self.source)}

    def asked(self, question: str) -> str:
        """What it answers about itself: the copy must really be what runs."""
        command = [sys.executable, "-c", f"import mainstay.cluster.schema as schema; print({question})"]
        done = subprocess.run(
            command, env=self.environment(), capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout.strip()


def later_program(directory: Path, *, releases_ahead: int, floor_raised: bool) -> Program:
    """A copy of our program with as many more releases; the first of them migrates."""
    house = directory / "mainstay"
    shutil.copytree(Path(mainstay.__file__).parent, house, ignore=shutil.ignore_patterns("__pycache__"))
    folder = house / "storage" / "ledger" / "migrations"
    last = max(file.stem for file in folder.glob("0*.py"))
    (folder / "0099_later.py").write_text(_MIGRATION.format(last=last))
    schema = house / "cluster" / "schema.py"
    text = schema.read_text()
    text = text.replace(
        "CURRENT: Final = max(RELEASES)", f"CURRENT: Final = max(RELEASES) + {releases_ahead}"
    )
    if floor_raised:
        text = text.replace("FLOOR: Final = 1", "FLOOR: Final = CURRENT")
    schema.write_text(text)
    return Program(directory)
