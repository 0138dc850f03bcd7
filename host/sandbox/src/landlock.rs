//! The landlock layer: opens files and folders to a worker by name, and limits its access to other processes.

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, Scope,
};

use super::{
    SandboxError, SandboxPolicy,
    files::{self, AccessRights},
};

/// The outcome of applying landlock.
pub(super) struct LandlockOutcome {
    /// Restrictions that could not be applied, and paths that could not be opened.
    pub(super) lines: Vec<String>,
    /// `true` if the worker cannot signal processes other than itself and its children.
    pub(super) scopes_signals: bool,
}

/// Closes everything that landlock controls, except for what the policy and every probe need.
pub(super) fn apply(policy: &SandboxPolicy) -> Result<LandlockOutcome, SandboxError> {
    let open = files::open(policy);
    let status = restrict(policy, &open.files)?;
    let mut held = LandlockOutcome {
        lines: open.lines,
        scopes_signals: false,
    };
    match status {
        LandlockStatus::Available { effective_abi, .. } => {
            held.scopes_signals = effective_abi >= ABI::V6;
            if effective_abi < ABI::V3 {
                held.lines.push("the kernel's landlock is of version 1 or 2: a plugin may empty files that it can read and the host's user can write".to_owned());
            }
        }
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => {
            let why = match status {
                LandlockStatus::NotEnabled => "it is not among the boot parameter lsm=",
                _ => "it was built without it, or a container hides it",
            };
            held.lines.push(format!(
                "the kernel has no landlock ({why}): a plugin can read and change the contents of files as the host's user can"
            ));
        }
    }
    Ok(held)
}

fn restrict(
    policy: &SandboxPolicy,
    files: &[files::AccessGrant],
) -> Result<LandlockStatus, RulesetError> {
    let can = &policy.capabilities;
    let mut handled = AccessFs::from_all(NEWEST);
    if can.unix_sockets {
        handled.remove(AccessFs::ResolveUnix);
    }
    // Without rules, each of these closes the access it names. Access rights unknown to the kernel are left out.
    let mut ruleset = Ruleset::default()
        .handle_access(handled)?
        .scope(Scope::Signal)?;
    if !can.unix_sockets {
        ruleset = ruleset.scope(Scope::AbstractUnixSocket)?;
    }
    if !can.network {
        ruleset = ruleset.handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?;
    }
    let mut ruleset = ruleset.create()?;
    for file in files {
        // Skip a path that was removed after it was resolved.
        if let Ok(fd) = PathFd::new(&file.path) {
            ruleset = ruleset.add_rule(PathBeneath::new(fd, access(file)))?;
        }
    }
    Ok(ruleset.restrict_self()?.landlock)
}

fn access(file: &files::AccessGrant) -> BitFlags<AccessFs> {
    let read = match file.is_folder {
        true => AccessFs::ReadFile | AccessFs::ReadDir,
        false => AccessFs::ReadFile.into(),
    };
    match file.rights {
        AccessRights::Read => read,
        AccessRights::ReadAndWrite => read | AccessFs::WriteFile | AccessFs::Truncate,
        AccessRights::Run => read | AccessFs::Execute,
    }
}

/// The newest version whose rights are all closed; the crate leaves out those unknown to the kernel.
const NEWEST: ABI = ABI::V9;
