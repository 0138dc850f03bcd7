//! What a plugin declared, and what the operator made of it.

use std::collections::BTreeSet;

use conductor_plugin_api::manifest::Need;

use super::Capabilities;

/// What a plugin may do: all that it declared, or exactly what `allow` says where the operator wrote it.
///
/// The operator may leave out what was declared, and may add paths to read and to run, as those of a platform's config
/// cannot be declared by the author. `network` and `unix-sockets` cannot be added: a plugin that does not ask for them
/// would only be misread as one that uses them.
///
/// # Errors
/// Names what of `allow` is no path and was not declared, and what was.
pub fn capabilities(declared: &[Need], allow: Option<&[Need]>) -> Result<Capabilities, String> {
    let Some(allow) = allow else {
        return Ok(of(declared));
    };
    let stray = allow
        .iter()
        .find(|need| matches!(need, Need::Network | Need::UnixSockets) && !declared.contains(need));
    match stray {
        Some(stray) => Err(format!(
            "allow names `{stray}`, which the plugin does not declare; {}",
            declares(declared)
        )),
        None => Ok(of(allow)),
    }
}

fn of(needs: &[Need]) -> Capabilities {
    let mut capabilities = Capabilities::default();
    // Two spellings of one need are none: each once, in an order that does not depend on the file's.
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

fn declares(declared: &[Need]) -> String {
    if declared.is_empty() {
        return "it declares nothing: take it out".to_owned();
    }
    let names: Vec<String> = declared.iter().map(|need| format!("`{need}`")).collect();
    format!("it declares {}: take it out", names.join(", "))
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
        let expected = Capabilities {
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
        let expected = Capabilities {
            read: vec![PathBuf::from("/b")],
            run: vec![PathBuf::from("/c")],
            ..Capabilities::default()
        };
        assert_eq!(allowed, expected);
        let nothing = capabilities(&declared, Some(&[]));
        assert_eq!(nothing, Ok(Capabilities::default()));
    }

    #[test]
    fn what_was_not_declared_cannot_be_allowed() {
        let said = capabilities(&needs(&["read /a"]), Some(&needs(&["network"]))).unwrap_err();
        assert_eq!(
            said,
            "allow names `network`, which the plugin does not declare; it declares `read /a`: take it out"
        );
        let said = capabilities(&[], Some(&[Need::UnixSockets])).unwrap_err();
        assert!(said.ends_with("it declares nothing: take it out"), "{said}");
    }
}
