//! The interface of systemd on the bus: lists of units, and their properties.

use std::fmt;

use conductor_net::CheckError;
use conductor_plugin_api::Failure;
use zbus::{ObjectPath, Variant};

use crate::{
    bus::{BusConnection, CallRefusal, CallResult},
    message::{MessageError, MethodCall, ReceivedMessage},
};

/// A unit in the list of systemd.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ListedUnit {
    pub(crate) name: String,
    /// `loaded`, `not-found`, `masked` and a few more.
    pub(crate) load: String,
    /// `active`, `reloading`, `inactive`, `failed`, `activating` and a few more.
    pub(crate) active: String,
    /// The state in the words of the unit's type, such as `running` or `auto-restart`.
    pub(crate) sub: String,
    path: String,
}

/// A property of a unit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum UnitProperty {
    /// Of every unit.
    Unit(&'static str),
    /// Of the unit's type.
    Typed(&'static str),
}

/// The value of a property.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum PropertyValue {
    Number(u64),
    Text(String),
}

/// The units to list.
#[derive(Clone, Copy, Debug)]
pub(crate) enum UnitQuery<'a> {
    /// The unit with this name, loaded or not.
    Name(&'a str),
    /// The loaded units that match a pattern.
    Pattern(&'a str),
    /// The units that have failed.
    Failed,
}

/// The manager of the units.
pub(crate) struct Systemd<'a, 'c> {
    bus: BusConnection<'a, 'c>,
}

/// A unit as it is listed: name, description, load state, active state, sub state, followed unit, path, job, its type and
/// its path.
type ListedRow<'m> = (
    &'m str,
    &'m str,
    &'m str,
    &'m str,
    &'m str,
    &'m str,
    ObjectPath<'m>,
    u32,
    &'m str,
    ObjectPath<'m>,
);

impl<'a, 'c> Systemd<'a, 'c> {
    pub(crate) fn new(bus: BusConnection<'a, 'c>) -> Self {
        Self { bus }
    }

    /// Returns the state of the system and the version, with which the first call is made.
    pub(crate) async fn system(&mut self) -> Result<(String, String), CheckError> {
        let calls = ["SystemState", "Version"].map(|name| get(PATH, MANAGER, name));
        let calls: Vec<_> = calls.into_iter().collect::<Result<_, _>>().map_err(own)?;
        let mut texts = Vec::new();
        for reply in self.bus.call("list", &calls).await? {
            let reply = reply.map_err(|refusal| refuse("Get", &refusal))?;
            match value(&reply)? {
                Some(PropertyValue::Text(text)) => texts.push(conductor_net::short(&text, 60)),
                _ => return Err(foreign("its state or its version is not a text")),
            }
        }
        match <[String; 2]>::try_from(texts) {
            Ok([state, version]) => Ok((state, version)),
            Err(_) => Err(foreign("its state or its version is missing")),
        }
    }

    /// Returns the units of each query.
    pub(crate) async fn list(
        &mut self,
        queries: &[UnitQuery<'_>],
    ) -> Result<Vec<Vec<ListedUnit>>, CheckError> {
        let calls = queries.iter().map(|query| query.call());
        let calls: Vec<_> = calls.collect::<Result<_, _>>().map_err(own)?;
        let results = self.bus.call("list", &calls).await?;
        let lists = results.into_iter().zip(queries);
        lists
            .map(|(result, query)| {
                let reply = result.map_err(|refusal| refuse(&query.to_string(), &refusal))?;
                units(reply)
            })
            .collect()
    }

    /// Returns the value of each property; `None` for one that the unit does not have.
    pub(crate) async fn properties(
        &mut self,
        wanted: &[(&ListedUnit, UnitProperty)],
    ) -> Result<Vec<Option<PropertyValue>>, CheckError> {
        let calls = wanted.iter().map(|(unit, property)| match property {
            UnitProperty::Unit(name) => get(&unit.path, UNIT, name),
            UnitProperty::Typed(name) => get(&unit.path, unit.interface(), name),
        });
        let calls: Vec<_> = calls.collect::<Result<_, _>>().map_err(own)?;
        let results = self.bus.call("properties", &calls).await?;
        results.into_iter().map(property).collect()
    }
}

impl UnitQuery<'_> {
    fn call(&self) -> Result<MethodCall, MessageError> {
        const NONE: &[&str] = &[];
        let manager = |member| (DESTINATION, PATH, MANAGER, member);
        match self {
            Self::Name(name) => MethodCall::new(manager("ListUnitsByNames"), &(&[*name][..],)),
            Self::Pattern(pattern) => {
                MethodCall::new(manager(BY_PATTERNS), &(NONE, &[*pattern][..]))
            }
            Self::Failed => MethodCall::new(manager(BY_PATTERNS), &(&["failed"][..], NONE)),
        }
    }
}

/// Formats the call for messages.
impl fmt::Display for UnitQuery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "ListUnitsByNames({name})"),
            Self::Pattern(pattern) => write!(f, "{BY_PATTERNS}({pattern})"),
            Self::Failed => write!(f, "{BY_PATTERNS}(failed)"),
        }
    }
}

impl ListedUnit {
    /// Returns the type of the unit, as its name ends.
    pub(crate) fn kind(&self) -> &str {
        self.name.rsplit_once('.').map_or("", |(_, kind)| kind)
    }

