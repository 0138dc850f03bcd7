//! The sandbox around a running plugin: a greedy plugin is ended with a reason, a new policy reaches it, and its needs
//! are granted.

use std::{fs, path::Path};

use super::source::{Language, checking, compile};
use crate::harness::{Host, Metrics, Setup, library};

/// Returns the source with this code before the plugin's own.
fn with_headers(source: &str) -> String {
    format!(
        "#define _GNU_SOURCE\n#include <fcntl.h>\n#include <sys/mman.h>\n#include <unistd.h>\n#include <string.h>\n{source}"
    )
}

fn restarts(metrics: &Metrics, reason: &str) -> f64 {
    let labels = [("plugin", "sinner"), ("reason", reason)];
    metrics.sum("conductor_worker_restarts_total", &labels)
}

#[test]
fn a_worker_that_takes_memory_around_its_limits_is_ended_and_named() {
    let setup = Setup::without_plugins();
    setup.install(&library("conductor_plugin_disk"));
    // Memory that is written and then made read-only is no longer private and writable, but it is still memory.
    let hog = checking(
        "for (int i = 0; i < 40; i++) { char *m = mmap(0, 8 << 20, 3, 0x22, -1, 0);
         if (m != MAP_FAILED) { memset(m, 1, 8 << 20); mprotect(m, 8 << 20, 1); } usleep(1000); }
         conductor_report(call, 0, \"fine\"); sleep(5);",
    );
    if !compile(
        &with_headers(&hog),
        Language::C,
        &setup.plugin_dir().join("x.so"),
    ) {
        return;
    }
    let host = setup
        .with("[plugin.sinner]\nlimits = { memory = \"64MiB\" }")
        .platform("hog", "sinner", "{}")
        .platform("other", "disk", "{ path = \"/\" }")
        .start();
    let metrics = host.wait("its end", |m| restarts(m, "limit") >= 1.0);
    host.wait_for_log("MiB of memory; its limit is 64 MiB, and was killed");
    assert_eq!(metrics.failures("other", "crash"), 0.0);
    assert_eq!(metrics.failed_in_time("other"), 0.0);
}

#[test]
fn a_file_that_a_reload_makes_a_secret_is_closed_to_workers_that_can_read_it() {
    let setup = Setup::without_plugins();
    setup.install(&library("conductor_plugin_fault"));
    setup.install(&library("conductor_plugin_disk"));
    let folder = setup.path("shared");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("shop.token"), "healthy").unwrap();
    let path = folder.join("shop.token");
    let reader = checking(&format!(
        "int f = open(\"{}\", O_RDONLY); conductor_report(call, f < 0 ? 2 : 0, f < 0 ? \"it is closed\" : \"it is open\"); close(f);",
        path.display()
    ));
    if !compile(
        &with_headers(&reader),
        Language::C,
        &setup.plugin_dir().join("x.so"),
    ) {
        return;
    }
    let host = setup
        .with(&format!(
            "[plugin.sinner]\nallow = [\"read {}\"]",
            folder.display()
        ))
        .platform("reader", "sinner", "{}")
        .platform("other", "disk", "{ path = \"/\" }")
        .start();
    host.wait_for_log("healthy: it is open");
    let config = host.setup.path("conductor.toml");
    let before = fs::read_to_string(&config).unwrap();
    let shop = "[platform.shop]\nplugin = \"fault\"\nconfig = { status = { file = \"shared/shop.token\" } }\n";
    fs::write(&config, format!("{before}{shop}")).unwrap();
    host.reload();
    host.wait_for_log("unhealthy (was healthy): it is closed");
    host.wait_for_log("which is closed to plugins now");
    let metrics = host.wait("a restart", |m| restarts(m, "replace") == 1.0);
    let others = [("plugin", "disk"), ("reason", "replace")];
    assert_eq!(metrics.sum("conductor_worker_restarts_total", &others), 0.0);
    // And opened again once it is no secret.
    fs::write(&config, before).unwrap();
    host.reload();
    host.wait("another restart", |m| restarts(m, "replace") == 2.0);
}

