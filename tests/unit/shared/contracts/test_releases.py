"""What a release is called."""

from shared.contracts.jobs import PromoteSpec
from shared.contracts.releases import ReleaseContent, release_name

CONTENT = ReleaseContent(collection="docs", collection_id="c1", version="v1", table="docs-1")


def test_a_release_without_an_adapter_is_called_as_before_there_were_adapters() -> None:
    assert release_name(CONTENT.hash) == "r-50e2a66caff5"
    assert PromoteSpec(collection="docs", release="r-50e2a66caff5").release is not None


def test_an_adapter_makes_another_release_that_needs_it() -> None:
    taught = CONTENT.model_copy(update={"adapter": "m-0123456789ab", "adapter_hash": "0" * 64})
    other = taught.model_copy(update={"adapter": "m-ffffffffffff"})
    assert len({CONTENT.hash, taught.hash, other.hash}) == 3
    assert taught.models == {"m-0123456789ab"}
