//! Tests of the judgement of access lists, and of reading descriptors.

use super::*;

/// Returns an entry that gives everybody these rights.
pub(crate) fn everyone(rights: u32) -> AccessEntry {
    entry(EVERYONE, rights)
}

fn entry((authority, numbers): WellKnown, rights: u32) -> AccessEntry {
    AccessEntry {
        sid: UserSid::of(authority, numbers),
        rights,
        flags: 0,
    }
}

fn user(number: u32) -> UserSid {
    UserSid::of(5, &[21, 1, 2, 3, number])
}

fn host() -> TrustedSids {
    TrustedSids {
        user: Some(user(1000)),
    }
}

fn file(owner: UserSid, allowed: &[AccessEntry]) -> FileSecurity {
    FileSecurity {
        owner: Some(owner),
        allowed: Some(allowed.to_vec()),
    }
}

#[test]
fn only_the_hosts_user_and_those_that_control_the_machine_are_trusted_owners() {
    let owner = |sid| host().foreign_owner(&file(sid, &[]));
    for (authority, numbers) in [SYSTEM, ADMINISTRATORS, TRUSTED_INSTALLER] {
        assert_eq!(owner(UserSid::of(authority, numbers)), None);
    }
    assert_eq!(owner(user(1000)), None);
    let refused = [
        user(1001),
        // Users, Everyone, another service, and the rights of an owner, which own nothing.
        UserSid::of(5, &[32, 545]),
        UserSid::of(1, &[0]),
        UserSid::of(5, &[80, 1, 2, 3, 4, 5]),
        UserSid::of(3, &[4]),
        UserSid::of(5, &[]),
    ];
    for sid in refused {
        assert!(owner(sid.clone()).is_some(), "{sid}");
    }
    let found = owner(user(1001)).unwrap();
    assert_eq!(
        found,
        "it belongs to S-1-5-21-1-2-3-1001, the host runs as S-1-5-21-1-2-3-1000"
    );
    let nobodys = FileSecurity {
        owner: None,
        allowed: Some(Vec::new()),
    };
    assert!(host().foreign_owner(&nobodys).is_some());
    let unknown = TrustedSids { user: None };
    assert!(unknown.foreign_owner(&file(user(1000), &[])).is_some());
}

#[test]
fn a_closed_process_can_be_ended_and_neither_read_nor_opened_again_by_its_owner() {
    const PROCESS_VM_READ: u32 = 0x10;
    const PROCESS_DUP_HANDLE: u32 = 0x40;
    let list = FileSecurity::parse(&closed_process(&user(1000))).unwrap();
    let allowed = list.allowed.unwrap();
    let rights = |sid| allowed.iter().find(|e| e.sid == sid).unwrap().rights;
    assert_eq!(rights(user(1000)), PROCESS_ENDING);
    assert_eq!(rights(UserSid::of(3, &[4])), READ_CONTROL);
    let opening = PROCESS_VM_READ | PROCESS_DUP_HANDLE | WRITE_DAC | WRITE_OWNER;
    for entry in allowed {
        assert_eq!(entry.rights & opening, 0, "{}", entry.sid);
    }
}

#[test]
fn every_right_to_write_that_others_have_counts_and_reading_does_not() {
    const READ_AND_EXECUTE: u32 = 0x12_00a9;
    let writer =
        |entries: &[AccessEntry], rights| host().other_writer(&file(user(1000), entries), rights);
    let own = [
        AccessEntry {
            sid: user(1000),
            ..everyone(FULL_CONTROL)
        },
        entry(SYSTEM, FULL_CONTROL),
        entry(ADMINISTRATORS, GENERIC_ALL),
        entry(TRUSTED_INSTALLER, FULL_CONTROL),
        entry(OWNER_RIGHTS, FULL_CONTROL),
        entry(CREATOR_OWNER, FULL_CONTROL),
        everyone(READ_AND_EXECUTE),
    ];
    assert_eq!(writer(&own, FILE_WRITING), None);
    let on_both = [
        DELETE,
        WRITE_DAC,
        WRITE_OWNER,
        GENERIC_ALL,
        FULL_CONTROL,
        0x13_01ff,
    ];
    let on_files = [WRITE_DATA, APPEND_DATA, WRITE_ATTRIBUTES, GENERIC_WRITE];
    for right in on_both.into_iter().chain(on_files) {
        let entries = [&own[..], &[everyone(right | READ_AND_EXECUTE)]].concat();
        assert!(writer(&entries, FILE_WRITING).is_some(), "{right:#x}");
        let replaces = on_both.contains(&right);
        let found = writer(&entries, FOLDER_REPLACING).is_some();
        assert_eq!(found, replaces, "{right:#x}");
    }
    assert!(writer(&[everyone(DELETE_CHILD)], FOLDER_REPLACING).is_some());
    // The root of the system's drive, where every user can create folders.
    let root = [
        entry(ADMINISTRATORS, FULL_CONTROL),
        entry(SYSTEM, FULL_CONTROL),
        entry((5, &[32, 545]), READ_AND_EXECUTE),
        entry((5, &[11]), APPEND_DATA),
        AccessEntry {
            flags: OBJECT_INHERIT | CONTAINER_INHERIT | INHERIT_ONLY,
            ..entry((5, &[11]), 0xe001_0000)
        },
    ];
    assert_eq!(writer(&root, FOLDER_REPLACING), None);
    assert!(writer(&[everyone(1)], ANY).is_some());
}

