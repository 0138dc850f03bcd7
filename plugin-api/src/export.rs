//! The path from an author's [`Probe`] or `AsyncProbe` to the module a library exports.
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

/// Builds a shared library from a [`Probe`](crate::Probe), or from an `AsyncProbe`, given as `async_probe` instead.
///
/// `id` names the plugin in the host's config: 1–63 lower-case letters, digits and `-`, the first a letter. The
/// plugin's version is the crate's. `name`, for people, defaults to the id. Use it once per library, in a crate of type
/// `cdylib`.
///
/// `needs`, the last argument, lists what the plugin requires beyond the default permissions of a worker, as in `needs:
/// ["network", "read /etc/x.conf", "run /usr/bin/psql"]`; see [`Need`](crate::manifest::Need) for the choices. Without
/// it a plugin may look up names, send UDP, start threads, query how full filesystems are, and read `/proc`, `/sys`,
/// `/usr`, the CAs and the time zones. The operator sees the needs, and can grant less or more.
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
/// A malformed need does not compile:
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

/// The expansion of [`export_plugin!`] for both kinds of probe; the first name given is the plugin's name.
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
            // abi_stable looks for this name.
            #[unsafe(no_mangle)]
            static _1as_0lib_1header_0root_bmodule_bloader: $crate::__private::LibHeader =
                $crate::__private::header::<Exported>();
        };
    };
}

/// The exportable form of an author's asynchronous probe.
#[cfg(feature = "tokio")]
#[doc(hidden)]
#[macro_export]
macro_rules! __asynchronous {
    ($probe:ty) => { $crate::__private::Asynchronous<$probe> };
}

/// Reports that asynchronous probes require the feature `tokio`.
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

/// The properties of a plugin, generated by [`export_plugin!`](crate::export_plugin).
pub trait Exported: 'static {
    /// The author's probe, wrapped by kind.
    type Probe: ExportableProbe;
    /// The plugin's id.
    const ID: &'static str;
    /// The plugin's version.
    const VERSION: &'static str;
}

/// The interface common to both kinds of probes.
pub trait ExportableProbe: 'static {
    /// The platform's `config` table.
    type Config: DeserializeOwned + JsonSchema;
    /// `true` if the host begins its checks instead of waiting for them.
    const ASYNCHRONOUS: bool;

    /// Creates a probe; within the call, and behind the panic barrier.
    ///
    /// # Errors
    /// The author's failure.
    fn create(config: Self::Config, call: &AbiCall) -> Result<AbiProbeBox, Failure>;
}

/// The exportable form of a [`Probe`].
pub struct Blocking<P>(PhantomData<P>);

impl<P: Probe> ExportableProbe for Blocking<P> {
    type Config = P::Config;
    const ASYNCHRONOUS: bool = false;

    fn create(config: P::Config, call: &AbiCall) -> Result<AbiProbeBox, Failure> {
        let probe = P::create(config, &Context::new(call))?;
        Ok(AbiProbe_TO::from_value(
            GuardedProbe(Some(probe)),
            TD_Opaque,
        ))
    }
}

/// Returns the header of the library that exports `E`.
pub const fn header<E: Exported>() -> LibHeader {
    // SAFETY: `constructor` returns an `AbiPluginRef`, which is the module named here.
    unsafe { LibHeader::from_constructor::<AbiPluginRef>(constructor::<E>, CheckTypeLayout::Yes) }
}

/// Builds the module of `E`.
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
    // Only the standard library itself could panic here, and no host is known yet to report it to.
    let _ = panic_barrier::catch(|| {
        if HOST.set(host).is_ok() {
            panic_barrier::install_hook(log_outside_a_call);
            logging::install(host);
        }
        Ok(())
    });
}

extern "C" fn config_schema<P: ExportableProbe>() -> RString {
    panic_barrier::catch(|| Ok(schema::<P>().to_string()))
        .unwrap_or_else(|failure| format!("cannot create the config schema: {failure}"))
        .into()
}

extern "C" fn create<P: ExportableProbe>(
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

/// Reads a config from its JSON text; a failure names the key.
///
/// A platform without a config has an empty table. A type that cannot be read from an empty table but from null, such
/// as an `Option`, is read from null.
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
        // serde_json appends the position in a text that the operator never wrote.
        let reason = reason.split(" at line ").next().unwrap_or(&reason);
        Failure::config(match key.as_str() {
            "." | "?" => format!("config: {reason}"),
            _ => format!("config key `{key}`: {reason}"),
        })
    })
}

/// Returns the schema of a probe's config.
pub(crate) fn schema<P: ExportableProbe>() -> Value {
    crate::schema::of::<P::Config>()
}

/// An author's probe behind the panic barrier; `None` after `close`.
struct GuardedProbe<P: Probe>(Option<P>);

impl<P: Probe> AbiProbe for GuardedProbe<P> {
    fn check(&mut self, call: &AbiCall) -> RResult<AbiReport, AbiFailure> {
        let result = logging::within(call, || {
            panic_barrier::catch(|| match &mut self.0 {
                Some(probe) => probe.check(&Context::new(call)),
                None => Err(Failure::new("the host called a closed probe")),
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

impl<P: Probe> Drop for GuardedProbe<P> {
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
