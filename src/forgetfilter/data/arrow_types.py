"""Convert Arrow types that not every function or file format supports into usual ones with the same values.

Kernels that select rows support no views, at any depth, and Arrow's own casts from lists of views lose what comes
after a null (pyarrow 26). So arrays are rebuilt here, level by level.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the usual type for a type that has views in it, at any depth; the type itself where it has none."""
    if kind == pa.string_view():
        return pa.large_string()
    if kind == pa.binary_view():
        return pa.large_binary()
    if pa.types.is_struct(kind):
        return pa.struct([plain_field(kind.field(i)) for i in range(kind.num_fields)])
    if pa.types.is_list_view(kind) or pa.types.is_list(kind):
        return pa.list_(plain_field(kind.value_field))
    if pa.types.is_large_list_view(kind) or pa.types.is_large_list(kind):
        return pa.large_list(plain_field(kind.value_field))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(plain_field(kind.value_field), kind.list_size)
    if pa.types.is_map(kind):
        return pa.map_(plain_field(kind.key_field), plain_field(kind.item_field), keys_sorted=kind.keys_sorted)
    if pa.types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, plain_type(kind.value_type), ordered=kind.ordered)
    if pa.types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    return kind


def plain_field(field: pa.Field) -> pa.Field:
    """Return a field with its usual type; name, metadata and whether it may be null stay."""
    return field.with_type(plain_type(field.type))


def plain_array(array: pa.Array) -> pa.Array:
    """Return the same values in the usual type."""
    kind, usual = array.type, plain_type(array.type)
    if usual == kind:
        return array
    nulls = array.is_null()
    if pa.types.is_struct(kind):
        children = [plain_array(array.field(i)) for i in range(kind.num_fields)]
        return pa.StructArray.from_arrays(children, fields=list(usual), mask=nulls)
    if pa.types.is_map(kind):
        offsets = _offsets(pc.list_value_length(array.cast(_as_list(kind))), nulls, pa.int32())
        entries = array.cast(_as_list(kind)).flatten()
        keys, items = plain_array(entries.field(0)), plain_array(entries.field(1))
        return pa.MapArray.from_arrays(offsets, keys, items, usual)
    if pa.types.is_fixed_size_list(kind):
        start = array.offset * kind.list_size
        values = plain_array(array.values.slice(start, len(array) * kind.list_size))
        return pa.FixedSizeListArray.from_arrays(values, type=usual, mask=nulls)
    if pa.types.is_dictionary(kind):
        return pa.DictionaryArray.from_arrays(array.indices, plain_array(array.dictionary), ordered=kind.ordered)
    if pa.types.is_run_end_encoded(kind):
        return plain_array(pc.run_end_decode(array))
    if pa.types.is_nested(kind):
        large = pa.types.is_large_list(usual)
        offsets = _offsets(array.value_lengths(), nulls, pa.int64() if large else pa.int32())
        array_class = pa.LargeListArray if large else pa.ListArray
        return array_class.from_arrays(offsets, plain_array(array.flatten()), type=usual)
    return array.cast(usual)


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return a schema with the usual types in place of its own."""
    return pa.schema([plain_field(field) for field in schema], schema.metadata)


def plain_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch with the usual types in place of its own."""
    columns = [plain_array(column) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, schema=plain_schema(batch.schema))


def dataset_type(kind: pa.DataType) -> pa.DataType:
    """Return the type in which `datasets` holds the values of a usual type: for a map, a list of keys and values."""
    if isinstance(kind, pa.BaseExtensionType) and not isinstance(kind, pa.JsonType):
        return dataset_type(kind.storage_type)
    if pa.types.is_struct(kind):
        return pa.struct([_dataset_field(kind.field(i)) for i in range(kind.num_fields)])
    if pa.types.is_map(kind):
        return pa.list_(pa.struct([_dataset_field(kind.key_field), _dataset_field(kind.item_field)]))
    if pa.types.is_list(kind):
        return pa.list_(_dataset_field(kind.value_field))
    if pa.types.is_large_list(kind):
        return pa.large_list(_dataset_field(kind.value_field))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_dataset_field(kind.value_field), kind.list_size)
    if pa.types.is_dictionary(kind):
        return dataset_type(kind.value_type)
    if pa.types.is_decimal32(kind) or pa.types.is_decimal64(kind):
        return pa.decimal128(kind.precision, kind.scale)
    return kind


def _dataset_field(field: pa.Field) -> pa.Field:
    return field.with_type(dataset_type(field.type))


def _as_list(kind: pa.MapType) -> pa.DataType:
    return pa.list_(pa.field("entries", pa.struct([kind.key_field, kind.item_field]), nullable=False))


def _offsets(lengths: pa.Array, nulls: pa.Array, kind: pa.DataType) -> pa.Array:
    """Compute where each list begins among the values of all; null where a list is null."""
    ends = pc.cumulative_sum(lengths.fill_null(0).cast(kind))
    begins = pa.concat_arrays([pa.array([0], kind), ends])
    never = pa.concat_arrays([nulls, pa.array([False])])
    return pc.if_else(never, pa.scalar(None, kind), begins)


Decoder = Callable[[Any], Any]


def value_decoder(kind: pa.DataType) -> Decoder | None:
    """Make a function that parses the JSON text in a column of this type; None where it holds no JSON.

    `datasets` makes such a column of values that are of several types.
    """
    if isinstance(kind, pa.JsonType):
        return lambda value: value if value is None else json.loads(value)
    if pa.types.is_struct(kind):
        inner = {kind.field(i).name: value_decoder(kind.field(i).type) for i in range(kind.num_fields)}
        return (
            _decode_struct({name: decode for name, decode in inner.items() if decode}) if any(inner.values()) else None
        )
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        decode = value_decoder(kind.value_type)
        return (lambda value: value if value is None else [decode(one) for one in value]) if decode else None
    return None


def _decode_struct(inner: dict[str, Decoder]) -> Decoder:
    def decode(value: Any) -> Any:
        return value if value is None else value | {name: of(value[name]) for name, of in inner.items()}

    return decode
