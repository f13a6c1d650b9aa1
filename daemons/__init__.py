"""The daemons: wiring and settings only.

Our import packages have everyday names (`schema`, `client`), and pip lets another distribution overwrite a package of the same
name without a word. So before anything else is imported: is `schema` ours? If not, nothing that follows could be trusted.
"""

import sys

import schema


def schema_refusal(package: object) -> str | None:
    """Why the imported package can't be used; None when it is ours."""
    if getattr(package, "BRICKWORK", None) == "brickwork":
        return None
    where = getattr(package, "__file__", None) or "a folder without __init__.py"
    return (
        f"the Python package 'schema' is not Brickwork's: it comes from {where}. Another distribution of that name "
        "shadows or has overwritten ours. Brickwork needs a virtual environment of its own: install it into a fresh one"
    )


if refusal := schema_refusal(schema):
    sys.stderr.write(f"brickwork: {refusal}\n")
    raise SystemExit(3)  # process.Exit.REFUSED, which can't be imported yet
