"""The part of MLflow's REST API that copies of releases need: its model registry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.scheduler.tracking.mlflow_client import Entry, MLflowClient, MLflowRefusedError

__all__ = ["MLflowRegistry", "ModelVersion"]

PAGE: Final = 200


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version of a registered model, with its number in digits."""

    model: str
    version: str
    tags: Mapping[str, str]

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> "ModelVersion":
        tags = {each["key"]: each["value"] for each in found.get("tags", ())}
        return cls(model=str(found["name"]), version=str(found["version"]), tags=tags)


class MLflowRegistry:
    """The registered models of a tracking server. All methods raise MLflowError."""

    def __init__(self, client: MLflowClient) -> None:
        self._client = client

    async def ensure_model(self, name: str, tags: Sequence[Entry], description: str) -> None:
        """Register a model where there is none of this name."""
        body = {"name": name, "tags": list(tags), "description": description}
        try:
            await self._client.call("POST", "registered-models/create", json=body)
        except MLflowRefusedError as error:
            if not error.exists:
                raise

    async def aliases(self, name: str) -> dict[str, str]:
        """The numbers of a model's versions by their aliases."""
        found = await self._client.call("GET", "registered-models/get", params={"name": name})
        return {each["alias"]: str(each["version"]) for each in found["registered_model"].get("aliases", ())}

    async def set_alias(self, name: str, alias: str, version: str) -> None:
        body = {"name": name, "alias": alias, "version": version}
        await self._client.call("POST", "registered-models/alias", json=body)

    async def remove_alias(self, name: str, alias: str) -> None:
        """One that is not there is no error."""
        await self._client.call("DELETE", "registered-models/alias", json={"name": name, "alias": alias})

    async def versions(self, tag: str, value: str, *, model: str = "") -> list[ModelVersion]:
        """The versions with a tag, of one model or of all, the oldest first."""
        chosen = f"name = '{model}' and " if model else ""
        wanted = {"filter": f"{chosen}tags.`{tag}` = '{value}'", "max_results": str(PAGE)}
        found: list[ModelVersion] = []
        token = ""
        while True:
            more = {"page_token": token} if token else {}
            page = await self._client.call("GET", "model-versions/search", params={**wanted, **more})
            found += map(ModelVersion.of, page.get("model_versions", ()))
            if not (token := str(page.get("next_page_token") or "")):
                return sorted(found, key=lambda one: int(one.version))

    async def create_version(
        self, name: str, *, source: str, run: str | None, tags: Sequence[Entry], description: str
    ) -> None:
        body = {"name": name, "source": source, "tags": list(tags), "description": description}
        await self._client.call("POST", "model-versions/create", json=body | ({"run_id": run} if run else {}))

    async def set_tag(self, version: ModelVersion, key: str, value: str) -> None:
        body = {"name": version.model, "version": version.version, "key": key, "value": value}
        await self._client.call("POST", "model-versions/set-tag", json=body)

    async def delete_version(self, version: ModelVersion) -> None:
        """One that is not there is no error."""
        named = {"name": version.model, "version": version.version}
        try:
            await self._client.call("DELETE", "model-versions/delete", json=named)
        except MLflowRefusedError as error:
            if not error.missing:
                raise
