#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| phantom_token::fuzzing::certificate(input));
