//! The ABI as text: every type that crosses, from the module's layout on, and the constants and places beside them.
//!
//! All of it comes from the layouts that `abi_stable` compares, so it cannot say anything else than they do; only what
//! no layout holds is read elsewhere: the constants out of the source, the manifest's places out of a record.

use std::collections::BTreeMap;

use abi_stable::{
    StableAbi,
    library::ROOT_MODULE_LOADER_NAME,
    type_layout::{TLData, TLField, TLFunction, TLPrimitive, TypeLayout},
};
use conductor_plugin_api::{
    abi::AbiPluginRef,
    manifest::{self, Manifest},
};

/// All of it: a block for each type, sorted, a line for each field, in order.
pub(crate) fn describe() -> String {
    let mut blocks = BTreeMap::new();
    collect(<AbiPluginRef as StableAbi>::LAYOUT, &mut blocks);
    constants(&mut blocks);
    blocks.insert("manifest".to_owned(), places());
    let blocks = blocks.into_iter();
    blocks
        .map(|(name, lines)| format!("[{name}]\n{}\n", lines.join("\n")))
        .collect::<Vec<_>>()
        .join("\n")
}

/// A type, and the types that it is made of.
fn collect(layout: &'static TypeLayout, blocks: &mut BTreeMap<String, Vec<String>>) {
    let name = name(layout);
    if matches!(layout.data(), TLData::Primitive(_)) {
        // Its name says it all, but for what it points to.
        return parts(layout)
            .into_iter()
            .for_each(|part| collect(part, blocks));
    }
    if blocks.contains_key(&name) {
        return;
    }
    blocks.insert(name, block(layout));
    for part in parts(layout) {
        collect(part, blocks);
    }
}

fn block(layout: &'static TypeLayout) -> Vec<String> {
    let (size, alignment) = (layout.size(), layout.alignment());
    let kind = match layout.data() {
        // Grows at its end, so its size is not among what is frozen.
        TLData::PrefixType(prefix) => format!(
            "prefix type, the first {} fields fixed",
            prefix.first_suffix_field
        ),
        TLData::Enum(variants) => {
            let names: Vec<_> = variants.variant_names_iter().map(str::to_owned).collect();
            format!("enum of {}, {size} bytes", names.join(", "))
        }
        TLData::Struct { .. } => format!("struct, {size} bytes"),
        TLData::Union { .. } => format!("union, {size} bytes"),
        TLData::Opaque | TLData::Primitive(_) => format!("opaque, {size} bytes"),
    };
    let nonzero = if layout.is_nonzero() {
        ", never zero"
    } else {
        ""
    };
    let mut lines = vec![format!(
        "{kind}, aligned to {alignment}, repr {:?}{nonzero}; of {}",
        layout.repr_attr(),
        layout.package()
    )];
    let placed = !matches!(layout.data(), TLData::Enum(_) | TLData::Union { .. });
    let fixed = match layout.data() {
        TLData::PrefixType(prefix) => prefix.first_suffix_field.into(),
        _ => usize::MAX,
    };
    let (mut end, mut counted) = (0_usize, 0);
    for (nth, field) in fields(layout).into_iter().enumerate() {
        let start = end.next_multiple_of(field.layout().alignment());
        end = start + field.layout().size();
        if nth < fixed {
            counted = end;
        }
        let place = if placed {
            format!("{start}: ")
        } else {
            String::new()
        };
        lines.push(format!("{place}{}", self::field(&field)));
    }
    // The places above are where the compiler puts them, or the sum would be another.
    assert!(
        !placed || counted == 0 || counted.next_multiple_of(alignment) == size,
        "{}: its fields end at {counted}, it has {size} bytes",
        name(layout)
    );
    let phantoms = layout.phantom_fields();
    lines.extend(phantoms.iter().map(|f| format!("beside: {}", field(&f))));
    lines
}

fn field(field: &TLField) -> String {
    let functions: Vec<_> = field.function_range().iter().map(function).collect();
    let kind = match &functions[..] {
        [] => name(field.layout()),
        _ => functions.join("; "),
    };
    format!(
        "{}: {kind}{}",
        field.name(),
        lifetimes(field.lifetime_indices().as_slice())
    )
}

fn function(function: TLFunction) -> String {
    let names = function.param_names.as_str().split([',', ';']);
    let parameters: Vec<_> = names
        .zip(function.param_type_layouts.iter())
        .map(|(parameter, layout)| match parameter {
            "" => name(layout()),
            _ => format!("{parameter}: {}", name(layout())),
        })
        .collect();
    let result = function
        .return_type_layout()
        .map(|layout| format!(" -> {}", name(layout())));
    format!(
        "{}fn({}){}{}",
        if function.fn_qualifs.is_unsafe() {
            "unsafe "
        } else {
            ""
        },
        parameters.join(", "),
        result.unwrap_or_default(),
        lifetimes(function.paramret_lifetime_indices.as_slice())
    )
}

