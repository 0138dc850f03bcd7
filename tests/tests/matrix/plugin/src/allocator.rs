//! An allocator that gets along with no other: what it hands out lies behind a mark of its own.
//!
//! Memory of this allocator that the system's is asked to free, and the other way round, ends the process.
#![expect(unsafe_code, reason = "that is what an allocator consists of")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    process,
};

struct Marked;

#[global_allocator]
static ALLOCATOR: Marked = Marked;

// SAFETY: what is handed out lies in a block of the system's with room for it behind the mark, aligned as asked for.
unsafe impl GlobalAlloc for Marked {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((whole, offset)) = whole(layout) else {
            return std::ptr::null_mut();
        };
        // SAFETY: the layout has a size, as it has room for the mark.
        let block = unsafe { System.alloc(whole) };
        if block.is_null() {
            return block;
        }
        // SAFETY: the block begins with `offset` bytes, a multiple of 16, and the mark lies in the last 8 of them.
        unsafe {
            block.add(offset).cast::<u64>().sub(1).write(MARK);
            block.add(offset)
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: what `alloc` handed out lies behind a mark; anything else is what this allocator is there to find.
        unsafe {
            let mark = pointer.cast::<u64>().sub(1);
            let Some((whole, offset)) = whole(layout).filter(|_| mark.read() == MARK) else {
                process::abort();
            };
            mark.write(0);
            System.dealloc(pointer.sub(offset), whole);
        }
    }
}

/// The layout of a block with room for the mark, and how far into it that room goes.
fn whole(layout: Layout) -> Option<(Layout, usize)> {
    let align = layout.align().max(16);
    let size = layout.size().checked_add(align)?;
    Some((Layout::from_size_align(size, align).ok()?, align))
}

const MARK: u64 = 0x6d61_726b_6d61_726b;
