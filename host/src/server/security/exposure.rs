//! What a server gives away to whoever can reach it, in words for the operator's log.

use std::net::SocketAddr;

use crate::config::web::WebConfig;

/// What an operator should know who serves at `address` by this web config.
pub(super) fn exposure(config: &WebConfig, address: SocketAddr, controls: bool) -> Option<String> {
    if address.ip().is_loopback() {
        return (controls && !config.asks_who()).then(|| {
            format!(
                "any program on this machine can make the host reload its config, check platforms, and hold their breakers open or closed through {address}: --web.enable-lifecycle asks for no password without basic_auth_users in --web.config.file"
            )
        });
    }
    if !config.asks_who() {
        let act = if controls {
            ", and can make the host read its config again, check platforms and hold their breakers open or closed (--web.enable-lifecycle)"
        } else {
            ""
        };
        return Some(format!(
            "whoever can reach {address} can see every platform with its messages, log lines and metrics{act}: ask for passwords or certificates with --web.config.file, or listen on 127.0.0.1"
        ));
    }
    config.tls.is_none().then(|| {
        format!(
            "passwords for {address} travel in the clear: add tls_server_config to the web config"
        )
    })
}

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
            assert!(acts.contains("any program on this machine"), "{acts}");
        }
        let sees = exposure(&open, everywhere, false).unwrap();
        assert!(
            sees.contains("can see every platform") && !sees.contains("lifecycle"),
            "{sees}"
        );
        let acts = exposure(&open, everywhere, true).unwrap();
        assert!(acts.contains("--web.enable-lifecycle"), "{acts}");
        let asking = WebConfig {
            users: [("a".to_owned(), "b".to_owned())].into(),
            ..WebConfig::default()
        };
        let clear = exposure(&asking, everywhere, true).unwrap();
        assert!(clear.contains("in the clear"), "{clear}");
        assert_eq!(exposure(&asking, address("127.0.0.1:9750"), true), None);
    }
}
