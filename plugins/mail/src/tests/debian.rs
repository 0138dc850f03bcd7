//! Postfix and Dovecot, started in a temporary folder; only where they are installed, and only for root, as they require.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::PathBuf,
    process::Command,
};

use conductor_real_servers::{RealServer, program, skip, wait_until};

use super::*;

/// A folder with certificates, configs and logs that all users of the mail system can enter.
struct MailFolder {
    folder: tempfile::TempDir,
    /// An address of this test alone, so that no other program takes its ports.
    ip: String,
}

impl MailFolder {
    /// Returns `None` if this user may not start servers of mail. The `number` is another one for each test.
    fn new(number: u8) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        if fs::metadata(folder.path()).unwrap().uid() != 0 {
            skip("Postfix and Dovecot are started by root alone");
            return None;
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let names = ["mx.shop.example".to_owned()];
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.not_after = rcgen::date_time_ymd(2040, 1, 1);
        let certificate = params.self_signed(&key).unwrap();
        fs::write(folder.path().join("cert.pem"), certificate.pem()).unwrap();
        fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
        let [.., high, low] = std::process::id().to_be_bytes();
        let ip = format!("127.{number}.{high}.{low}");
        Some(Self { folder, ip })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns a port that is free on the address of the test.
    fn port(&self) -> u16 {
        let listener = TcpListener::bind((self.ip.as_str(), 0)).unwrap();
        listener.local_addr().unwrap().port()
    }

    /// Returns a config with TLS.
    fn config(&self, protocol: &str, port: u16, more: Value) -> Value {
        let config = json!({
            "protocol": protocol, "address": format!("{}:{port}", self.ip),
            "tls": {"ca_file": self.path("cert.pem"), "server_name": "mx.shop.example"},
        });
        with(config, more)
    }

    /// Returns true if the server responds well.
    fn is_ready(&self, protocol: &str, port: u16) -> bool {
        check(&self.config(protocol, port, json!({}))).status() == Status::Healthy
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }
}

struct Dovecot {
    process: RealServer,
    imap: u16,
    imaps: u16,
    pop3: u16,
    pop3s: u16,
}

impl Dovecot {
    /// Returns `None` if it is not installed.
    fn start(mail: &MailFolder) -> Option<Self> {
        let dovecot = program("dovecot", "dovecot-imapd dovecot-pop3d")?;
        let [imap, imaps, pop3, pop3s] = [(); 4].map(|()| mail.port());
        let root = mail.folder.path().display();
        let config = format!(
            r"
base_dir = {root}/run
state_dir = {root}/state
log_path = {root}/dovecot.log
protocols = imap pop3
listen = {ip}
ssl = yes
ssl_cert = <{root}/cert.pem
ssl_key = <{root}/key.pem
mail_location = maildir:{root}/mail
first_valid_uid = 1
auth_failure_delay = 0
passdb {{
  driver = static
  args = password=open-sesame
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={root}/mail
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = {pop3s}
  }}
}}
# No delay of logins after wrong passwords from the same address.
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service auth {{
  unix_listener {root}/auth {{
    mode = 0666
  }}
}}
",
            ip = mail.ip
        );
        fs::write(mail.path("dovecot.conf"), config).unwrap();
        for folder in ["mail", "mail/cur", "mail/new", "mail/tmp"] {
            let path = mail.path(folder);
            fs::create_dir(&path).unwrap();
            chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut command = Command::new(dovecot);
        command.arg("-F").arg("-c").arg(mail.path("dovecot.conf"));
        let process = RealServer::start(command, || {
            mail.is_ready("imap", imap) && mail.is_ready("pop3", pop3)
        });
        Some(Self {
            process,
            imap,
            imaps,
            pop3,
            pop3s,
        })
    }
}

/// Its master process is a daemon, which `postfix` starts and ends.
struct Postfix {
    program: PathBuf,
    config: PathBuf,
    smtp: u16,
    smtps: u16,
}

