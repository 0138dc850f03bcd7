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
    std_types::{RErr, ROk, RResult, RSlice, RStr, RString, RVec},
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
    logging,
    metric::MetricDeclaration,
    panic_barrier,
    probe::DeclaredValue,
};

/// Builds a shared library from a [`Probe`](crate::Probe), or from an `AsyncProbe`. Use it once, in a crate of type
/// `cdylib`.
///
/// Its keys, in any order:
///
/// | key | meaning |
/// |---|---|
/// | `id` | the plugin's name in the host's config: 1–63 lower-case letters, digits and `-`, the first a letter |
/// | `probe`, or `async_probe` | the type that implements the trait |
/// | `name` | the plugin's name for people; defaults to the id |
/// | `needs` | what it requires beyond the default permissions of a worker |
/// | `metrics` | its declared [`Metric`](crate::Metric)s |
///
/// The plugin's version, description, authors and licence are those of the crate.
///
/// `needs` is a list such as `["network", "read /etc/x.conf", "run /usr/bin/psql"]`; see
/// [`Need`](crate::manifest::Need) for the choices. Without it a plugin may look up names, send UDP, start threads,
/// query how full filesystems are, and read `/proc`, `/sys`, `/usr`, the CAs and the time zones. The operator sees the
/// needs, and can grant less or more.
///
/// ```
/// use conductor_plugin_api::{Context, Failure, Metric, Probe, Report, export_plugin, schemars};
///
/// const SIZE: Metric = Metric::gauge("size", "Size of the file.").unit("bytes");
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
///         let bytes = std::fs::metadata(&self.path)?.len();
///         Ok(Report::healthy(format!("{bytes} bytes")).set(&SIZE, [], bytes as f64))
///     }
/// }
/// export_plugin! { id: "file-size", probe: FileSize, metrics: [SIZE] }
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
///
/// Neither does a second plugin in the library, whose error names `a_library_holds_one_plugin`:
///
/// ```compile_fail
/// # use conductor_plugin_api::{Context, Failure, Probe, Report, export_plugin};
/// # struct Nothing;
/// # impl Probe for Nothing {
/// #     type Config = ();
/// #     fn create((): (), _: &Context<'_>) -> Result<Self, Failure> { Ok(Self) }
/// #     fn check(&mut self, _: &Context<'_>) -> Result<Report, Failure> { Ok(Report::healthy("")) }
/// # }
/// export_plugin! { probe: Nothing, id: "nothing" }
/// export_plugin! { id: "again", probe: Nothing }
/// ```
#[macro_export]
macro_rules! export_plugin {
    ($($keys:tt)*) => {
        $crate::__plugin_keys! { id [] kind [] name [] needs [] metrics []; $($keys)*, }
    };
}

/// Collects the keys of [`export_plugin!`], in any order.
#[doc(hidden)]
#[macro_export]
macro_rules! __plugin_keys {
    (id [] kind $kind:tt name $name:tt needs $needs:tt metrics $metrics:tt; id: $value:literal, $($rest:tt)*) => {
        $crate::__plugin_keys! { id [$value] kind $kind name $name needs $needs metrics $metrics; $($rest)* }
    };
    (id $id:tt kind [] name $name:tt needs $needs:tt metrics $metrics:tt; probe: $value:ty, $($rest:tt)*) => {
        $crate::__plugin_keys! {
            id $id kind [$crate::__private::Blocking<$value>] name $name needs $needs metrics $metrics; $($rest)*
        }
    };
    (id $id:tt kind [] name $name:tt needs $needs:tt metrics $metrics:tt; async_probe: $value:ty, $($rest:tt)*) => {
        $crate::__plugin_keys! {
            id $id kind [$crate::__asynchronous!($value)] name $name needs $needs metrics $metrics; $($rest)*
        }
    };
    (id $id:tt kind $kind:tt name [] needs $needs:tt metrics $metrics:tt; name: $value:literal, $($rest:tt)*) => {
        $crate::__plugin_keys! { id $id kind $kind name [$value] needs $needs metrics $metrics; $($rest)* }
    };
    (
        id $id:tt kind $kind:tt name $name:tt needs [] metrics $metrics:tt;
        needs: [$($value:literal),* $(,)?], $($rest:tt)*
    ) => {
        $crate::__plugin_keys! { id $id kind $kind name $name needs [[$($value),*]] metrics $metrics; $($rest)* }
    };
    (
        id $id:tt kind $kind:tt name $name:tt needs $needs:tt metrics [];
        metrics: [$($value:path),* $(,)?], $($rest:tt)*
    ) => {
        $crate::__plugin_keys! { id $id kind $kind name $name needs $needs metrics [[$($value),*]]; $($rest)* }
    };
    (
        id [$id:literal] kind [$kind:ty] name [$($name:literal)?] needs [$([$($need:literal),*])?]
        metrics [$([$($metric:path),*])?]; $(,)?
    ) => {
        $crate::__export! { $id, $kind, [$($name,)? $id], [$($($need),*)?], [$($($metric),*)?] }
    };
    (id [] kind $kind:tt name $name:tt needs $needs:tt metrics $metrics:tt; $(,)?) => {
        ::core::compile_error!("export_plugin! lacks `id`, the plugin's name in the host's config, such as id: \"my-db\"");
    };
    (id $id:tt kind [] name $name:tt needs $needs:tt metrics $metrics:tt; $(,)?) => {
        ::core::compile_error!("export_plugin! lacks `probe` or `async_probe`, the type that implements the trait");
    };
    (id $id:tt kind $kind:tt name $name:tt needs $needs:tt metrics $metrics:tt; $key:ident: $($rest:tt)*) => {
        ::core::compile_error!(::core::concat!(
            "export_plugin! does not take `", ::core::stringify!($key), ": …` here: its keys are id: \"…\", probe: TYPE or \
             async_probe: TYPE, name: \"…\", needs: [\"…\"] and metrics: [CONSTANT], each once"
        ));
    };
    (id $id:tt kind $kind:tt name $name:tt needs $needs:tt metrics $metrics:tt; $($rest:tt)*) => {
        ::core::compile_error!(::core::concat!(
            "export_plugin! takes `key: value` pairs, separated by commas; found `", ::core::stringify!($($rest)*), "`"
        ));
    };
}

