//! From what an author writes, a [`Probe`] or an `AsyncProbe`, to the module a library exports.
#![expect(
    unsafe_code,
    reason = "the library header is built from a constructor by an unsafe function"
)]

use std::{marker::PhantomData, sync::OnceLock};

use abi_stable::{
    library::{__call_root_module_loader, CheckTypeLayout, LibHeader, RootModuleResult},
    prefix_type::PrefixTypeTrait,
    sabi_trait::TD_Opaque,
    std_types::{RErr, ROk, RResult, RStr, RString, RVec},
};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    Context, Failure, FailureKind, Probe, Report, Status,
    abi::{
        AbiCall, AbiFailure, AbiFailureKind, AbiHostHandle, AbiLevel, AbiLogRecord, AbiMeasurement,
        AbiPlugin, AbiPluginRef, AbiProbe, AbiProbe_TO, AbiProbeBox, AbiReport, AbiStatus,
    },
    logging, panic_barrier,
};

/// Makes a shared library out of a [`Probe`](crate::Probe), or of an `AsyncProbe`, which is named as `async_probe` instead.
///
/// `id` is what platforms name in the host's config: 1–63 lower-case letters, digits and `-`, the first a letter. The
/// plugin's version is the crate's. `name`, for people, is the id where it is not given. Use it once per library, in a
/// crate of type `cdylib`.
///
/// `needs`, after the others, is what the plugin cannot do without of what is closed to plugins in a process of their
/// own: `needs: ["network", "read /etc/x.conf", "run /usr/bin/psql"]`; see [`Need`](crate::manifest::Need) for what
/// there is. Without it a plugin may look up names, send UDP, start threads, ask for the fill of filesystems, and read
/// `/proc`, `/sys`, `/usr`, the CAs and the time zones. The operator sees the needs, and may open less or more.
///
/// ```
/// use conductor_plugin_api::{Context, Failure, Probe, Report, export_plugin, schemars};
///
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct FileSize {
///     path: std::path::PathBuf,
/// }
/// impl Probe for FileSize {
///     type Config = Self;
///     fn create(config: Self, _: &Context<'_>) -> Result<Self, Failure> {
///         Ok(config)
///     }
///     fn check(&mut self, _: &Context<'_>) -> Result<Report, Failure> {
///         Ok(Report::healthy(format!("{} bytes", std::fs::metadata(&self.path)?.len())))
///     }
/// }
/// export_plugin! { id: "file-size", probe: FileSize }
/// ```
///
/// A need of another form does not compile:
///
/// ```compile_fail
/// # use conductor_plugin_api::{Context, Failure, Probe, Report, export_plugin};
/// # struct Nothing;
/// # impl Probe for Nothing {
/// #     type Config = ();
/// #     fn create((): (), _: &Context<'_>) -> Result<Self, Failure> { Ok(Self) }
/// #     fn check(&mut self, _: &Context<'_>) -> Result<Report, Failure> { Ok(Report::healthy("")) }
/// # }
/// export_plugin! { id: "nothing", probe: Nothing, needs: ["read relative/path"] }
/// ```
#[macro_export]
macro_rules! export_plugin {
    (id: $id:literal, probe: $probe:ty $(, name: $name:literal)? $(, needs: [$($need:literal),* $(,)?])? $(,)?) => {
        $crate::__export! { $id, $crate::__private::Blocking<$probe>, [$($name,)? $id], [$($($need),*)?] }
    };
    (id: $id:literal, async_probe: $probe:ty $(, name: $name:literal)? $(, needs: [$($need:literal),* $(,)?])? $(,)?) => {
        $crate::__export! { $id, $crate::__asynchronous!($probe), [$($name,)? $id], [$($($need),*)?] }
    };
}

/// What [`export_plugin!`] comes to for both kinds of probe; the plugin's name is the first of those given.
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($id:literal, $kind:ty, [$name:literal $(, $unused:literal)?], [$($need:literal),*]) => {
        #[cfg(panic = "abort")]
        ::core::compile_error!(
            "a plugin must be built with panic = \"unwind\": with \"abort\" its first panic would end the host"
        );

        #[allow(unsafe_code, reason = "a section of its own and an exported symbol are what a plugin consists of")]
        const _: () = {
            #[cfg(not(any(windows, target_vendor = "apple")))]
            #[used]
            #[unsafe(link_section = ".note.conductor")]
            static MANIFEST: $crate::manifest::ElfNote = $crate::manifest::ElfNote::new(
                $crate::manifest::record(
                    $id, ::core::env!("CARGO_PKG_VERSION"), $name, ::core::cfg!(panic = "unwind"), &[$($need),*],
                ),
            );

            #[cfg(any(windows, target_vendor = "apple"))]
            #[used]
            #[cfg_attr(windows, unsafe(link_section = ".cndctr"))]
            #[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__cndctr"))]
            static MANIFEST: $crate::manifest::Record = $crate::manifest::record(
                $id, ::core::env!("CARGO_PKG_VERSION"), $name, ::core::cfg!(panic = "unwind"), &[$($need),*],
            );

            struct Exported;
            impl $crate::__private::Exported for Exported {
                type Probe = $kind;
                // The manifest's own bytes, so that a copy of the library can be given another id in one place.
                #[cfg(not(any(windows, target_vendor = "apple")))]
                const ID: &'static str = $crate::manifest::id(MANIFEST.record());
                #[cfg(any(windows, target_vendor = "apple"))]
                const ID: &'static str = $crate::manifest::id(&MANIFEST);
                const VERSION: &'static str = ::core::env!("CARGO_PKG_VERSION");
            }
            // The name abi_stable looks for.
            #[unsafe(no_mangle)]
            static _1as_0lib_1header_0root_bmodule_bloader: $crate::__private::LibHeader =
                $crate::__private::header::<Exported>();
        };
    };
}

