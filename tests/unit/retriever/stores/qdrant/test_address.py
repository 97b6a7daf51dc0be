import pytest

from services.retriever.stores.qdrant.address import Address, is_qdrant


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("qdrant://qdrant", Address(url="http://qdrant:6333")),
        ("qdrant://qdrant:7000/prod", Address(url="http://qdrant:7000", prefix="prod")),
        ("qdrants://[::1]:6333/prod/", Address(url="https://[::1]:6333", prefix="prod")),
        (
            "qdrants://a.example/x?shards=6&replicas=2",
            Address(url="https://a.example:6333", prefix="x", shards=6, replicas=2),
        ),
    ],
)
def test_a_uri_names_a_server_and_a_prefix(uri: str, address: Address) -> None:
    assert is_qdrant(uri)
    assert Address.parse(uri) == address


@pytest.mark.parametrize(
    "uri",
    [
        "qdrant://",
        "qdrant:///prod",
        "http://qdrant:6333",
        "qdrant://qdrant/a/b",
        "qdrant://qdrant/ä",
        "qdrant://qdrant/a?shards=0",
        "qdrant://qdrant/a?shards=-1",
        "qdrant://qdrant/a?replicas=99",
        "qdrant://qdrant/a?quantize=1",
        "qdrant://qdrant:port/a",
    ],
)
def test_a_uri_that_names_none_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match=r"index|port"):
        Address.parse(uri)


def test_a_key_in_a_uri_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="SLUICE_INDEX_API_KEY") as caught:
        Address.parse("qdrant://user:hush@qdrant:6333")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("uri", ["s3://bucket/prefix", "/var/lib/sluice/index", "", "qdrant", "file:///qdrant"])
def test_folders_and_buckets_are_none(uri: str) -> None:
    assert not is_qdrant(uri)
