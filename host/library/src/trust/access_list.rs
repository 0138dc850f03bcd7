//! Owner and access list of a Windows file, and the judgement of both.
//!
//! Works on the bytes of a self-relative security descriptor and calls nothing of the OS. Entries that deny are ignored:
//! whether one is in force depends on the order of the list, and no file is trusted because of one.

use std::fmt;

#[cfg(test)]
pub(crate) mod tests;

/// Owner and access list of a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct FileSecurity {
    pub(crate) owner: Option<UserSid>,
    /// The entries that allow something; `None` if there is no list, which allows everything to everybody.
    pub(crate) allowed: Option<Vec<AccessEntry>>,
}

/// An entry that allows a user or group something.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct AccessEntry {
    pub(crate) sid: UserSid,
    /// The rights, as a bit set.
    pub(crate) rights: u32,
    /// The inheritance flags.
    pub(crate) flags: u8,
}

/// The identifier of a user or group, in its binary form.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct UserSid(Vec<u8>);

/// The users whose files the host loads: its own, and those that control the machine anyway.
#[derive(Clone, Debug)]
pub(crate) struct TrustedSids {
    /// The host's user; `None` if the OS does not report it.
    pub(crate) user: Option<UserSid>,
}

/// Another user or group that can write, or everybody because there is no access list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum OtherWriter {
    /// There is no access list.
    Everybody,
    /// This entry of the list allows it.
    Entry(AccessEntry),
}

impl TrustedSids {
    pub(crate) fn trusts(&self, sid: &UserSid) -> bool {
        self.user.as_ref() == Some(sid) || MACHINE.iter().any(|known| sid.is(*known))
    }

    /// Returns the owner if it is none of the trusted users; a file without owner is foreign as well.
    pub(crate) fn foreign_owner(&self, file: &FileSecurity) -> Option<String> {
        let host = match &self.user {
            Some(user) => format!("the host runs as {user}"),
            None => "the user of the host is unknown".to_owned(),
        };
        match &file.owner {
            Some(owner) if self.trusts(owner) => None,
            Some(owner) => Some(format!("it belongs to {owner}, {host}")),
            None => Some(format!("it has no owner, {host}")),
        }
    }

    /// Returns the first other user or group that has one of `rights`.
    pub(crate) fn other_writer(&self, file: &FileSecurity, rights: u32) -> Option<OtherWriter> {
        let Some(allowed) = &file.allowed else {
            return Some(OtherWriter::Everybody);
        };
        let other = allowed.iter().find(|entry| {
            let in_force = entry.flags & INHERIT_ONLY == 0 && entry.rights & rights != 0;
            // The rights of the owner are those of the file's owner, who is judged.
            let is_known = entry.sid.is(OWNER_RIGHTS) || entry.sid.is(CREATOR_OWNER);
            in_force && !is_known && !self.trusts(&entry.sid)
        });
        other.cloned().map(OtherWriter::Entry)
    }
}

impl AccessEntry {
    /// Returns `true` if the entry comes from the list of a folder above.
    pub(crate) const fn is_inherited(&self) -> bool {
        self.flags & INHERITED != 0
    }
}

impl UserSid {
    /// Reads the identifier at the beginning of `bytes`.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let length = 8 + 4 * usize::from(*bytes.get(1)?);
        let sid = bytes.get(..length)?;
        (sid[0] == 1 && sid[1] <= 15).then(|| Self(sid.to_vec()))
    }

    /// Returns the identifier with this authority and these numbers after it.
    pub(crate) fn of(authority: u8, numbers: &[u32]) -> Self {
        let count = u8::try_from(numbers.len()).unwrap_or_default();
        let mut sid = vec![1, count, 0, 0, 0, 0, 0, authority];
        sid.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        Self(sid)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn is(&self, (authority, numbers): WellKnown) -> bool {
        *self == Self::of(authority, numbers)
    }

    /// Returns its text form, for example `S-1-5-18`.
    pub(crate) fn text(&self) -> String {
        let authority = self.0[2..8]
            .iter()
            .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        let mut text = format!("S-1-{authority}");
        for number in self.0[8..].chunks_exact(4) {
            let number = u32::from_le_bytes([number[0], number[1], number[2], number[3]]);
            text.push_str(&format!("-{number}"));
        }
        text
    }
}

