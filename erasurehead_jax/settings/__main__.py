"""`python -m erasurehead_jax.settings` generates configs/*.schema.json, which editors read."""

import json
from pathlib import Path

from erasurehead_jax.settings import CONFIG_DIR, json_schema
from erasurehead_jax.settings.keys import COMMANDS

for command in COMMANDS:
    (Path(CONFIG_DIR) / f"{command}.schema.json").write_text(json.dumps(json_schema(command), indent=2) + "\n")
