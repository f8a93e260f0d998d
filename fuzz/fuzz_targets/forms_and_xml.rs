//! See `checks::forms_and_xml`.
#![no_main]

#[path = "../hostile.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|input: &[u8]| hostile::checks::forms_and_xml(input));