/// An author's asynchronous probe as something to export.
#[cfg(feature = "tokio")]
#[doc(hidden)]
#[macro_export]
macro_rules! __asynchronous {
    ($probe:ty) => { $crate::__private::Asynchronous<$probe> };
}

/// Says what it takes to export an asynchronous probe.
#[cfg(not(feature = "tokio"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __asynchronous {
    ($probe:ty) => {
        ::core::compile_error!(
            "async_probe needs the feature `tokio` of conductor-plugin-api: \
             conductor-plugin-api = { version = \"1\", features = [\"tokio\"] }"
        )
    };
}

/// What [`export_plugin!`](crate::export_plugin) knows of a plugin.
pub trait Exported: 'static {
    /// The author's probe, as one of its kind.
    type Probe: Exportable;
    /// The plugin's id.
    const ID: &'static str;
    /// The plugin's version.
    const VERSION: &'static str;
}

/// What the two kinds of probes have in common.
pub trait Exportable: 'static {
    /// What stands in the platform's `config` table.
    type Config: DeserializeOwned + JsonSchema;
    /// Whether its checks are begun, and end by themselves.
    const ASYNCHRONOUS: bool;

    /// Makes a probe; within the call, and behind the barrier.
    ///
    /// # Errors
    /// What the author says.
    fn create(config: Self::Config, call: &AbiCall) -> Result<AbiProbeBox, Failure>;
}

/// A [`Probe`] as something to export.
pub struct Blocking<P>(PhantomData<P>);

impl<P: Probe> Exportable for Blocking<P> {
    type Config = P::Config;
    const ASYNCHRONOUS: bool = false;

    fn create(config: P::Config, call: &AbiCall) -> Result<AbiProbeBox, Failure> {
        let probe = P::create(config, &Context::new(call))?;
        Ok(AbiProbe_TO::from_value(Guarded(Some(probe)), TD_Opaque))
    }
}

/// The header of the library that exports `E`.
pub const fn header<E: Exported>() -> LibHeader {
    // SAFETY: `constructor` makes an `AbiPluginRef`, which is the module named here.
    unsafe { LibHeader::from_constructor::<AbiPluginRef>(constructor::<E>, CheckTypeLayout::Yes) }
}

/// The module of `E`.
pub(crate) fn module<E: Exported>() -> AbiPluginRef {
    AbiPlugin {
        id: RStr::from_str(E::ID),
        version: RStr::from_str(E::VERSION),
        init,
        config_schema: config_schema::<E::Probe>,
        create: create::<E::Probe>,
        asynchronous: E::Probe::ASYNCHRONOUS,
    }
    .leak_into_prefix()
}

extern "C" fn constructor<E: Exported>() -> RootModuleResult {
    __call_root_module_loader(module::<E>)
}

extern "C" fn init(host: AbiHostHandle) {
    // A panic here would have to be one of the standard library's own; there is nobody yet to tell.
    let _ = panic_barrier::catch(|| {
        if HOST.set(host).is_ok() {
            panic_barrier::install_hook(log_outside_a_call);
            logging::install(host);
        }
        Ok(())
    });
}

extern "C" fn config_schema<P: Exportable>() -> RString {
    panic_barrier::catch(|| Ok(schema::<P>().to_string()))
        .unwrap_or_else(|failure| format!("the schema could not be made: {failure}"))
        .into()
}

