//! Alone in its process, because the allocator is the whole process's.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use phantom_token::{CompletionQueue, Submitted, Token};
use support::{Server, active_after};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed on to the system's allocator as it came; counting touches only a thread-local that
// needs no allocation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are the system allocator's own.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the system allocator's own.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are the system allocator's own.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_hit_allocates_nothing() {
    let server = Server::start(active_after(Duration::ZERO));
    let client = server.client(&[]);
    let queue = CompletionQueue::new().unwrap();
    let long = "l".repeat(8192);
    for text in ["opaque", &long] {
        let token = Token::parse(text.as_bytes()).unwrap();
        client.resolve(token, None).unwrap();

        let before = ALLOCATIONS.get();
        for _ in 0..100 {
            let resolution = client.lookup(token).unwrap().unwrap();
            std::hint::black_box(&resolution);
        }
        assert_eq!(
            ALLOCATIONS.get() - before,
            0,
            "lookup, {} bytes",
            text.len()
        );

        let before = ALLOCATIONS.get();
        for _ in 0..100 {
            let submitted = client.submit(token, &queue, 0);
            assert!(matches!(submitted, Submitted::Ready(Ok(_))));
        }
        assert_eq!(
            ALLOCATIONS.get() - before,
            0,
            "submit, {} bytes",
            text.len()
        );
    }
    let before = ALLOCATIONS.get();
    std::hint::black_box(vec![1u8; 10]);
    assert_eq!(ALLOCATIONS.get() - before, 1, "the counter counts");
}