#[test]
fn a_worker_that_can_read_a_new_secret_ends_where_no_other_loads() {
    let setup = Setup::without_plugins();
    setup.install(&library("conductor_plugin_fault"));
    setup.install(&library("conductor_plugin_disk"));
    let folder = setup.path("shared");
    fs::create_dir(&folder).unwrap();
    let secret = folder.join("shop.token");
    // No generation loads without the file, once it is there.
    let picky = format!(
        "__attribute__((constructor)) static void load(void)
         {{ if (access(\"{0}\", F_OK) != 0) return; int f = open(\"{0}\", O_RDONLY); if (f < 0) _exit(7); close(f); }}\n{1}",
        secret.display(),
        checking("conductor_report(call, 0, \"it is loaded\");")
    );
    if !compile(
        &with_headers(&picky),
        Language::C,
        &setup.plugin_dir().join("x.so"),
    ) {
        return;
    }
    let host = setup
        .with(&format!(
            "[plugin.sinner]\nallow = [\"read {}\"]",
            folder.display()
        ))
        .platform("reader", "sinner", "{}")
        .platform("other", "disk", "{ path = \"/\" }")
        .start();
    let before = host.wait("checks of both", |m| {
        m.checks("reader", "healthy") >= 1.0 && m.checks("other", "healthy") >= 1.0
    });
    let plugin = |host: &Host| {
        let plugins = host.status()["plugins"].clone();
        let mut plugins = plugins.as_array().unwrap().iter();
        plugins.find(|p| p["id"] == "sinner").unwrap().clone()
    };
    let worker = plugin(&host)["pid"].as_u64().unwrap();

    fs::write(&secret, "healthy").unwrap();
    let config = host.setup.path("conductor.toml");
    let text = fs::read_to_string(&config).unwrap();
    let shop = "[platform.shop]\nplugin = \"fault\"\nconfig = { status = { file = \"shared/shop.token\" } }\n";
    fs::write(&config, format!("{text}{shop}")).unwrap();
    host.reload();
    let reason = format!(
        "its worker exited with code 7 while it loaded the library; the running worker was ended: it can read {}, which is closed to plugins now",
        secret.display()
    );
    host.wait_for_log(&reason);
    let metrics = host.wait("failed checks", |m| m.failures("reader", "crash") >= 1.0);
    let process = format!("/proc/{worker}");
    host.wait("the end of its process", |_| !Path::new(&process).exists());
    // A later attempt to load it may have failed by now, too.
    let reason = "its worker exited with code 7 while it loaded the library";
    let status = host.status();
    let mut platforms = status["platforms"].as_array().unwrap().iter();
    let reader = platforms.find(|p| p["name"] == "reader").unwrap();
    assert!(reader.to_string().contains(reason), "{reader:#}");
    let sinner = plugin(&host);
    assert!(sinner["pid"].is_null(), "{sinner:#}");
    assert!(sinner["error"].to_string().contains(reason), "{sinner:#}");
    // The bystander loses no check, and its worker stays.
    assert_eq!(metrics.failed_in_time("other"), 0.0);
    assert!(metrics.checks("other", "healthy") >= before.checks("other", "healthy"));
    let others = [("plugin", "disk")];
    assert_eq!(metrics.sum("conductor_worker_restarts_total", &others), 0.0);
}

#[test]
fn a_check_has_the_stack_that_c_code_expects() {
    let setup = Setup::without_plugins();
    let deep = checking(
        "volatile char b[7000 * 1024]; for (size_t i = 0; i < sizeof b; i += 4096) b[i] = 1;
         conductor_report(call, b[0] == 1 ? 0 : 2, \"deep\");",
    );
    if !compile(&deep, Language::C, &setup.plugin_dir().join("x.so")) {
        return;
    }
    let host = setup.platform("deep", "sinner", "{}").start();
    host.wait("checks", |m| m.checks("deep", "healthy") >= 3.0);
}

#[test]
fn a_library_with_static_thread_local_storage_is_loaded() {
    let setup = Setup::without_plugins();
    let storage =
        "static __thread char storage[3500] __attribute__((tls_model(\"initial-exec\")));\n";
    let tls = checking("storage[7]++; conductor_report(call, 0, \"stored\");");
    if !compile(
        &format!("{storage}{tls}"),
        Language::C,
        &setup.plugin_dir().join("x.so"),
    ) {
        return;
    }
    let host = setup.platform("tls", "sinner", "{}").start();
    host.wait("checks", |m| m.checks("tls", "healthy") >= 3.0);
}
