//! `/probe`: targets that a client names, as with blackbox_exporter.

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    process::{Command, Stdio},
};

use crate::harness::{Host, Setup, library};

const TCP: &str =
    "[template.tcp]\nplugin = \"tcp\"\ntimeout = \"2s\"\nconfig = { address = \"{{target}}\" }\n";

#[test]
fn a_target_is_checked_when_a_client_names_it() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = server.local_addr().unwrap();
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let host = Setup::new().with(TCP).start();
    let text = probe(&host, &format!("target={open}&module=tcp"), 200);
    for line in [
        "# TYPE probe_success gauge",
        "probe_success 1",
        "conductor_probe_state 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    assert!(text.contains("connect"), "the probe's own metrics: {text}");
    accept_by_promtool(&text);
    let text = probe(&host, &format!("target={closed}&module=tcp"), 200);
    assert!(text.contains("\nprobe_success 0\n"), "{text}");
    assert!(text.contains("\nconductor_probe_state 2\n"), "{text}");
    let details = probe(
        &host,
        &format!("target={closed}&module=tcp&debug=true"),
        200,
    );
    assert!(details.contains("unhealthy: "), "{details}");
    assert!(details.contains("refused"), "{details}");
    let metrics = host.get("/metrics").1;
    assert!(!metrics.contains(&open.to_string()), "{metrics}");
    assert_eq!(host.status()["platforms"], serde_json::json!([]));
}

#[test]
fn a_request_that_names_no_allowed_target_or_no_module_is_refused_with_the_cure() {
    let host = Setup::new().with(TCP).start();
    for (query, code, cure) in [
        ("module=tcp", 400, "/probe?target=HOST&module=TEMPLATE"),
        (
            "target=127.0.0.1:1",
            400,
            "there is no module http_2xx: the modules are `tcp`",
        ),
        (
            "target=10.0.0.1:1&module=tcp",
            403,
            "add its host to `targets` in [probe]",
        ),
        ("target=a%5Cb&module=tcp", 400, "the target is not valid"),
    ] {
        let text = probe(&host, query, code);
        assert!(text.contains(cure), "{query}: {text}");
    }
}

#[test]
fn a_target_that_crashes_its_worker_is_not_checked_again_and_again() {
    let template = "[probe]\ntargets = [\"*\"]\n[template.fault]\nplugin = \"fault\"\nconfig = { check = { fault = \"{{target}}\" } }\n";
    let host = Setup::new()
        .with(template)
        .platform("shop", "disk", "{ path = \"/\", unhealthy_above = 100 }")
        .start();
    // A host that is starved of CPU blames no plugin for a while.
    let asked = (0..50).map(|_| probe(&host, "target=abort&module=fault&debug=true", 200));
    let mut seen = Vec::new();
    for text in asked {
        assert!(text.contains("\nprobe_success 0\n"), "{text}");
        assert!(text.contains("\nconductor_probe_state 3\n"), "{text}");
        seen.push(text);
        if seen
            .last()
            .is_some_and(|text| text.contains("its breaker is open"))
        {
            break;
        }
    }
    assert!((4..50).contains(&seen.len()), "{seen:#?}");
    let details = probe(&host, "target=none&module=fault&debug=true", 200);
    assert!(details.contains("check failed: config: "), "{details}");
    host.wait("the other platform is checked", |m| {
        m.checks("shop", "healthy") + m.checks("shop", "degraded") >= 1.0
    });
}

#[test]
fn a_template_is_judged_with_the_config_and_not_by_what_a_request_fills_in() {
    let setup = |key: &str| {
        Setup::new().with(&format!(
            "[template.web]\nplugin = \"http\"\nconfig = {{ url = \"{{{{url}}}}\", {key} = \"GET\" }}\n[template.fault]\nplugin = \"fault\"\nconfig = {{ check = {{ fault = \"{{{{target}}}}\" }} }}\n"
        ))
    };
    let check = |setup: &Setup| {
        let output = setup.command(&["config", "check"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    let (code, said) = check(&setup("mehtod"));
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("template.web.config has no key `mehtod`"),
        "{said}"
    );
    assert!(!said.contains("fault"), "{said}");
    let right = setup("method");
    let (code, said) = check(&right);
    assert_eq!(code, Some(0), "{said}");
    let http = library("conductor_plugin_http");
    fs::write(
        right.plugin_dir().join(http.file_name().unwrap()),
        "no library",
    )
    .unwrap();
    let (code, said) = check(&right);
    assert_eq!(code, Some(4), "{said}");
    assert!(
        said.contains("template.web: the library of plugin \"http\" is refused"),
        "{said}"
    );
}

/// Sends a request to `/probe`, and returns the response, which must have this status.
fn probe(host: &Host, query: &str, code: u16) -> String {
    let (found, text) = host.get(&format!("/probe?{query}"));
    assert_eq!(found, code, "{query}: {text}");
    text
}

/// Passes the text to promtool, where it is installed, which must find nothing.
fn accept_by_promtool(text: &str) {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped());
    let Ok(mut child) = promtool.stderr(Stdio::piped()).spawn() else {
        assert!(
            std::env::var_os("CI").is_none(),
            "promtool is part of what CI checks"
        );
        return;
    };
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}: {text}");
}
