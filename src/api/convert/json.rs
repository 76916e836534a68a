//! `google.protobuf.Struct` to JSON and back.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value as ProtoValue};
use serde_json::{Map, Number, Value};

/// Nesting that is followed; deeper values become null (prost itself stops at 100 levels of messages).
const DEPTH_MAX: usize = 64;

/// Returns a struct as a JSON object.
pub(super) fn from_struct(value: Struct) -> Map<String, Value> {
    object(value, 0)
}

/// Returns a value as JSON; a number that is whole becomes an integer.
pub(super) fn from_value(value: ProtoValue) -> Value {
    nested(value, 0)
}

fn object(value: Struct, depth: usize) -> Map<String, Value> {
    value.fields.into_iter().map(|(key, value)| (key, nested(value, depth + 1))).collect()
}

fn nested(value: ProtoValue, depth: usize) -> Value {
    match value.kind {
        _ if depth > DEPTH_MAX => Value::Null,
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::NumberValue(number)) => number_value(number),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::BoolValue(truth)) => Value::Bool(truth),
        Some(Kind::StructValue(fields)) => Value::Object(object(fields, depth)),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(|value| nested(value, depth + 1)).collect(),
    }
}

fn number_value(number: f64) -> Value {
    // 2^53: up to here every whole f64 is one integer.
    if number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0 {
        return Value::from(number as i64);
    }
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

/// Returns a JSON object as a struct.
pub(super) fn to_struct(value: Map<String, Value>) -> Struct {
    Struct { fields: value.into_iter().map(|(key, value)| (key, to_value(value))).collect() }
}

fn to_value(value: Value) -> ProtoValue {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(truth) => Kind::BoolValue(truth),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text),
        Value::Array(values) => Kind::ListValue(ListValue { values: values.into_iter().map(to_value).collect() }),
        Value::Object(fields) => Kind::StructValue(to_struct(fields)),
    };
    ProtoValue { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_survives_the_round_trip() {
        let value = serde_json::json!({"a": [1, 2.5, "x", true, null], "b": {"c": {}}});
        let Value::Object(object) = value else { unreachable!() };
        assert_eq!(from_struct(to_struct(object.clone())), object);
    }
}