#[test]
fn a_file_without_a_list_is_everybodys_and_one_with_an_empty_list_nobodys() {
    let none = FileSecurity {
        owner: Some(user(1000)),
        allowed: None,
    };
    let found = host().other_writer(&none, FILE_WRITING);
    assert_eq!(found, Some(OtherWriter::Everybody));
    assert_eq!(host().other_writer(&file(user(1000), &[]), ANY), None);
}

#[test]
fn the_descriptor_of_a_private_folder_admits_no_other_user() {
    let read = FileSecurity::parse(&private(&user(1000))).unwrap();
    assert_eq!(host().other_writer(&read, ANY), None);
    assert_eq!(read.allowed.as_ref().unwrap().len(), 3);
    let stranger = TrustedSids {
        user: Some(user(1001)),
    };
    assert!(stranger.other_writer(&read, ANY).is_some());
    // Revision 1, self-relative, with a protected list.
    assert_eq!(private(&user(1000))[..4], [1, 0, 0x04, 0x90]);
}

/// Builds a descriptor whose list has one entry of this type.
fn with_entry(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = descriptor(&[everyone(GENERIC_ALL)], false);
    bytes.truncate(28);
    bytes.extend([kind, 0]);
    bytes.extend(length(4 + body.len()));
    bytes.extend(body);
    let list = length(8 + 4 + body.len());
    bytes[22..24].copy_from_slice(&list);
    bytes
}

#[test]
fn entries_of_every_type_are_read_or_the_list_is_refused() {
    let sid = user(1001);
    let plain = [&DELETE.to_le_bytes()[..], sid.bytes()].concat();
    let object = |flags: u32| {
        let ids = vec![7; 16 * usize::try_from(flags.count_ones()).unwrap()];
        let flags = flags.to_le_bytes();
        [&DELETE.to_le_bytes()[..], &flags, &ids, sid.bytes()].concat()
    };
    let conditional = [&plain[..], b"artx, a condition"].concat();
    for (kind, body) in [
        (ALLOWED, plain.clone()),
        (ALLOWED_CALLBACK, conditional),
        (ALLOWED_OBJECT, object(0)),
        (ALLOWED_OBJECT, object(2)),
        (ALLOWED_CALLBACK_OBJECT, object(3)),
    ] {
        let read = FileSecurity::parse(&with_entry(kind, &body)).unwrap();
        let allowed = read.allowed.unwrap();
        assert_eq!(allowed[0].sid, sid, "{kind}");
        assert_eq!(allowed[0].rights, DELETE, "{kind}");
    }
    for kind in [
        DENIED,
        DENIED_OBJECT,
        DENIED_CALLBACK,
        DENIED_CALLBACK_OBJECT,
    ] {
        let read = FileSecurity::parse(&with_entry(kind, &plain)).unwrap();
        assert_eq!(read.allowed, Some(Vec::new()), "{kind}");
    }
    for kind in [2, 3, 4, 17, 0xff] {
        assert_eq!(
            FileSecurity::parse(&with_entry(kind, &plain)),
            None,
            "{kind}"
        );
    }
}

#[test]
fn a_list_that_is_not_there_is_none_and_every_truncation_is_refused() {
    let mut bytes = descriptor(&[everyone(GENERIC_ALL)], true);
    let whole = FileSecurity::parse(&bytes).unwrap();
    assert_eq!(whole.allowed, Some(vec![everyone(GENERIC_ALL)]));
    assert!(!everyone(0).is_inherited());
    for length in 0..bytes.len() {
        assert_eq!(FileSecurity::parse(&bytes[..length]), None, "{length}");
    }
    // A list that is present, but null.
    bytes[16..20].fill(0);
    assert_eq!(FileSecurity::parse(&bytes).unwrap().allowed, None);
    // No list at all.
    bytes[2..4].copy_from_slice(&SELF_RELATIVE.to_le_bytes());
    assert_eq!(FileSecurity::parse(&bytes).unwrap().allowed, None);
}

proptest::proptest! {
    #[test]
    fn no_bytes_cause_a_panic(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..120)) {
        let _ = FileSecurity::parse(&bytes);
        // With offsets inside.
        let head = descriptor(&[], true);
        let length = head.len().min(bytes.len());
        bytes[..length].copy_from_slice(&head[..length]);
        if let Some(count) = bytes.get_mut(24) {
            *count = 3;
        }
        let _ = FileSecurity::parse(&bytes);
    }
}

#[test]
fn identifiers_are_shown_with_their_names_if_they_have_one() {
    assert_eq!(everyone(0).sid.to_string(), "Everyone (S-1-1-0)");
    assert_eq!(user(1000).to_string(), "S-1-5-21-1-2-3-1000");
}
