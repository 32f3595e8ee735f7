#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tower_authlete::untrusted::answer(input));
