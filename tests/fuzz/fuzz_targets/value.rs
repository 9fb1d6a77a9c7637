#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| impact_mirror::mirror::fuzzing::value::check(bytes));