extern "C" fn create<P: Exportable>(
    config: RStr<'_>,
    call: &AbiCall,
) -> RResult<AbiProbeBox, AbiFailure> {
    let result = logging::within(call, || {
        panic_barrier::catch(|| P::create(read_config(config.as_str())?, call))
    });
    match result {
        Ok(probe) => ROk(probe),
        Err(failure) => RErr(failure.into()),
    }
}

/// A config from its JSON text; a failure names the key.
///
/// A platform without a config has an empty table. Where a type cannot be read from that, but from nothing, such as an
/// `Option`, it is read from nothing.
pub(crate) fn read_config<C: DeserializeOwned>(config: &str) -> Result<C, Failure> {
    read_table(config).or_else(|failure| match config.trim() {
        "{}" => serde_json::from_str("null").map_err(|_| failure),
        _ => Err(failure),
    })
}

fn read_table<C: DeserializeOwned>(config: &str) -> Result<C, Failure> {
    let mut json = serde_json::Deserializer::from_str(config);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let (key, reason) = (error.path().to_string(), error.inner().to_string());
        // serde_json closes with its place in a text the operator never wrote.
        let reason = reason.split(" at line ").next().unwrap_or(&reason);
        Failure::config(match key.as_str() {
            "." | "?" => format!("config: {reason}"),
            _ => format!("config key `{key}`: {reason}"),
        })
    })
}

/// The schema of a probe's config.
pub(crate) fn schema<P: Exportable>() -> Value {
    crate::schema::of::<P::Config>()
}

/// An author's probe behind the barrier; empty once it was closed.
struct Guarded<P: Probe>(Option<P>);

impl<P: Probe> AbiProbe for Guarded<P> {
    fn check(&mut self, call: &AbiCall) -> RResult<AbiReport, AbiFailure> {
        let result = logging::within(call, || {
            panic_barrier::catch(|| match &mut self.0 {
                Some(probe) => probe.check(&Context::new(call)),
                None => Err(Failure::new("the host called a probe that it had closed")),
            })
        });
        match result {
            Ok(report) => ROk(report.into()),
            Err(failure) => RErr(failure.into()),
        }
    }

    fn close(&mut self, call: &AbiCall) -> RResult<(), AbiFailure> {
        let probe = self.0.take();
        let result = logging::within(call, || {
            panic_barrier::catch(|| {
                drop(probe);
                Ok(())
            })
        });
        match result {
            Ok(()) => ROk(()),
            Err(failure) => RErr(failure.into()),
        }
    }
}

impl<P: Probe> Drop for Guarded<P> {
    fn drop(&mut self) {
        let probe = self.0.take();
        let dropped = panic_barrier::catch(|| {
            drop(probe);
            Ok(())
        });
        if let Err(failure) = dropped {
            log_outside_a_call(failure.message());
        }
    }
}

impl From<Report> for AbiReport {
    fn from(report: Report) -> Self {
        Self {
            status: match report.status {
                Status::Healthy => AbiStatus::HEALTHY,
                Status::Degraded => AbiStatus::DEGRADED,
                Status::Unhealthy => AbiStatus::UNHEALTHY,
            },
            message: report.message.into(),
            measurements: report
                .measurements
                .into_iter()
                .map(|(name, value)| AbiMeasurement {
                    name: name.into(),
                    value,
                })
                .collect(),
            extra: RVec::new(),
        }
    }
}

impl From<Failure> for AbiFailure {
    fn from(failure: Failure) -> Self {
        Self {
            kind: match failure.kind {
                FailureKind::Error => AbiFailureKind::ERROR,
                FailureKind::Panic => AbiFailureKind::PANIC,
                FailureKind::Config => AbiFailureKind::CONFIG,
                FailureKind::Timeout => AbiFailureKind::TIMEOUT,
            },
            message: failure.message.into(),
            extra: RVec::new(),
        }
    }
}

pub(crate) fn log_outside_a_call(message: &str) {
    if let Some(host) = HOST.get() {
        let record = AbiLogRecord {
            level: AbiLevel::ERROR,
            target: RStr::from_str("plugin"),
            message: RStr::from_str(message),
            fields: [].as_slice().into(),
        };
        host.functions.log()(host.plugin, 0, &record);
    }
}

/// The host that initialised this library.
static HOST: OnceLock<AbiHostHandle> = OnceLock::new();

/// The symbol [`export_plugin!`](crate::export_plugin) exports.
#[cfg(test)]
pub(crate) const ROOT_SYMBOL: &str = "_1as_0lib_1header_0root_bmodule_bloader";