impl fmt::Display for UserSid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(known, _)| self.is(*known)) {
            Some((_, name)) => write!(f, "{name} ({})", self.text()),
            None => f.write_str(&self.text()),
        }
    }
}

impl fmt::Debug for UserSid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl FileSecurity {
    /// Reads a self-relative security descriptor; `None` if it is damaged or has an entry of an unknown type.
    pub(crate) fn parse(descriptor: &[u8]) -> Option<Self> {
        let control = short(descriptor, 2)?;
        let part = |at: usize| {
            let offset = usize::try_from(word(descriptor, at)?).ok()?;
            descriptor.get(offset..)
        };
        let owner = match word(descriptor, 4)? {
            0 => None,
            _ => Some(UserSid::parse(part(4)?)?),
        };
        let has_list = control & DACL_PRESENT != 0 && word(descriptor, 16)? != 0;
        let allowed = match has_list {
            true => Some(entries(part(16)?)?),
            false => None,
        };
        Some(Self { owner, allowed })
    }
}

/// Reads the entries of a list that allow something.
fn entries(list: &[u8]) -> Option<Vec<AccessEntry>> {
    let mut rest = list.get(8..usize::from(short(list, 2)?))?;
    let mut allowed = Vec::new();
    for _ in 0..short(list, 4)? {
        let entry = rest.get(..usize::from(short(rest, 2)?))?;
        rest = &rest[entry.len()..];
        let (kind, flags) = (*entry.first()?, entry[1]);
        let sid = match kind {
            ALLOWED | ALLOWED_CALLBACK => 8,
            // Flags say which of two identifiers of 16 bytes each come before the SID.
            ALLOWED_OBJECT | ALLOWED_CALLBACK_OBJECT => {
                12 + 16 * usize::try_from((word(entry, 8)? & 3).count_ones()).ok()?
            }
            DENIED | DENIED_CALLBACK | DENIED_OBJECT | DENIED_CALLBACK_OBJECT => continue,
            _ => return None,
        };
        allowed.push(AccessEntry {
            sid: UserSid::parse(entry.get(sid..)?)?,
            rights: word(entry, 4)?,
            flags,
        });
    }
    Some(allowed)
}

/// Returns a self-relative descriptor with these entries and no owner, whose list inherits nothing if it `is_protected`.
pub(crate) fn descriptor(entries: &[AccessEntry], is_protected: bool) -> Vec<u8> {
    let mut list = Vec::new();
    for entry in entries {
        list.extend([ALLOWED, entry.flags]);
        list.extend(length(8 + entry.sid.bytes().len()));
        list.extend(entry.rights.to_le_bytes());
        list.extend(entry.sid.bytes());
    }
    let protected = if is_protected { DACL_PROTECTED } else { 0 };
    let control = SELF_RELATIVE | DACL_PRESENT | protected;
    let mut bytes = vec![1, 0];
    bytes.extend(control.to_le_bytes());
    // Offsets of owner, group, audit list and access list.
    bytes.extend([0_u32, 0, 0, 20].into_iter().flat_map(u32::to_le_bytes));
    bytes.extend([2, 0]);
    bytes.extend(length(8 + list.len()));
    bytes.extend(length(entries.len()));
    bytes.extend([0, 0]);
    bytes.extend(list);
    bytes
}

/// Returns the descriptor of a folder that only `user`, SYSTEM and Administrators can use, with everything in it.
pub(crate) fn private(user: &UserSid) -> Vec<u8> {
    let of = |sid| AccessEntry {
        sid,
        rights: FULL_CONTROL,
        flags: OBJECT_INHERIT | CONTAINER_INHERIT,
    };
    let system = UserSid::of(SYSTEM.0, SYSTEM.1);
    let administrators = UserSid::of(ADMINISTRATORS.0, ADMINISTRATORS.1);
    descriptor(&[of(user.clone()), of(system), of(administrators)], true)
}

/// Returns the descriptor of a process that other processes can only end, even those of its owner, `user`.
pub(crate) fn closed_process(user: &UserSid) -> Vec<u8> {
    let of = |sid, rights| AccessEntry {
        sid,
        rights,
        flags: 0,
    };
    let [system, administrators, owner] =
        [SYSTEM, ADMINISTRATORS, OWNER_RIGHTS].map(|(a, numbers)| UserSid::of(a, numbers));
    let entries = [
        of(user.clone(), PROCESS_ENDING),
        of(system, PROCESS_ENDING),
        of(administrators, PROCESS_ENDING),
        // Without this entry an owner may change the list.
        of(owner, READ_CONTROL),
    ];
    descriptor(&entries, true)
}

fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap_or(u16::MAX).to_le_bytes()
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_le_bytes([bytes[0], bytes[1]]))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let low = u32::from(short(bytes, at)?);
    Some(u32::from(short(bytes, at + 2)?) << 16 | low)
}

/// Rights that change a file, replace it, or let their holder have such rights. `FILE_WRITE_ATTRIBUTES` is one of them:
/// it suffices to turn a file into a link.
pub(crate) const FILE_WRITING: u32 =
    WRITE_DATA | APPEND_DATA | WRITE_ATTRIBUTES | GENERIC_WRITE | REPLACING;
/// Rights on a folder that replace what is in it, or the folder itself. Creating files and folders is not among them, as
/// in a sticky folder on Unix: what another user creates belongs to that user, and is refused for that.
pub(crate) const FOLDER_REPLACING: u32 = DELETE_CHILD | REPLACING;

/// Any access at all.
pub(crate) const ANY: u32 = u32::MAX;

const REPLACING: u32 = DELETE | WRITE_DAC | WRITE_OWNER | GENERIC_ALL;
const WRITE_DATA: u32 = 0x2;
const APPEND_DATA: u32 = 0x4;
const DELETE_CHILD: u32 = 0x40;
const WRITE_ATTRIBUTES: u32 = 0x100;
const DELETE: u32 = 0x1_0000;
const WRITE_DAC: u32 = 0x4_0000;
const WRITE_OWNER: u32 = 0x8_0000;
const GENERIC_ALL: u32 = 0x1000_0000;
const GENERIC_WRITE: u32 = 0x4000_0000;
const FULL_CONTROL: u32 = 0x1f_01ff;
const READ_CONTROL: u32 = 0x2_0000;
/// `PROCESS_TERMINATE`, `PROCESS_QUERY_LIMITED_INFORMATION` and `SYNCHRONIZE`.
const PROCESS_ENDING: u32 = 0x10_1001;

const OBJECT_INHERIT: u8 = 1;
const CONTAINER_INHERIT: u8 = 2;
const INHERIT_ONLY: u8 = 8;
const INHERITED: u8 = 0x10;

const DACL_PRESENT: u16 = 4;
const DACL_PROTECTED: u16 = 0x1000;
const SELF_RELATIVE: u16 = 0x8000;

const ALLOWED: u8 = 0;
const DENIED: u8 = 1;
const ALLOWED_OBJECT: u8 = 5;
const DENIED_OBJECT: u8 = 6;
const ALLOWED_CALLBACK: u8 = 9;
const DENIED_CALLBACK: u8 = 10;
const ALLOWED_CALLBACK_OBJECT: u8 = 11;
const DENIED_CALLBACK_OBJECT: u8 = 12;

/// Authority, and the numbers after it.
type WellKnown = (u8, &'static [u32]);

const SYSTEM: WellKnown = (5, &[18]);
const ADMINISTRATORS: WellKnown = (5, &[32, 544]);
const TRUSTED_INSTALLER: WellKnown = (
    5,
    &[
        80,
        956_008_885,
        3_418_522_649,
        1_831_038_044,
        1_853_292_631,
        2_271_478_464,
    ],
);
const OWNER_RIGHTS: WellKnown = (3, &[4]);
/// A placeholder in the lists of folders, which no process has.
const CREATOR_OWNER: WellKnown = (3, &[0]);
const EVERYONE: WellKnown = (1, &[0]);

/// They control the machine, and with it the host.
const MACHINE: [WellKnown; 3] = [SYSTEM, ADMINISTRATORS, TRUSTED_INSTALLER];
const NAMES: [(WellKnown, &str); 9] = [
    (EVERYONE, "Everyone"),
    ((5, &[4]), "Interactive"),
    ((5, &[7]), "Anonymous"),
    ((5, &[11]), "Authenticated Users"),
    (SYSTEM, "SYSTEM"),
    (ADMINISTRATORS, "Administrators"),
    ((5, &[32, 545]), "Users"),
    (TRUSTED_INSTALLER, "TrustedInstaller"),
    ((15, &[2, 1]), "all app packages"),
];
