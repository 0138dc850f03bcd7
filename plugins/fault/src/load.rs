//! Faults of the library rather than of a platform's config: in its constructor, which runs inside `dlopen` or
//! `LoadLibrary`, and in all checks.
//!
//! The library reads its order from 32 bytes of its file: a mark, and the name of a fault. As built, that is `none`,
//! and nothing happens. For a library that misbehaves at load time, write another name into a copy of the file:
//! `abort`, `exit`, `hang` or `segfault`, padded with zeros. Further names affect the whole process: `stdout`,
//! `stderr`, `thread`, `environment`, `chdir`, `umask`, `locale`, `signals`, `descriptor`. With `checks`, each check
//! fails; with `deep-stack`, a thread uses 5 MiB of its stack in each check; with `warm-up`, the first two checks of
//! each probe fail; with `leak-memory`, `leak-files` or `leak-threads`, each probe leaks some.
//!
//! On Windows the constructor is `DllMain`, and further names are `refuse`, for which it returns FALSE, `detach-hang`
//! and `detach-segfault`, which it follows when the process exits. `umask` and `signals` do nothing there.
#![cfg(any(target_os = "linux", windows))]
#![expect(
    unsafe_code,
    reason = "a constructor is a section of its own, and an order in the file is read past the compiler"
)]

use std::{fs::File, hint, mem, ptr, thread, time::Duration};

use crate::{death, vandalism};

#[cfg(target_os = "linux")]
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = constructor;

/// The function that Windows calls as it loads the library, and as the process exits.
#[cfg(windows)]
#[unsafe(no_mangle)]
extern "system" fn DllMain(
    _: *mut core::ffi::c_void,
    reason: u32,
    _: *mut core::ffi::c_void,
) -> i32 {
    match (reason, name(&order())) {
        (ATTACH, b"refuse") => return 0,
        (ATTACH, _) => constructor(),
        (DETACH, b"detach-hang") => hang(),
        (DETACH, b"detach-segfault") => death::write_to_null(),
        _ => {}
    }
    1
}

fn hang() -> ! {
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}

extern "C" fn constructor() {
    match name(&order()) {
        b"abort" => death::abort(),
        b"exit" => death::exit(0),
        b"hang" => hang(),
        b"segfault" => death::write_to_null(),
        #[expect(
            clippy::print_stdout,
            reason = "to print where nobody may is the fault"
        )]
        b"stdout" => println!("injected output of the library"),
        b"stderr" => eprintln!("injected output of the library"),
        b"thread" => drop(thread::spawn(|| thread::sleep(Duration::from_secs(600)))),
        b"environment" => vandalism::change_environment(),
        b"chdir" => drop(vandalism::change_directory()),
        #[cfg(unix)]
        b"umask" => vandalism::change_umask(),
        b"locale" => vandalism::change_locale(),
        #[cfg(unix)]
        b"signals" => vandalism::ignore_all_signals(),
        b"descriptor" => mem::forget(File::open(NULL_DEVICE)),
        _ => {}
    }
}

/// Returns `true` if the library was ordered to fail a probe's check of this number, which counts from 0.
pub(crate) fn check_fails(nth: u64) -> bool {
    match name(&order()) {
        b"checks" => true,
        b"warm-up" => nth < 2,
        _ => false,
    }
}

/// Leaks in a probe's creation, if the library was ordered to.
pub(crate) fn leak() {
    match name(&order()) {
        b"leak-memory" => mem::forget(vec![1_u8; 64 << 10]),
        b"leak-files" => mem::forget(File::open(NULL_DEVICE)),
        b"leak-threads" => drop(thread::spawn(|| thread::sleep(Duration::from_secs(600)))),
        _ => {}
    }
}

/// Uses 5 MiB of a thread's stack, if the library was ordered to.
pub(crate) fn use_a_deep_stack() {
    if name(&order()) == b"deep-stack" {
        let top = || {
            let frame = 0_u8;
            descend((&raw const frame).addr())
        };
        let _ = thread::spawn(top).join();
    }
}

/// Calls itself until 5 MiB below `top` are in use; returns the number of bytes.
fn descend(top: usize) -> usize {
    let frame = hint::black_box([0_u8; 4096]);
    let used = top.abs_diff(frame.as_ptr().addr());
    if used >= DEEP {
        return used;
    }
    // Prevents a tail call.
    descend(top) + usize::from(hint::black_box(frame)[0])
}

fn order() -> LoadFault {
    // SAFETY: it is our own static; volatile, as the file may differ from the source.
    unsafe { ptr::read_volatile(&raw const ORDER) }
}

fn name(order: &LoadFault) -> &[u8] {
    let name = &order.0[16..];
    let end = name.iter().position(|&byte| byte == 0);
    &name[..end.unwrap_or(name.len())]
}

#[repr(transparent)]
#[derive(Clone, Copy)]
struct LoadFault([u8; 32]);

#[used]
static ORDER: LoadFault = LoadFault(*b"conductor-fault:none\0\0\0\0\0\0\0\0\0\0\0\0");

#[cfg(windows)]
const ATTACH: u32 = 1;
#[cfg(windows)]
const DETACH: u32 = 0;
const NULL_DEVICE: &str = if cfg!(windows) { "NUL" } else { "/dev/null" };
/// Stack use in bytes; Rust's default size is 2 MiB.
const DEEP: usize = 5 << 20;
