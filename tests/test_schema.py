"""The schema as both clients were generated from it."""

import json
from pathlib import Path
from typing import Any

import pytest

from config.schema import DefaultCall, Relation, SchemaMissing, load_schema, parse_schema

SCHEMA = load_schema()


def test_the_plans_models_and_enums_are_there() -> None:
    tables = {"Account": "accounts", "Profile": "profiles", "Video": "videos", "Notification": "notifications"}
    for name, table in {**tables, "NFTOwnership": "nft_ownership"}.items():
        model = SCHEMA.models[name]
        assert model.table == table
        assert model.id.name == "id"
        assert (model.id.column, model.id.type, model.id.default) == ("_id", "String", None)
        assert model.fields["createdAt"].default == DefaultCall("now")
        assert model.fields["updatedAt"].updated_at
    assert SCHEMA.enums["VideoStatus"] == ("PENDING", "PROCESSING", "COMPLETED", "FAILED")
    assert SCHEMA.enums["NotificationType"][0] == "VIDEO_COMPLETED"


def test_a_fields_type_kind_and_optionality() -> None:
    video = SCHEMA.models["Video"]
    status, title, public = (video.fields[name] for name in ("status", "title", "isPublic"))
    assert (status.type, status.kind, status.required) == ("VideoStatus", "enum", True)
    assert (title.type, title.kind, title.required, title.is_list) == ("String", "scalar", False, False)
    assert (public.type, public.default) == ("Boolean", False)
    assert SCHEMA.models["StranglerFlag"].fields["changedAt"].column == "changed_at"


def test_relations_say_which_side_holds_the_key() -> None:
    account, video = SCHEMA.models["Account"], SCHEMA.models["Video"]
    assert video.fields["account"].relation == Relation("AccountToVideo", "Account", ("accountId",), ("id",))
    assert account.fields["videos"].relation == Relation("AccountToVideo", "Video")
    assert [relation.model for relation in video.parents()] == ["Account"]
    assert list(account.parents()) == []
    assert "account" not in {field.name for field in video.stored()}


def test_uniques_ids_and_constraints() -> None:
    assert SCHEMA.models["Video"].uniques == (("jobId",),)
    fence = SCHEMA.models["StranglerFence"]
    assert fence.ids == ("entity", "key")
    with pytest.raises(LookupError, match=r"StranglerFence.*entity, key"):
        _ = fence.id
    assert SCHEMA.constraints["accounts_walletAddress_key"] == ("walletAddress",)
    assert SCHEMA.constraints["profiles_accountId_fkey"] == ("accountId",)
    assert SCHEMA.constraints["strangler_fence_pkey"] == ("entity", "key")


def test_parents_come_before_their_children() -> None:
    order = SCHEMA.parents_first()
    assert sorted(order) == sorted(SCHEMA.models)
    for child in ("Profile", "Video", "Notification"):
        assert order.index("Account") < order.index(child)


def model(name: str, refers_to: str, *more: dict[str, Any], **rest: Any) -> dict[str, Any]:
    """A model as a DMMF says it, with a foreign key to another."""
    common = {"isList": False, "isRequired": True, "isUnique": False, "isId": False}
    fields = [
        {**common, "name": "id", "kind": "scalar", "type": "Int", "isId": True},
        {**common, "name": "other", "kind": "object", "type": refers_to}
        | {"relationName": "R", "relationFromFields": ["otherId"], "relationToFields": ["id"]},
        {**common, "name": "otherId", "kind": "scalar", "type": "Int"},
        *({**common, **field} for field in more),
    ]
    return {"name": name, "dbName": None, "fields": fields, "primaryKey": None, "uniqueFields": [], **rest}


def test_a_circle_of_references_is_named_and_a_reference_to_oneself_is_none() -> None:
    circle = parse_schema({"models": [model("A", "B"), model("B", "A")], "enums": []})
    with pytest.raises(ValueError, match=r"circle: .*A.*B"):
        circle.parents_first()
    assert parse_schema({"models": [model("A", "A")], "enums": []}).parents_first() == ("A",)


def test_lists_constants_native_types_and_named_constraints() -> None:
    tags = {"name": "tags", "kind": "scalar", "type": "String", "isList": True, "default": ["a", "b"]}
    price = {"name": "price", "kind": "scalar", "type": "Decimal", "nativeType": ["Decimal", ["10", "2"]]}
    index = {"model": "A", "type": "unique", "dbName": "my_key", "fields": [{"name": "price"}]}
    datamodel = {"models": [model("A", "A", tags, price)], "enums": [], "indexes": [index]}
    schema = parse_schema(datamodel)
    assert schema.models["A"].fields["tags"].default == ("a", "b")
    assert schema.models["A"].fields["price"].native == ("Decimal", "10", "2")
    assert schema.constraints["my_key"] == ("price",)


def test_a_missing_file_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(SchemaMissing, match="db:generate"):
        load_schema(tmp_path / "nothing.json")
    written = tmp_path / "model.json"
    written.write_text(json.dumps({"models": [], "enums": []}))
    assert load_schema(written).models == {}
