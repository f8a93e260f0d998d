//! An allocator that counts, so that memory can be compared with the bytes that came in.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Bytes of memory for each byte that came in.
pub const FACTOR: usize = 6;
/// Bytes of memory that any input may take: ids, one event, what errors say.
pub const BASE_BYTES: usize = 16 * 1024;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, with a count for each thread.
pub struct Counting;

fn took(bytes: usize) {
    let live = LIVE.get().wrapping_add(bytes);
    LIVE.set(live);
    // Memory that another thread took and this one gave back makes a negative number.
    if live.cast_signed() > PEAK.get().cast_signed() {
        PEAK.set(live);
    }
}

fn gave(bytes: usize) {
    LIVE.set(LIVE.get().wrapping_sub(bytes));
}

// SAFETY: every call goes on to `System` as it is; only numbers are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        gave(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // Old and new may both be there for a while.
        took(bytes);
        gave(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What something returns, and the most memory that it held at once, in bytes.
pub fn peak_bytes<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    PEAK.set(before);
    let out = run();
    (out, PEAK.get().wrapping_sub(before))
}

/// Runs something whose memory must be bounded by the bytes that came in.
pub fn bounded<T>(bytes: usize, run: impl FnOnce() -> T) -> T {
    let (out, peak) = peak_bytes(run);
    assert!(peak <= FACTOR * bytes + BASE_BYTES, "{peak} bytes of memory for {bytes} bytes");
    out
}