/// Which lifetimes stand in a field or a function, in their order; nothing where there are none.
fn lifetimes(pairs: &[impl std::fmt::Debug]) -> String {
    if pairs.is_empty() {
        return String::new();
    }
    let text = format!("{pairs:?}").replace(", NONE", "");
    format!(" (lifetimes {})", text.replace(['[', ']'], ""))
}

fn parts(layout: &'static TypeLayout) -> Vec<&'static TypeLayout> {
    let mut parts = Vec::new();
    for field in fields(layout)
        .into_iter()
        .chain(layout.phantom_fields().iter())
    {
        parts.push(field.layout());
        for function in field.function_range().iter() {
            parts.extend(function.param_type_layouts.iter().map(|layout| layout()));
            parts.extend(function.return_type_layout().map(|layout| layout()));
        }
    }
    parts.extend(
        layout
            .generics()
            .type_params()
            .iter()
            .map(|layout| layout()),
    );
    parts
}

fn fields(layout: &'static TypeLayout) -> Vec<TLField> {
    layout.get_fields().map(|f| f.to_vec()).unwrap_or_default()
}

/// The name with what it is of; `abi_stable` has the same one for all vectors.
fn name(layout: &'static TypeLayout) -> String {
    let pointee = || {
        let mut all = fields(layout)
            .into_iter()
            .chain(layout.phantom_fields().iter());
        all.next().map(|f| name(f.layout())).unwrap_or_default()
    };
    match (layout.data(), layout.name()) {
        (TLData::Primitive(TLPrimitive::SharedRef), _) => format!("&{}", pointee()),
        (TLData::Primitive(TLPrimitive::MutRef), _) => format!("&mut {}", pointee()),
        (TLData::Primitive(TLPrimitive::ConstPtr), _) => format!("*const {}", pointee()),
        (TLData::Primitive(TLPrimitive::MutPtr), _) => format!("*mut {}", pointee()),
        (TLData::Primitive(TLPrimitive::Array), _) => layout.full_type().to_string(),
        (_, "NonNull") => pointee().replace("*const ", "NonNull "),
        (_, name @ ("PhantomData" | "PrefixRef" | "ManuallyDrop")) => {
            format!("{name}<{}>", pointee())
        }
        (_, name @ ("RVec" | "RSlice" | "RBox")) => {
            let pointer = pointee();
            let pointee = pointer.split_once(' ').map_or("", |(_, pointee)| pointee);
            format!("{name}<{pointee}>")
        }
        (_, "RResult") => {
            let parts: Vec<_> = fields(layout).iter().map(|f| name(f.layout())).collect();
            format!("RResult<{}>", parts.join(", "))
        }
        (_, name) => name.to_owned(),
    }
}

/// The values of the open sets, as the source has them.
fn constants(blocks: &mut BTreeMap<String, Vec<String>>) {
    let source = include_str!("../../src/abi.rs");
    for text in source.split("\nimpl Abi").skip(1) {
        let (set, text) = text.split_once(" {\n").unwrap();
        let body = text.split("\n}").next().unwrap();
        let lines = body
            .lines()
            .filter_map(|line| line.trim().strip_prefix("pub const "));
        let lines: Vec<_> = lines.map(|line| line.replace(": Self", "")).collect();
        if !lines.is_empty() {
            blocks.insert(format!("values of Abi{set}"), lines);
        }
    }
}

/// Where the host finds the manifest, and what in it.
fn places() -> Vec<String> {
    let record = manifest::record("the-id", "7.7.7", "The name", true, &["network"]);
    let place = |text: &str| {
        let mut windows = record.windows(text.len());
        windows
            .position(|window| window == text.as_bytes())
            .unwrap()
    };
    vec![
        format!("begins with {}", record[..8].escape_ascii()),
        format!("has at least {} bytes", Manifest::SIZE),
        format!("ELF section {}", Manifest::ELF_SECTION),
        format!("ELF owner {}", Manifest::ELF_OWNER),
        format!("PE section {}", Manifest::PE_SECTION),
        format!("Mach-O section {}", Manifest::MACHO_SECTION),
        "size at 8, API version at 12, 14 and 16, door at 18, flags at 19".to_owned(),
        format!("id at {}", place("the-id")),
        format!("version at {}", place("7.7.7")),
        format!("name at {}", place("The name")),
        format!("symbol of the module {ROOT_MODULE_LOADER_NAME}"),
        format!("needs at {}", place("network")),
    ]
}
