//! Faults that do not return, or not in time.

use std::{
    hint,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use crate::injection::InjectionConfig;

pub(crate) fn sleep(injection: &InjectionConfig) {
    thread::sleep(Duration::from_millis(injection.millis.unwrap_or(100)));
}

pub(crate) fn hang(injection: &InjectionConfig) {
    while !injection
        .until_file
        .as_ref()
        .is_some_and(|file| file.exists())
    {
        thread::sleep(Duration::from_millis(5));
    }
}

/// As `hang`, using a whole core.
pub(crate) fn spin() {
    loop {
        hint::spin_loop();
    }
}

/// Waits for a lock that this thread holds.
pub(crate) fn deadlock() {
    let mutex = Mutex::new(());
    let first = mutex.lock().unwrap_or_else(PoisonError::into_inner);
    let second = hint::black_box(&mutex)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    drop((first, second));
    // Reached on an OS whose locks can be taken twice by one thread.
    hang_for_good();
}

fn hang_for_good() {
    loop {
        thread::park();
    }
}
