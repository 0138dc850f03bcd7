//! Receivers of notifications: secrets are looked up, and mistakes are named.

use super::*;
use crate::ReceiverConfig;

fn read(folder: &Path, receiver: &str) -> Result<ConductorConfig, ConfigError> {
    let text = format!("[platform.shop]\nplugin = \"disk\"\n[notify.chat]\n{receiver}\n");
    ConductorConfig::parse(text, "conductor.toml", folder)
}

#[test]
fn secrets_are_looked_up_and_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("url"), "https://chat.example/hunter2\n").unwrap();
    std::fs::write(folder.path().join("key"), "Bearer hunter3\n").unwrap();
    let text =
        "webhook = { url = { file = \"url\" }, headers = { Authorization = { file = \"key\" } } }";
    let config = read(folder.path(), text).unwrap();
    let receiver = &config.receivers["chat"];
    let ReceiverConfig::Webhook(webhook) = &receiver.receiver else {
        panic!("it is a webhook");
    };
    assert_eq!(webhook.url, "https://chat.example/hunter2");
    assert_eq!(webhook.headers[0].1, "Bearer hunter3");
    assert!(!format!("{receiver:?}").contains("hunter"));
    assert!(
        config
            .secrets()
            .any(|secrets| secrets.texts().any(|text| text == "Bearer hunter3"))
    );
    assert!(config.hidden().contains(&folder.path().join("url")));
}

#[test]
fn mistakes_are_named_with_their_cure() {
    let folder = tempfile::tempdir().unwrap();
    for (text, wanted) in [
        ("", "notify.chat has no receiver"),
        (
            "alertmanager = { urls = [\"http://a\"] }\nwebhook = { url = \"http://b\" }",
            "notify.chat has both alertmanager and webhook",
        ),
        ("webhook = { url = \"chat\" }", "notify.chat.webhook.url: "),
        (
            "alertmanager = { urls = [\"ftp://a\"] }",
            "notify.chat.alertmanager.urls: ",
        ),
        (
            "alertmanager = { urls = [\"http://a\"] }\nsend_resolved = false",
            "notify.chat.send_resolved has no effect on Alertmanager",
        ),
        (
            "webhook = { url = \"http://a\", body = '{\"a\": \"{{nme}}\"}' }",
            "there is no placeholder {{nme}}",
        ),
        (
            "webhook = { url = \"http://a\" }\nplatforms = [\"shpo\"]",
            "did you mean \"shop\"?",
        ),
        (
            "webhook = { url = \"http://a\" }\ngroup_wait = \"2h\"",
            "out of range",
        ),
        (
            "webhook = { url = { file = \"none\" } }",
            "none cannot be read",
        ),
    ] {
        let error = read(folder.path(), text).unwrap_err().to_plain();
        assert!(error.contains(wanted), "{text}: {error}");
    }
}
