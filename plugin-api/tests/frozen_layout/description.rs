//! The ABI as text: every type that crosses, from the module's layout on, plus the constants and the manifest's
//! offsets.
//!
//! The text comes from the layouts that `abi_stable` compares, so it cannot differ from them; only the parts that no
//! layout contains are read elsewhere: the constants from the source, the manifest's offsets from a record.

use std::collections::BTreeMap;

use abi_stable::{
    StableAbi,
    library::ROOT_MODULE_LOADER_NAME,
    type_layout::{TLData, TLField, TLFunction, TLPrimitive, TypeLayout},
};
use conductor_plugin_api::{
    abi::AbiPluginRef,
    manifest::{self, CrateFacts, Manifest},
};

/// Describes the whole ABI: a block for each type, sorted, a line for each field, in order.
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

/// Collects a type and the types that it is made of.
fn collect(layout: &'static TypeLayout, blocks: &mut BTreeMap<String, Vec<String>>) {
    let name = name(layout);
    if matches!(layout.data(), TLData::Primitive(_)) {
        // Its name is a full description, except for its target.
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
        // It grows at its end, so its size is not frozen.
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
    // The offsets above match the compiler's, or the sum would differ.
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

/// Returns the lifetimes in a field or a function, in order; empty if there are none.
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

/// Returns the name with its parameters; `abi_stable` uses one name for all vectors.
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

/// Collects the values of the open sets from the source.
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

/// Returns the location of the manifest and of its fields.
fn places() -> Vec<String> {
    let facts = CrateFacts {
        version: "7.7.7",
        description: "The description",
        authors: "The author",
        licence: "The licence",
        panics_unwind: true,
    };
    let record = manifest::record("the-id", "The name", &["network"], &facts);
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
        format!("description at {}", place("The description")),
        format!("author at {}", place("The author")),
        format!("licence at {}", place("The licence")),
    ]
}