/// The expansion of [`export_plugin!`] for both kinds of probe; the first name given is the plugin's name.
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($id:literal, $kind:ty, [$name:literal $(, $unused:literal)?], [$($need:literal),*], [$($metric:path),*]) => {
        #[cfg(panic = "abort")]
        ::core::compile_error!(
            "a plugin must be built with panic = \"unwind\": with \"abort\" its first panic would end the host"
        );

        // A second one is an error: "the name `a_library_holds_one_plugin` is defined multiple times".
        #[doc(hidden)]
        #[macro_export]
        macro_rules! a_library_holds_one_plugin {
            () => {};
        }

        #[allow(unsafe_code, reason = "a section of its own and an exported symbol are what a plugin consists of")]
        const _: () = {
            const RECORD: $crate::manifest::Record = $crate::manifest::record(
                $id,
                $name,
                &[$($need),*],
                &$crate::manifest::CrateFacts {
                    version: ::core::env!("CARGO_PKG_VERSION"),
                    description: ::core::env!("CARGO_PKG_DESCRIPTION"),
                    authors: ::core::env!("CARGO_PKG_AUTHORS"),
                    licence: ::core::env!("CARGO_PKG_LICENSE"),
                    panics_unwind: ::core::cfg!(panic = "unwind"),
                },
            );
            const _: () = $crate::metric::check_names(&[$($metric.name()),*]);

            #[cfg(not(any(windows, target_vendor = "apple")))]
            #[used]
            #[unsafe(link_section = ".note.conductor")]
            static MANIFEST: $crate::manifest::ElfNote = $crate::manifest::ElfNote::new(RECORD);

            #[cfg(any(windows, target_vendor = "apple"))]
            #[used]
            #[cfg_attr(windows, unsafe(link_section = ".cndctr"))]
            #[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__cndctr"))]
            static MANIFEST: $crate::manifest::Record = RECORD;

            struct Exported;
            impl $crate::__private::Exported for Exported {
                type Probe = $kind;
                // The manifest's own bytes, so that a copy of the library can be given another id in one place.
                #[cfg(not(any(windows, target_vendor = "apple")))]
                const ID: &'static str = $crate::manifest::id(MANIFEST.record());
                #[cfg(any(windows, target_vendor = "apple"))]
                const ID: &'static str = $crate::manifest::id(&MANIFEST);
                const VERSION: &'static str = ::core::env!("CARGO_PKG_VERSION");

                fn metrics() -> ::std::vec::Vec<$crate::metric::MetricDeclaration> {
                    ::std::vec![$($metric.declaration()),*]
                }
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

    /// Returns the declared metrics.
    fn metrics() -> Vec<MetricDeclaration>;
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
        metrics: metrics::<E>,
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

extern "C" fn metrics<E: Exported>() -> RString {
    // Plain data, which serde_json can always write.
    serde_json::to_string(&E::metrics())
        .unwrap_or_default()
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
            Ok(report) => ROk(report.into_abi(call)),
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

impl Report {
    /// Passes the values of declared metrics to the host, and returns the rest.
    pub(crate) fn into_abi(mut self, call: &AbiCall) -> AbiReport {
        let declared = std::mem::take(&mut self.declared);
        match call.host.functions.set() {
            Some(set) => {
                for DeclaredValue {
                    metric,
                    labels,
                    value,
                    ..
                } in declared
                {
                    let labels: Vec<_> = labels.iter().map(|label| RStr::from_str(label)).collect();
                    let labels = RSlice::from_slice(&labels);
                    set(
                        call.host.plugin,
                        call.call,
                        RStr::from_str(metric),
                        labels,
                        value,
                    );
                }
            }
            // A host of API 1.0 knows measurements only.
            None => self.measurements.extend(
                declared
                    .into_iter()
                    .filter(|declared| declared.labels.is_empty())
                    .map(|declared| (declared.measurement(), declared.value)),
            ),
        }
        AbiReport {
            status: match self.status {
                Status::Healthy => AbiStatus::HEALTHY,
                Status::Degraded => AbiStatus::DEGRADED,
                Status::Unhealthy => AbiStatus::UNHEALTHY,
            },
            message: self.message.into(),
            measurements: self
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

impl DeclaredValue {
    /// Returns the name of the measurement that replaces it on a host of API 1.0.
    fn measurement(&self) -> String {
        match self.unit {
            "" => self.metric.to_owned(),
            unit => format!("{}_{unit}", self.metric),
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
