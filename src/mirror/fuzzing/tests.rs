//! The seeds of `make fuzz`, shapes seen in real files, as they are and broken at random.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::{csv, json, value};

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(target);
    let files = fs::read_dir(directory).unwrap();
    files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
}

/// One of the seeds with bytes cut out, put in and doubled.
fn broken(target: &str) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![select(b",\"\n\r\0.-+:TZ 019$\xff{}[]\\".to_vec()), any::<u8>()];
    let change = (any::<Index>(), 0_usize..4, prop::collection::vec(byte, 0..4));
    (select(seeds(target)), prop::collection::vec(change, 0..5)).prop_map(|(seed, changes)| {
        let mut bytes = seed;
        for (at, cut, put) in changes {
            let from = at.index(bytes.len() + 1);
            let to = (from + cut).min(bytes.len());
            bytes.splice(from..to, put);
        }
        bytes
    })
}

#[test]
fn all_is_true_of_every_seed() {
    for file in seeds("csv") {
        csv::check(&file);
    }
    for file in seeds("json") {
        json::check(&file);
    }
    for text in seeds("value") {
        value::check(&text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_is_true_of_broken_csv(file in broken("csv")) {
        csv::check(&file);
    }

    #[test]
    fn all_is_true_of_broken_json(file in broken("json")) {
        json::check(&file);
    }

    #[test]
    fn all_is_true_of_broken_values(text in broken("value")) {
        value::check(&text);
    }
}