impl Postfix {
    /// Returns `None` if it is not installed.
    fn start(mail: &MailFolder) -> Option<Self> {
        let program = program("postfix", "postfix")?;
        let [smtp, smtps] = [(); 2].map(|()| mail.port());
        let (root, ip) = (mail.folder.path().display(), &mail.ip);
        let config = mail.path("postfix");
        for folder in ["postfix", "queue", "data"] {
            fs::create_dir(mail.path(folder)).unwrap();
        }
        let owner = Command::new("/usr/bin/id").args(["-u", "postfix"]).output();
        let owner = String::from_utf8(owner.unwrap().stdout).unwrap();
        chown(mail.path("data"), owner.trim().parse().ok(), None).unwrap();
        let main = format!(
            "
compatibility_level = 3.6
queue_directory = {root}/queue
data_directory = {root}/data
mail_owner = postfix
setgid_group = postdrop
maillog_file = {root}/postfix.log
maillog_file_prefixes = {root}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.shop.example
mydestination = shop.example
local_recipient_maps = inline:{{ postmaster@shop.example=x, later@shop.example=x }}
alias_maps =
alias_database =
smtpd_recipient_restrictions = check_recipient_access inline:{{ {{later@shop.example = 450 4.7.1 greylisted}} }}, reject_unauth_destination
smtpd_tls_cert_file = {root}/cert.pem
smtpd_tls_key_file = {root}/key.pem
smtpd_tls_security_level = may
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {root}/auth
"
        );
        let mut services = format!(
            "{ip}:{smtp} inet n - n - - smtpd\n{ip}:{smtps} inet n - n - - smtpd\n  -o smtpd_tls_wrappermode=yes\n"
        );
        for (name, program, limit) in [
            ("cleanup", "cleanup", 0),
            ("rewrite", "trivial-rewrite", 1),
            ("tlsmgr", "tlsmgr", 1),
            ("anvil", "anvil", 1),
        ] {
            let is_private = if name == "cleanup" { "n" } else { "-" };
            writeln!(services, "{name} unix {is_private} - n - {limit} {program}").unwrap();
        }
        services.push_str("postlog unix-dgram n - n - 1 postlogd\n");
        fs::write(config.join("main.cf"), main).unwrap();
        fs::write(config.join("master.cf"), services).unwrap();
        let started = Self {
            program,
            config,
            smtp,
            smtps,
        };
        let is_started = started.command("start").status.success();
        assert!(is_started, "{}", mail.log("postfix.log"));
        wait_until(|| mail.is_ready("smtp", smtp));
        Some(started)
    }

    fn command(&self, name: &str) -> std::process::Output {
        Command::new(&self.program)
            .arg("-c")
            .arg(&self.config)
            .arg(name)
            .output()
            .unwrap()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let _ = self.command("abort");
    }
}

/// Returns the login of the tests, encrypted.
fn encrypted_login() -> Value {
    json!({"username": "tester", "password": "open-sesame"})
}

