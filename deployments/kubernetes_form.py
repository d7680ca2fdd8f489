"""The config file in the form that KubeRay takes: `python -m deployments.kubernetes_form` writes it.

It stands in kubernetes/rayservice.yaml as a text, letter for letter what serve_config.yaml says; a test compares them.
"""

import sys
from pathlib import Path

SOURCE, MANIFEST = Path("serve_config.yaml"), Path("kubernetes/rayservice.yaml")
FIELD = "  serveConfigV2: |"


def written(manifest: str, config: str) -> str:
    """The manifest with this config file in it. Raises ValueError where it has no place for one."""
    lines = manifest.splitlines()
    if FIELD not in lines:
        raise ValueError(f"the manifest has no line `{FIELD}`")
    begin = lines.index(FIELD) + 1
    # the text goes on while lines are indented further than its field, or empty
    end = next(
        (at for at in range(begin, len(lines)) if lines[at].strip() and not lines[at].startswith("   ")), len(lines)
    )
    text = [f"    {line}" if line.strip() else "" for line in config.splitlines()]
    return "\n".join([*lines[:begin], *text, *lines[end:]]) + "\n"


def main() -> int:
    """The exit code."""
    manifest = written(MANIFEST.read_text(encoding="utf-8"), SOURCE.read_text(encoding="utf-8"))
    MANIFEST.write_text(manifest, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
