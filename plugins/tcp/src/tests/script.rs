//! Conversations of several steps.

use super::*;

/// Starts a mail server that takes part in a whole conversation.
fn mail_server() -> SocketAddr {
    server(|mut stream| {
        stream
            .write_all(b"220-mail.example\r\n220 ready\r\n")
            .unwrap();
        read_until(&mut stream, b"EHLO x\r\n");
        stream.write_all(b"250-SIZE 1000\r\n250 OK\r\n").unwrap();
        read_until(&mut stream, b"QUIT\r\n");
        stream.write_all(b"221 bye\r\n").unwrap();
    })
}

#[test]
fn each_step_waits_for_its_match_and_then_sends() {
    let report = patient(&json!({"address": mail_server().to_string(), "script": [
        {"expect": "^220 ", "send": "EHLO x\r\n"},
        {"expect": r"^250-SIZE \d+\r$"},
        {"expect": "^250 OK", "send": "QUIT\r\n"},
        {"expect": "^221 "},
    ]}));
    assert_eq!(report.status(), Status::Healthy, "{report:?}");
    assert!(report.message().starts_with("responded as expected in "));
    assert_eq!(phases(&report), ["connect", "first_byte", "response"]);
}

#[test]
fn a_step_searches_what_follows_the_match_before() {
    let report = impatient(&json!({"address": mail_server().to_string(), "script": [
        {"expect": "^220 ready\r\n"},
        {"expect": "^220-"},
    ]}));
    assert_unhealthy(&report, r#"no "^220-" within 270 ms: no data received"#);
}

#[test]
fn an_expression_that_does_not_match_is_named_with_the_response() {
    let report = patient(&json!({"address": mail_server().to_string(), "script": [
        {"expect": "^220 ", "send": "EHLO x\r\nQUIT\r\n"},
        {"expect": "^250 STARTTLS"},
    ]}));
    assert_unhealthy(
        &report,
        r#"no "^250 STARTTLS" before it closed the connection: received "ready\r\n250-SIZE"#,
    );
}

#[test]
fn a_script_that_cannot_work_is_refused_with_its_key() {
    for (config, message) in [
        (
            json!({"script": [{"expect": "("}]}),
            "key `script[0].expect`: \"(\" is not a regular expression",
        ),
        (
            json!({"script": [{"send": "x"}, {}]}),
            "key `script[1]`: the step neither expects nor sends",
        ),
        (
            json!({"send": "x", "script": [{"send": "x"}]}),
            "key `send`: the `script` says what is sent",
        ),
    ] {
        let mut config = config;
        config["address"] = json!("db:1");
        let created = TestHost::new("db").create_async_unchecked::<TcpProbe>(&config.to_string());
        let failure = created.err().unwrap();
        assert_eq!(failure.kind(), FailureKind::Config);
        assert!(failure.message().contains(message), "{failure}");
    }
}
