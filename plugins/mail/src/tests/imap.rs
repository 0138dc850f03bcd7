//! IMAP: folded lines, logins and folders.

use super::*;

const GREETING: (&str, &str) = ("* OK ready\r\n", "c1 CAPABILITY");
const LOGIN: (&str, &str) = (
    "* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n* OK [ALERT] hi\r\nc1 OK\r\n",
    "c2 AUTHENTICATE PLAIN",
);
const SECRET: (&str, &str) = ("+ \r\n", "AHRlc3RlcgBvcGVuLXNlc2FtZQ==");
const EXAMINE: (&str, &str) = (
    "c2 OK [CAPABILITY IMAP4rev1] in\r\n",
    "c3 EXAMINE \"INBOX\"",
);

#[test]
fn a_folder_is_counted_and_its_newest_message_dated() {
    let server = Server::talking(&[
        GREETING,
        LOGIN,
        SECRET,
        EXAMINE,
        // A literal may look like the end of the response.
        (
            "* LIST () \"/\" {15}\r\nc3 NO not it\r\n* (x)\r\n* 12 EXISTS\r\nc3 OK [READ-ONLY] done\r\n",
            "c4 FETCH * (INTERNALDATE)",
        ),
        (
            "* 12 FETCH (FLAGS (\\Seen) INTERNALDATE \" 1-Jan-2020 00:00:00 +0000\")\r\nc4 OK\r\n",
            "c5 LOGOUT",
        ),
        ("* BYE\r\nc5 OK\r\n", ""),
    ]);
    let report = check(&server.config("imap", login()));
    assert_report(&report, Status::Healthy, "; 12 messages, the newest ");
    assert_eq!(report.value(&MESSAGES, []), Some(12.0));
    assert_eq!(report.value(&NEWEST, []), Some(1_577_836_800.0));
    for phase in ["login", "mailbox"] {
        assert!(report.value(&PHASE, [phase]).is_some(), "{phase}");
    }

    let old = with(
        login(),
        json!({"age": {"degraded_above": "1d", "unhealthy_above": "2d"}}),
    );
    let report = check(&server.config("imap", old));
    assert_report(
        &report,
        Status::Unhealthy,
        " ago (`age.unhealthy_above` is 2days)",
    );
    let full = with(
        login(),
        json!({"messages": {"degraded_above": 11, "unhealthy_above": 12}}),
    );
    let report = check(&server.config("imap", full));
    assert_report(
        &report,
        Status::Degraded,
        "12 messages (`messages.degraded_above` is 11)",
    );
}

#[test]
fn an_empty_folder_has_no_newest_message() {
    let server = Server::talking(&[
        GREETING,
        LOGIN,
        SECRET,
        ("c2 OK\r\n", "c3 EXAMINE \"Daily\""),
        ("* 0 EXISTS\r\nc3 OK\r\n", "c4 LOGOUT"),
    ]);
    let folder = with(login(), json!({"folder": "Daily"}));
    let report = check(&server.config("imap", folder.clone()));
    assert_report(&report, Status::Healthy, "; 0 messages");
    assert_eq!(report.value(&NEWEST, []), None);
    let report = check(&server.config(
        "imap",
        with(folder, json!({"age": {"degraded_above": "1d"}})),
    ));
    assert_report(
        &report,
        Status::Degraded,
        "there is no message (`age.degraded_above` is 1day)",
    );
}

#[test]
fn a_refused_login_or_folder_is_quoted() {
    let server = Server::talking(&[
        GREETING,
        LOGIN,
        SECRET,
        ("c2 NO [AUTHENTICATIONFAILED] wrong\r\n", ""),
    ]);
    assert_report(
        &check(&server.config("imap", login())),
        Status::Unhealthy,
        r#"refuses the login: "NO [AUTHENTICATIONFAILED] wrong""#,
    );
    let server = Server::talking(&[GREETING, LOGIN, SECRET, EXAMINE, ("c3 NO no such\r\n", "")]);
    let report = check(&server.config("imap", login()));
    assert_report(
        &report,
        Status::Unhealthy,
        r#"refuses the folder "INBOX": "NO no such""#,
    );
    assert!(report.value(&PHASE, ["login"]).is_some());
    assert!(report.value(&PHASE, ["mailbox"]).is_none());
}

#[test]
fn a_login_without_plain_sends_literals() {
    let server = Server::talking(&[
        GREETING,
        ("* CAPABILITY IMAP4rev1\r\nc1 OK\r\n", "c2 LOGIN {6}"),
        ("+ \r\n", "tester {11}"),
        ("+ \r\n", "open-sesame"),
        EXAMINE,
        ("* 0 EXISTS\r\nc3 OK\r\n", "c4 LOGOUT"),
    ]);
    assert_report(
        &check(&server.config("imap", login())),
        Status::Healthy,
        "0 messages",
    );
}

#[test]
fn a_server_that_says_goodbye_is_unhealthy() {
    let server = Server::talking(&[("* BYE too many\r\n", "")]);
    let report = check(&server.config("imap", json!({})));
    assert_report(
        &report,
        Status::Unhealthy,
        r#"refuses the connection: "BYE too many""#,
    );
    let server = Server::talking(&[GREETING, ("* BYE going down\r\n", "")]);
    let report = check(&server.config("imap", json!({})));
    assert_report(
        &report,
        Status::Unhealthy,
        r#"refuses CAPABILITY: "BYE going down""#,
    );
}
