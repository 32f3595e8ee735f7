#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| tower_authlete::untrusted::proof(input));
