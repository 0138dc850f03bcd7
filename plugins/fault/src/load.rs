//! Faults of a library that is being loaded: its constructor, which runs inside `dlopen`.
//!
//! The library reads its order from 32 bytes of its own: a mark, and the name of a fault. As built, that is `none`, and
//! nothing happens. Whoever wants a library that misbehaves as it is loaded writes another name into a copy of the file:
//! `abort`, `exit`, `hang` or `segfault`, padded with zeros.
#![cfg(target_os = "linux")]
#![expect(
    unsafe_code,
    reason = "a constructor is a section of its own, and an order in the file is read past the compiler"
)]

use std::{ptr, thread, time::Duration};

use crate::death;

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = constructor;

extern "C" fn constructor() {
    // SAFETY: it is a static of ours; volatile, as the file may say another thing than the source.
    let order = unsafe { ptr::read_volatile(&raw const ORDER) };
    let name = &order.0[16..];
    let end = name
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(name.len());
    match &name[..end] {
        b"abort" => death::abort(),
        b"exit" => death::exit(0),
        b"hang" => loop {
            thread::sleep(Duration::from_secs(1));
        },
        b"segfault" => death::write_to_null(),
        _ => {}
    }
}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct Order([u8; 32]);

#[used]
static ORDER: Order = Order(*b"conductor-fault:none\0\0\0\0\0\0\0\0\0\0\0\0");
