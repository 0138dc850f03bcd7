//! Restricts a worker on Windows, from inside.
//!
//! | layer | restricts |
//! |---|---|
//! | token | no privileges but the one that every program has; low integrity, which writes to no file, registry key or process of the user |
//! | mitigations | no DLLs of remote or untrusted folders, and none that other programs insert |
//! | access list | other processes of the user can end the worker, and not read or change it |
//!
//! The host adds the job of the worker, which limits memory, processes and CPU. Files can be read, and the network be
//! used, without being declared: only an AppContainer could refuse that, and it would refuse connections to this
//! machine too, which probes are for.
#![expect(
    unsafe_code,
    reason = "no safe crate restricts the token of a process or sets its mitigations"
)]

use std::{
    io,
    mem::offset_of,
    os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle},
    ptr,
};

use conductor_library::close_process;
use windows_sys::Win32::{
    Foundation::LUID,
    Security::{
        AdjustTokenPrivileges, GetTokenInformation, LUID_AND_ATTRIBUTES, SE_PRIVILEGE_REMOVED,
        SID_AND_ATTRIBUTES, SetTokenInformation, TOKEN_ADJUST_DEFAULT, TOKEN_ADJUST_PRIVILEGES,
        TOKEN_MANDATORY_LABEL, TOKEN_PRIVILEGES, TOKEN_QUERY, TokenIntegrityLevel, TokenPrivileges,
    },
    System::{
        SystemServices::SE_GROUP_INTEGRITY,
        Threading::{
            GetCurrentProcess, OpenProcessToken, PROCESS_MITIGATION_POLICY,
            ProcessExtensionPointDisablePolicy, ProcessImageLoadPolicy, SetProcessMitigationPolicy,
        },
    },
};

use super::SandboxPolicy;

#[cfg(test)]
mod tests;

/// Restricts this process permanently; returns what could not be restricted.
pub(super) fn apply(policy: &SandboxPolicy) -> Vec<String> {
    let mut layers = Vec::new();
    // As on Linux: a worker that may dump its core may also be inspected.
    if !policy.limits.core_dumps {
        layers.push((
            "other programs of the host's user can read its memory",
            close_process(),
        ));
    }
    let token = |restrict: fn(&ProcessToken) -> io::Result<()>| restrict(&ProcessToken::open()?);
    layers.extend([
        (
            "it keeps the privileges of the host's user",
            token(ProcessToken::drop_privileges),
        ),
        (
            "a plugin can write what the host's user can write",
            token(ProcessToken::lower_integrity),
        ),
        (
            "other programs can insert DLLs into it",
            mitigate(ProcessExtensionPointDisablePolicy, DISABLE_EXTENSION_POINTS),
        ),
        (
            "a plugin can load DLLs from remote and untrusted folders",
            mitigate(ProcessImageLoadPolicy, NO_REMOTE_OR_LOW_IMAGES),
        ),
    ]);
    let refused = layers
        .into_iter()
        .filter_map(|(consequence, done)| Some(format!("{consequence}: {}", done.err()?)));
    let mut lines: Vec<_> = refused.collect();
    lines.push(OPEN.to_owned());
    lines
}

/// The token of this process.
struct ProcessToken(OwnedHandle);

impl ProcessToken {
    fn open() -> io::Result<Self> {
        let mut token = ptr::null_mut();
        let access = TOKEN_QUERY | TOKEN_ADJUST_PRIVILEGES | TOKEN_ADJUST_DEFAULT;
        // SAFETY: the pseudo handle of this process is always valid, and `token` is a place for one handle, which
        // nothing else closes.
        unsafe {
            checked(OpenProcessToken(
                GetCurrentProcess(),
                access,
                &raw mut token,
            ))?;
            Ok(Self(OwnedHandle::from_raw_handle(token)))
        }
    }

    /// Returns its privileges, enabled or not.
    fn privileges(&self) -> io::Result<Vec<LUID_AND_ATTRIBUTES>> {
        // The list begins with its length; its entries are aligned like that.
        let mut answer = [0_u32; 512];
        let (mut length, size) = (0, u32::try_from(size_of_val(&answer)).unwrap_or_default());
        // SAFETY: `answer` has as many bytes as is said.
        checked(unsafe {
            GetTokenInformation(
                self.0.as_raw_handle(),
                TokenPrivileges,
                answer.as_mut_ptr().cast(),
                size,
                &raw mut length,
            )
        })?;
        let list = &answer[offset_of!(TOKEN_PRIVILEGES, Privileges) / 4..];
        let entries = list.chunks_exact(size_of::<LUID_AND_ATTRIBUTES>() / 4);
        Ok(entries
            .take(answer[0] as usize)
            .map(|words| LUID_AND_ATTRIBUTES {
                Luid: LUID {
                    LowPart: words[0],
                    HighPart: words[1].cast_signed(),
                },
                Attributes: words[2],
            })
            .collect())
    }

    /// Removes every privilege but the one to pass through folders, without which few programs work.
    fn drop_privileges(&self) -> io::Result<()> {
        for privilege in self.privileges()? {
            let number = privilege.Luid;
            if (number.LowPart, number.HighPart) == (PASS_THROUGH_FOLDERS, 0) {
                continue;
            }
            let removed = TOKEN_PRIVILEGES {
                PrivilegeCount: 1,
                Privileges: [LUID_AND_ATTRIBUTES {
                    Luid: number,
                    Attributes: SE_PRIVILEGE_REMOVED,
                }],
            };
            // SAFETY: the token is open, and the list has the one entry that it says.
            checked(unsafe {
                AdjustTokenPrivileges(
                    self.0.as_raw_handle(),
                    0,
                    &raw const removed,
                    0,
                    ptr::null_mut(),
                    ptr::null_mut(),
                )
            })?;
        }
        Ok(())
    }

    fn lower_integrity(&self) -> io::Result<()> {
        // Revision 1, one number, the authority of integrity levels (16), and the number of the low level.
        let mut low = [1_u32 | 1 << 8, 16_u32.swap_bytes(), 0x1000];
        let label = TOKEN_MANDATORY_LABEL {
            Label: SID_AND_ATTRIBUTES {
                Sid: low.as_mut_ptr().cast(),
                Attributes: SE_GROUP_INTEGRITY.cast_unsigned(),
            },
        };
        let size = size_of_val(&label) + size_of_val(&low);
        // SAFETY: the token is open; the label and the identifier that it points to outlive the call.
        checked(unsafe {
            SetTokenInformation(
                self.0.as_raw_handle(),
                TokenIntegrityLevel,
                ptr::from_ref(&label).cast(),
                u32::try_from(size).unwrap_or_default(),
            )
        })
    }
}

/// Sets flags of a mitigation policy of this process, each of which is a structure of 32 flags.
fn mitigate(policy: PROCESS_MITIGATION_POLICY, flags: u32) -> io::Result<()> {
    // SAFETY: the structures of the policies used here have one field of 32 bits.
    checked(unsafe {
        SetProcessMitigationPolicy(policy, ptr::from_ref(&flags).cast(), size_of_val(&flags))
    })
}

fn checked(succeeded: i32) -> io::Result<()> {
    match succeeded {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

const OPEN: &str = "on Windows a plugin can read what the host's user can read, and use the network, without declaring it";

/// `SeChangeNotifyPrivilege`; the numbers of privileges are the same on every Windows.
const PASS_THROUGH_FOLDERS: u32 = 23;
const DISABLE_EXTENSION_POINTS: u32 = 1;
/// No images of remote devices, and none that low-integrity processes wrote.
const NO_REMOTE_OR_LOW_IMAGES: u32 = 0b11;
