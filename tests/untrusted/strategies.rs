//! Random inputs.

use std::{fs, path::Path};

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value, json};

use super::shared::MARK;

/// The number of inputs for each property.
pub(super) const CASES: u32 = 2000;

/// The seeds of `cargo fuzz`.
pub(super) fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let files = fs::read_dir(folder).into_iter().flatten();
    files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
}

/// Random bytes, or a text of these words.
pub(super) fn lines(words: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let bytes = vec(any::<u8>(), 0..40).boxed();
    let printed = "[ -~]{0,20}".prop_map(String::into_bytes).boxed();
    let word = select(words).prop_map(|word| word.as_bytes().to_vec()).boxed();
    let part = prop_oneof![1 => bytes, 2 => printed, 12 => word];
    vec(part, 0..24).prop_map(|parts| parts.concat())
}

/// Values of every kind.
pub(super) fn value() -> impl Strategy<Value = Value> {
    let text = select(&["", "a", "Bearer error=\"a\"", "A\r\nB", MARK, "DPoP", "é", "OK"][..]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let names = select(&["key", "value", "hidden", "elements", "scope", "OK"][..]);
        let object = proptest::collection::btree_map(names, inner.clone(), 0..4);
        prop_oneof![
            vec(inner, 0..4).prop_map(Value::from),
            object.prop_map(|members| json!(members)),
        ]
    })
}
