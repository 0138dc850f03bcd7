//! An incompatible allocator: the memory it returns is preceded by its own mark.
//!
//! If the system's allocator frees memory of this one, or the reverse, the process ends.
#![expect(unsafe_code, reason = "that is what an allocator consists of")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    process,
};

struct Marked;

#[global_allocator]
static ALLOCATOR: Marked = Marked;

// SAFETY: the returned memory is in a block of the system's with room for it after the mark, aligned as requested.
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
        // SAFETY: the block begins with `offset` bytes, a multiple of 16, and the mark is in the last 8 of them.
        unsafe {
            block.add(offset).cast::<u64>().sub(1).write(MARK);
            block.add(offset)
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: memory returned by `alloc` is preceded by a mark; anything else is what this allocator is meant to
        // detect.
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

/// Returns the layout of a block with room for the mark, and the offset after it.
fn whole(layout: Layout) -> Option<(Layout, usize)> {
    let align = layout.align().max(16);
    let size = layout.size().checked_add(align)?;
    Some((Layout::from_size_align(size, align).ok()?, align))
}

const MARK: u64 = 0x6d61_726b_6d61_726b;
