//! Values of images as JSON.

use serde_json::{Value as Json, json};

/// A value that an image's headers hold.
pub fn value(value: &formats::Value) -> Json {
    use formats::Value;
    match value {
        Value::Flag(flag) => json!(flag),
        Value::Number(number) | Value::Bytes(number) => json!(number),
        Value::Text(text) => json!(text),
        Value::List(list) => list.iter().map(self::value).collect(),
        Value::Map(map) => {
            map.iter().map(|(name, inner)| ((*name).to_owned(), self::value(inner))).collect()
        }
    }
}
