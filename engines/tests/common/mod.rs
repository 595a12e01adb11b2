//! The two files of vectors beside the Python tests, read once per test binary.
#![allow(dead_code, reason = "each test binary uses its own part")]

use serde_json::Value;
use std::fs;
use std::path::Path;

fn load(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests")
        .join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("valid JSON")
}

pub fn golden() -> Value {
    load("vectors.json")
}

pub fn rfc() -> Value {
    load("rfc-vectors.json")
}

/// The bytes of a hex string in `value`, empty when the key is absent.
pub fn hex_of(value: &Value, key: &str) -> Vec<u8> {
    value.get(key).map_or_else(Vec::new, bytes)
}

pub fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("a hex string")).expect("hex")
}

pub fn list(value: &Value) -> &[Value] {
    value.as_array().expect("an array")
}

pub fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the vector's length")
}