#[test]
fn dovecot_is_checked_by_imap_and_pop3() {
    let Some(mail) = MailFolder::new(81) else {
        return;
    };
    let Some(mut server) = Dovecot::start(&mail) else {
        return;
    };
    for (protocol, encryption, port) in [
        ("imap", "starttls", server.imap),
        ("imap", "tls", server.imaps),
        ("pop3", "starttls", server.pop3),
        ("pop3", "tls", server.pop3s),
    ] {
        let keys = with(encrypted_login(), json!({"encryption": encryption}));
        let config = mail.config(protocol, port, keys);
        let report = check(&config);
        assert_report(&report, Status::Healthy, "; 0 messages");
        let seconds_to_2040 = 2_208_988_800.0;
        assert_eq!(report.value(&CERTIFICATE_EXPIRY, []), Some(seconds_to_2040));
        assert!(report.value(&PHASE, ["tls"]).is_some());
        let report = check(&with(config.clone(), json!({"password": "wrong"})));
        assert_report(&report, Status::Unhealthy, "refuses the login: ");
        let report = check(&with(
            config,
            json!({"tls": {"ca_file": mail.path("cert.pem")}}),
        ));
        assert_report(&report, Status::Unhealthy, &mail.ip);
    }

    fs::write(mail.path("mail/new/1.a"), "Subject: x\n\nx\n").unwrap();
    let more = json!({"capabilities": ["IDLE"], "age": {"unhealthy_above": "1h"}});
    let inbox = mail.config("imap", server.imap, with(encrypted_login(), more));
    let report = check(&inbox);
    assert_report(&report, Status::Healthy, "; 1 message, ");
    assert!(report.value(&NEWEST, []).unwrap() > 1.7e9);
    let missing = with(inbox.clone(), json!({"folder": "no \"such\" \\folder"}));
    assert_report(&check(&missing), Status::Unhealthy, "refuses the folder ");
    // Neither the message nor its state has changed.
    assert!(mail.path("mail/new/1.a").exists());
    let count = mail.config("pop3", server.pop3, encrypted_login());
    let report = check(&with(count, json!({"messages": {"degraded_above": 0}})));
    assert_report(
        &report,
        Status::Degraded,
        "1 message (`messages.degraded_above` is 0)",
    );

    let in_clear = json!({"encryption": "none", "tls": null});
    let in_clear = with(mail.config("imap", server.imap, login()), in_clear);
    let report = check(&in_clear);
    assert_report(
        &report,
        Status::Unhealthy,
        "does not allow a login with a password",
    );
    server.process.kill();
    // Refused, or reset while its children end.
    assert_report(&check(&inbox), Status::Unhealthy, "cannot ");
}

#[test]
fn postfix_is_checked_and_delivers_nothing() {
    let Some(mail) = MailFolder::new(82) else {
        return;
    };
    // Dovecot judges the logins.
    let (Some(_dovecot), Some(server)) = (Dovecot::start(&mail), Postfix::start(&mail)) else {
        return;
    };
    let offer = |recipient: &str| {
        let keys = json!({"recipient": recipient, "capabilities": ["SIZE", "PIPELINING"]});
        check(&mail.config("smtp", server.smtp, keys))
    };
    let report = offer("postmaster@shop.example");
    let message = "accepts mail for postmaster@shop.example";
    assert_report(&report, Status::Healthy, message);
    assert_eq!(report.value(&CODE, []), Some(250.0));
    let report = offer("later@shop.example");
    assert_report(&report, Status::Degraded, "for now: \"450 4.7.1 ");
    for (recipient, message) in [
        ("no@shop.example", "\"550 5.1.1 "),
        ("a@elsewhere.example", "Relay access denied"),
    ] {
        let report = offer(recipient);
        assert_report(&report, Status::Unhealthy, message);
    }
    for (encryption, port) in [("starttls", server.smtp), ("tls", server.smtps)] {
        let keys = json!({"encryption": encryption, "capabilities": ["AUTH PLAIN"]});
        let config = mail.config("smtp", port, with(encrypted_login(), keys));
        assert_report(&check(&config), Status::Healthy, "ready in ");
        let report = check(&with(config, json!({"password": "wrong"})));
        assert_report(&report, Status::Unhealthy, "refuses the login: \"535 ");
    }
    let in_clear = with(login(), json!({"encryption": "none", "tls": null}));
    let report = check(&mail.config("smtp", server.smtp, in_clear));
    assert_report(&report, Status::Unhealthy, "does not offer a login");

    let read_log = || mail.log("postfix.log");
    let ended = "ehlo=2 starttls=1 mail=1 rcpt=1 rset=1 quit=1";
    wait_until(|| read_log().contains(ended));
    assert!(!read_log().contains(" data="), "{}", read_log());
    assert!(server.command("stop").status.success());
    // Refused, or reset while its children end.
    let report = offer("postmaster@shop.example");
    assert_report(&report, Status::Unhealthy, "cannot ");
}

/// The user without privileges, and its group.
const NOBODY: u32 = 65_534;
