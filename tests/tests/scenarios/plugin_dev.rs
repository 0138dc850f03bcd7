//! `conductor plugin dev` on a new plugin in C: each change is built, and what is different is printed.

use std::{
    fs,
    io::Read as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use crate::harness::{Setup, conductor};

/// A running loop, and what it has printed.
struct DevLoop {
    child: Child,
    printed: Arc<Mutex<String>>,
    /// Bytes that were waited for.
    seen: usize,
}

impl DevLoop {
    fn start(folder: &Path) -> Self {
        let mut command = conductor(&["plugin", "dev", "--strictness", "2"]);
        command.arg(folder);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let printed = Arc::new(Mutex::new(String::new()));
        let copy = Arc::clone(&printed);
        thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut part) {
                let text = String::from_utf8_lossy(&part[..count]);
                copy.lock().unwrap().push_str(&text);
            }
        });
        Self {
            child,
            printed,
            seen: 0,
        }
    }

    /// Returns what was printed since the last call, once it contains the text.
    #[track_caller]
    fn until(&mut self, text: &str) -> String {
        let begun = Instant::now();
        loop {
            let all = self.printed.lock().unwrap().clone();
            let new = &all[self.seen..];
            if new.contains(text) {
                let new = new.to_owned();
                self.seen = all.len();
                return new;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "waited in vain for {text:?}: {new}"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for DevLoop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn new_plugin(setup: &Setup) -> std::path::PathBuf {
    let mut command = conductor(&["plugin", "new", "my-age", "--lang", "c", "--dir"]);
    assert!(
        command
            .arg(setup.folder.path())
            .output()
            .unwrap()
            .status
            .success()
    );
    setup.path("my-age")
}

fn edit(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(file, text.replace(from, to)).unwrap();
}

#[test]
fn each_change_of_a_source_is_built_and_what_is_different_is_printed() {
    let setup = Setup::without_plugins();
    let folder = new_plugin(&setup);
    let source = folder.join("plugin.c");
    let mut dev = DevLoop::start(&folder);
    let first = dev.until("ctrl-c ends");
    for line in [
        "building with make",
        "config {\"path\":\"/proc/self/status\"}",
        "check     healthy: written ",
        "+ age_seconds = ",
        "+ size_bytes = 0",
    ] {
        assert!(first.contains(line), "{line}: {first}");
    }
    let is_all_passed = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("validate "));
        line.is_some_and(|line| line.contains(" passed") && !line.contains("failed"))
    };
    assert!(is_all_passed(&first), "{first}");

    // Another metric and another status.
    edit(&source, "\\\"size\\\"", "\\\"length\\\"");
    edit(&source, "\"size\"", "\"length\"");
    edit(
        &source,
        "CONDUCTOR_STATUS_HEALTHY",
        "CONDUCTOR_STATUS_DEGRADED",
    );
    let second = dev.until("ctrl-c ends");
    for line in [
        "changed: plugin.c",
        "diff      metric size_bytes removed (major)",
        "diff      metric length_bytes added (minor)",
        "check     degraded (was healthy): written ",
        "+ length_bytes = 0",
        "- size_bytes (was 0)",
    ] {
        assert!(second.contains(line), "{line}: {second}");
    }

    // A mistake, and its correction.
    edit(&source, "return NULL;", "return NUL;");
    let third = dev.until("ctrl-c ends");
    assert!(
        third.contains("build failed: make ended with exit status: 2"),
        "{third}"
    );
    assert!(!third.contains("check "), "{third}");
    edit(&source, "return NUL;", "return NULL;");
    let fourth = dev.until("ctrl-c ends");
    assert!(fourth.contains("the library is unchanged"), "{fourth}");

    // A plugin that crashes ends its check only.
    edit(&source, "double age;", "double age; abort();");
    let fifth = dev.until("ctrl-c ends");
    assert!(
        fifth.contains("check     failed (was degraded): crash: "),
        "{fifth}"
    );

    let interrupted = Command::new("kill")
        .args(["-INT", &dev.child.id().to_string()])
        .status();
    assert!(interrupted.unwrap().success());
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = dev.child.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not end");
        thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(status.code(), Some(0));
}

#[test]
fn once_ends_with_the_result() {
    let setup = Setup::without_plugins();
    let folder = new_plugin(&setup);
    let once = |config: &str| {
        let options = [
            "plugin",
            "dev",
            "--once",
            "--strictness",
            "1",
            "--config",
            config,
        ];
        let output = conductor(&options).arg(&folder).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), printed)
    };
    let (code, printed) = once("{ path = \"/proc/self/status\" }");
    assert_eq!(code, Some(0), "{printed}");
    let (code, printed) = once("{ path = \"/nowhere\" }");
    assert_eq!(code, Some(1), "{printed}");
    assert!(
        printed.contains("check     unhealthy: the file does not exist"),
        "{printed}"
    );
    let mut command = conductor(&["plugin", "dev", "--once", "--library", "/nowhere.so"]);
    let output = command.arg(&folder).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(
        printed.contains("build failed: /nowhere.so cannot be read"),
        "{printed}"
    );
    fs::write(folder.join("plugin.c"), "nothing").unwrap();
    let (code, printed) = once("{}");
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("build failed"), "{printed}");
    fs::remove_file(folder.join("Makefile")).unwrap();
    assert_eq!(once("{}").0, Some(2));
}