    pub(crate) fn is_active(&self) -> bool {
        matches!(self.active.as_str(), "active" | "reloading" | "refreshing")
    }

    #[cfg(test)]
    pub(crate) fn for_tests(name: &str, sub: &str) -> Self {
        Self {
            name: name.to_owned(),
            load: "loaded".to_owned(),
            active: "active".to_owned(),
            sub: sub.to_owned(),
            path: "/".to_owned(),
        }
    }

    fn interface(&self) -> &'static str {
        let mut types = TYPES.iter();
        let found = types.find(|(kind, _)| *kind == self.kind());
        found.map_or(UNIT, |(_, interface)| *interface)
    }
}

/// Reads a list of units, and refuses names that systemd cannot have.
fn units(reply: ReceivedMessage) -> Result<Vec<ListedUnit>, CheckError> {
    let rows: Vec<ListedRow<'_>> = reply.value().map_err(foreign)?;
    let rows = rows.into_iter();
    rows.map(|row| {
        let (name, _, load, active, sub, _, path, ..) = row;
        let is_name = (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_of_name);
        let is_state =
            |state: &str| state.len() <= MAX_STATE && state.bytes().all(|b| b.is_ascii_graphic());
        if !is_name || ![load, active, sub].into_iter().all(is_state) {
            return Err(foreign("a name or a state of a unit is malformed"));
        }
        Ok(ListedUnit {
            name: name.to_owned(),
            load: load.to_owned(),
            active: active.to_owned(),
            sub: sub.to_owned(),
            path: path.as_str().to_owned(),
        })
    })
    .collect()
}

/// Reads the value of a property.
fn property(result: CallResult) -> Result<Option<PropertyValue>, CheckError> {
    match result {
        Ok(reply) => value(&reply),
        // Of a newer version, of another type of unit, or of a unit that is gone.
        Err(refusal) if ABSENT.contains(&refusal.name.as_str()) => Ok(None),
        Err(refusal) => Err(refuse("Get", &refusal)),
    }
}

fn value(reply: &ReceivedMessage) -> Result<Option<PropertyValue>, CheckError> {
    let value = reply.property().map_err(foreign)?;
    Ok(match value {
        Variant::U32(number) => Some(PropertyValue::Number(number.into())),
        Variant::U64(number) => Some(PropertyValue::Number(number)),
        Variant::Str(text) => Some(PropertyValue::Text(text.to_string())),
        _ => None,
    })
}

fn get(path: &str, interface: &str, name: &str) -> Result<MethodCall, MessageError> {
    MethodCall::new((DESTINATION, path, PROPERTIES, "Get"), &(interface, name))
}

/// Judges an error in place of a reply.
fn refuse(member: &str, refusal: &CallRefusal) -> CheckError {
    let error = refusal.name.strip_prefix("org.freedesktop.DBus.Error.");
    match error {
        Some("ServiceUnknown" | "NameHasNoOwner") => CheckError::Platform(format!(
            "there is no systemd on this bus ({refusal}); expected a machine, or a user's session, that systemd manages"
        )),
        Some("AccessDenied") => CheckError::Host(Failure::new(format!(
            "the bus denies the host's user the call {member} to systemd ({refusal}); allow it in the bus's policy, \
             as the file org.freedesktop.systemd1.conf of systemd does for every user"
        ))),
        Some("UnknownMethod") => CheckError::Host(Failure::new(format!(
            "this systemd has no method {member} ({refusal}); expected version 230 or newer"
        ))),
        _ => CheckError::Platform(format!("systemd refuses the call {member}: {refusal}")),
    }
}

fn foreign(why: impl fmt::Display) -> CheckError {
    CheckError::Platform(format!("a reply is not that of systemd: {why}"))
}

/// Judges a call that cannot be made.
fn own(error: MessageError) -> CheckError {
    CheckError::Platform(format!(
        "systemd lists a unit that cannot be asked for: {error}"
    ))
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte)
}

const DESTINATION: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const BY_PATTERNS: &str = "ListUnitsByPatterns";

/// Types of units, and the interfaces with their properties.
pub(crate) const TYPES: [(&str, &str); 11] = [
    ("service", "org.freedesktop.systemd1.Service"),
    ("socket", "org.freedesktop.systemd1.Socket"),
    ("target", "org.freedesktop.systemd1.Target"),
    ("device", "org.freedesktop.systemd1.Device"),
    ("mount", "org.freedesktop.systemd1.Mount"),
    ("automount", "org.freedesktop.systemd1.Automount"),
    ("swap", "org.freedesktop.systemd1.Swap"),
    ("timer", "org.freedesktop.systemd1.Timer"),
    ("path", "org.freedesktop.systemd1.Path"),
    ("slice", "org.freedesktop.systemd1.Slice"),
    ("scope", "org.freedesktop.systemd1.Scope"),
];

/// Errors of a property that a unit does not have.
const ABSENT: [&str; 5] = [
    "org.freedesktop.DBus.Error.UnknownProperty",
    "org.freedesktop.DBus.Error.UnknownInterface",
    "org.freedesktop.DBus.Error.UnknownObject",
    "org.freedesktop.DBus.Error.UnknownMethod",
    "org.freedesktop.systemd1.NoSuchUnit",
];

/// Longest name of a unit, in bytes; that of systemd.
pub(crate) const MAX_NAME: usize = 255;

/// Longest state of a unit, in bytes.
const MAX_STATE: usize = 40;
