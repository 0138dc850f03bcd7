//! The token of heartbeats is a secret wherever it is written.

use super::*;

const IN_TEXT: &str = "in-the-text-itself";
const IN_FILE: &str = "in-a-file-beside-it";

fn read(folder: &Path, platform: &str) -> Result<ConductorConfig, ConfigError> {
    let text = format!("[platform.job]\nplugin = \"heartbeat\"\n{platform}\n");
    ConductorConfig::parse(text, "conductor.toml", folder)
}

#[test]
fn the_token_is_known_to_the_host_and_hidden_from_plugins() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("job.token");
    std::fs::write(&file, format!("{IN_FILE}\n")).unwrap();
    for (token, secret) in [
        (format!("\"{IN_TEXT}\""), IN_TEXT),
        ("{ file = \"job.token\" }".to_owned(), IN_FILE),
    ] {
        let config = read(folder.path(), &format!("heartbeat = {{ token = {token} }}")).unwrap();
        let platform = &config.platforms[0];
        let heartbeat = platform.heartbeat.as_ref().unwrap();
        assert_eq!(heartbeat.token, secret);
        let mut texts = config.secrets().flat_map(|secrets| secrets.texts());
        assert!(texts.any(|text| text == secret), "it is not redacted");
        assert!(!platform.config.to_string().contains(secret));
        assert!(!format!("{platform:?}").contains(secret));
        assert_eq!(config.hidden().contains(&file), secret == IN_FILE);
    }
}

#[test]
fn a_token_that_is_none_is_refused_without_being_shown() {
    let folder = tempfile::tempdir().unwrap();
    for (platform, wanted) in [
        (
            "heartbeat = { token = \"hunter2\" }",
            "platform.job.heartbeat.token: the secret is shorter than 16 characters",
        ),
        (
            "heartbeat = { token = \"hunter2 hunter2 hunter2\" }",
            "platform.job.heartbeat.token: the secret has a character other than ASCII letters",
        ),
        (
            "heartbeat = {}",
            "platform.job.heartbeat lacks the key `token`",
        ),
        (
            "heartbeat = { token = { file = \"none\" } }",
            "none cannot be read",
        ),
        (
            "",
            "platform.job: the plugin heartbeat needs the key `heartbeat`",
        ),
    ] {
        let error = read(folder.path(), platform).unwrap_err().to_plain();
        assert!(error.contains(wanted), "{platform}: {error}");
        assert_eq!(error.matches("conductor.toml:").count(), 1, "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
