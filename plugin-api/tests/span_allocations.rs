//! Spans in which nothing is logged allocate nothing, once the library has had as many of them at once.
#![expect(unsafe_code, reason = "the program is its own allocator, which counts")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use conductor_plugin_api::{
    Context, Failure, Probe, Report, schemars, testing::TestHost, tracing::info_span,
};

struct CountingAllocator;

// SAFETY: every call is passed on to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, and the block is of the system's allocator.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Spans;

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct NoConfig {}

impl Probe for Spans {
    type Config = NoConfig;

    fn create(_: NoConfig, _: &Context<'_>) -> Result<Self, Failure> {
        Ok(Self)
    }

    fn check(&mut self, _: &Context<'_>) -> Result<Report, Failure> {
        let spans = || {
            for part in 0..1000 {
                let upload = info_span!("upload", bucket = "photos", part);
                let _upload = upload.enter();
                let _inner = info_span!("inner", size = ?(part, 1.5)).entered();
                upload.record("part", part + 1);
            }
        };
        spans();
        let before = ALLOCATIONS.get();
        spans();
        Ok(Report::healthy((ALLOCATIONS.get() - before).to_string()))
    }
}

#[test]
fn spans_without_events_allocate_nothing() {
    let host = TestHost::new("p");
    let mut probe = host.create::<Spans>("{}").unwrap();
    let report = host.check(&mut probe).unwrap();
    assert_eq!(report.message(), "0");
}
