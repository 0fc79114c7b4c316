"""The generator program of `schema.prisma`'s Python client: `python -m adapters.generator`, run by `prisma generate`.

It is the generator of the `prisma` package, told three things that its release does not know of Prisma 7: there is no
query engine to ask for, the CLI's version is newer than its own, and a datasource may come without a URL. Beside the
client it writes the data model that both describe, for `config.schema`, so that the two are always of one generation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import prisma.generator.models
from prisma.generator.generator import BASE_PACKAGE_DIR, Generator
from prisma.generator.jsonrpc import Manifest, Request
from prisma.generator.models import PythonData

from config.schema import DATAMODEL_FILE


def main() -> None:
    """Answers the Prisma CLI's JSON-RPC requests on standard input until it closes."""
    vars(prisma.generator.models)["DEBUG_GENERATOR"] = True  # accepts a CLI of another version
    generator = Generator()
    answer, generate_client = generator._on_request, generator.generate
    params: dict[str, Any] = {}

    def on_request(request: Request) -> None:
        params.update(request.params or {})
        for datasource in params.get("datasources", ()):
            datasource.setdefault("url", {"value": None, "fromEnvVar": "DATABASE_URL"})
        answer(request)

    def generate(data: PythonData) -> None:
        generate_client(data)  # first: into another folder it copies the whole package, with the other model of ours
        write_datamodel(params)

    # Generator refuses to be subclassed, so its methods are replaced on the instance.
    vars(generator).update(get_manifest=manifest, _on_request=on_request, generate=generate)
    generator.run()


def manifest() -> Manifest:
    return Manifest(name="Prisma Client Python", default_output=BASE_PACKAGE_DIR)


def write_datamodel(params: dict[str, Any]) -> None:
    target = Path(params["generator"]["output"]["value"]) / DATAMODEL_FILE
    target.write_text(json.dumps(params["dmmf"]["datamodel"], indent=1))


if __name__ == "__main__":
    main()
