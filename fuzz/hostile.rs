//! The checks that the property tests of `domain` run, for the fuzz targets.
#![allow(dead_code)]

#[path = "../domain/tests/hostile/checks.rs"]
pub mod checks;
#[path = "../domain/tests/hostile/configured.rs"]
pub mod configured;
#[path = "../domain/tests/hostile/heap.rs"]
mod heap;
#[path = "../domain/tests/hostile/xml.rs"]
pub mod xml;
