//! See the target of the same name in the library.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz_targets::run("case_open", input));
