//! The capabilities that a plugin declared, as changed by the operator.

use std::collections::BTreeSet;

use conductor_plugin_api::manifest::Need;

use super::PluginCapabilities;

/// An item of `allow` that only works if the plugin declares it, and that it does not declare.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("allow names `{stray}`, which the plugin does not declare; it declares {}: take it out", listed(.declared))]
pub struct UndeclaredNeed {
    stray: Need,
    declared: Vec<Need>,
}

/// Returns a plugin's capabilities: all that it declared, or exactly those of `allow` if the operator wrote it.
///
/// The operator may leave out declared capabilities, and may add paths to read and to run, because the author cannot
/// declare the paths in a platform's config. `network` and `unix-sockets` cannot be added: a plugin that does not
/// declare them would only appear to use them.
///
/// # Errors
/// When `allow` has an item that is neither a path nor declared.
pub fn capabilities(
    declared: &[Need],
    allow: Option<&[Need]>,
) -> Result<PluginCapabilities, UndeclaredNeed> {
    let Some(allow) = allow else {
        return Ok(of(declared));
    };
    let stray = allow
        .iter()
        .find(|need| matches!(need, Need::Network | Need::UnixSockets) && !declared.contains(need));
    match stray {
        Some(stray) => Err(UndeclaredNeed {
            stray: stray.clone(),
            declared: declared.to_vec(),
        }),
        None => Ok(of(allow)),
    }
}

fn of(needs: &[Need]) -> PluginCapabilities {
    let mut capabilities = PluginCapabilities::default();
    // Duplicates collapse: each need once, in an order independent of the file's.
    for need in needs.iter().collect::<BTreeSet<_>>() {
        match need {
            Need::Network => capabilities.network = true,
            Need::UnixSockets => capabilities.unix_sockets = true,
            Need::Read(path) => capabilities.read.push(path.into()),
            Need::Run(path) => capabilities.run.push(path.into()),
        }
    }
    capabilities
}

fn listed(declared: &[Need]) -> String {
    if declared.is_empty() {
        return "nothing".to_owned();
    }
    let names: Vec<String> = declared.iter().map(|need| format!("`{need}`")).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn needs(texts: &[&str]) -> Vec<Need> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn without_a_word_of_the_operator_a_plugin_may_do_what_it_declared() {
        let declared = needs(&["run /bin/b", "read /a", "network", "read /a"]);
        let expected = PluginCapabilities {
            network: true,
            unix_sockets: false,
            read: vec![PathBuf::from("/a")],
            run: vec![PathBuf::from("/bin/b")],
            no_udp: false,
        };
        assert_eq!(capabilities(&declared, None), Ok(expected));
    }

    #[test]
    fn the_operators_word_takes_away_and_adds_paths() {
        let declared = needs(&["network", "read /a"]);
        let allowed = capabilities(&declared, Some(&needs(&["read /b", "run /c"]))).unwrap();
        let expected = PluginCapabilities {
            read: vec![PathBuf::from("/b")],
            run: vec![PathBuf::from("/c")],
            ..PluginCapabilities::default()
        };
        assert_eq!(allowed, expected);
        let nothing = capabilities(&declared, Some(&[]));
        assert_eq!(nothing, Ok(PluginCapabilities::default()));
    }

    #[test]
    fn what_was_not_declared_cannot_be_allowed() {
        let refused = capabilities(&needs(&["read /a"]), Some(&needs(&["network"]))).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "allow names `network`, which the plugin does not declare; it declares `read /a`: take it out"
        );
        let refused = capabilities(&[], Some(&[Need::UnixSockets])).unwrap_err();
        let said = refused.to_string();
        assert!(said.ends_with("it declares nothing: take it out"), "{said}");
    }
}
