//! Warnings about a server that is open to more clients than it should be: a line for the log, and one with the cure. The
//! book's chapter on access describes what such clients can do.

use std::net::SocketAddr;

use conductor_config::web::WebConfig;

/// Returns a warning if the server at `address` is too open under this web config.
pub(super) fn exposure(config: &WebConfig, address: SocketAddr, controls: bool) -> Option<String> {
    if address.ip().is_loopback() {
        return (controls && !config.asks_who())
            .then(|| format!("anyone on this machine can operate the host:\n{SET_USERS}"));
    }
    if !config.asks_who() {
        let act = if controls { "operate" } else { "read" };
        return Some(format!("anyone can {act} {address}:\n{SET_USERS}"));
    }
    config
        .tls
        .is_none()
        .then(|| "passwords are sent in the clear:\nset tls_server_config in the file of --web.config.file".to_owned())
}

const SET_USERS: &str = "set basic_auth_users in the file of --web.config.file";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_door_to_the_network_is_warned_of() {
        let open = WebConfig::default();
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let everywhere = address("0.0.0.0:9750");
        for own in ["127.0.0.1:9750", "[::1]:9750"] {
            assert_eq!(exposure(&open, address(own), false), None);
            let acts = exposure(&open, address(own), true).unwrap();
            assert!(
                acts.contains("anyone on this machine can operate"),
                "{acts}"
            );
            assert!(acts.contains("in the file of --web.config.file"), "{acts}");
        }
        let sees = exposure(&open, everywhere, false).unwrap();
        assert!(sees.contains("anyone can read 0.0.0.0:9750"), "{sees}");
        let acts = exposure(&open, everywhere, true).unwrap();
        assert!(acts.contains("anyone can operate"), "{acts}");
        let asking = WebConfig {
            users: [("a".to_owned(), "b".to_owned())].into(),
            ..WebConfig::default()
        };
        let clear = exposure(&asking, everywhere, true).unwrap();
        assert!(clear.contains("in the clear"), "{clear}");
        assert_eq!(exposure(&asking, address("127.0.0.1:9750"), true), None);
    }
}
